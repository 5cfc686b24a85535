//! The demo's stage: one temporary folder and whatever processes run in it. Struck, it leaves nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::super::Out;
use crate::admin;

/// Where the demo plays.
pub(super) struct Stage {
    folder: TempDir,
    /// The folder of this executable comes first, so that `sallyport` is the one that runs the demo.
    search: std::ffi::OsString,
}

impl Stage {
    /// Makes the folder. From now on, what the demo's commands leave running becomes this process's child.
    pub(super) fn set() -> anyhow::Result<Self> {
        prctl::set_child_subreaper(true).context("this system cannot keep track of the demo's processes")?;
        // A device's file is a secret: what the demo's commands write is for its owner alone.
        umask(Mode::from_bits_truncate(0o077));
        let folder = tempfile::Builder::new().prefix("sallyport-demo-").tempdir()?;
        for inside in ["run", "bin"] {
            std::fs::create_dir(folder.path().join(inside))?;
        }
        // A link, because the executable may have been given another name.
        std::os::unix::fs::symlink(std::env::current_exe()?, folder.path().join("bin/sallyport"))?;
        let own = std::iter::once(folder.path().join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let search = std::env::join_paths(own.chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]))?;
        Ok(Self { folder, search })
    }

    /// A path in the folder, as text for a command.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Puts a file in place.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.path(name), text).with_context(|| format!("{name} could not be written"))
    }

    /// Reads a file.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.path(name)).with_context(|| format!("{name} could not be read"))
    }

    /// A UDP port that nobody has at the moment.
    pub(super) fn free_udp_port(&self) -> anyhow::Result<u16> {
        Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
    }

    /// Shows a command, and runs it with its output on the demo's own.
    ///
    /// # Errors
    /// When it fails.
    pub(super) async fn show(&self, out: &mut Out, words: &str) -> anyhow::Result<()> {
        let status = self.perform(out, words).await?;
        anyhow::ensure!(status.success(), "`{words}` failed ({status}); the gateway said:\n{}", self.gateway_log());
        Ok(())
    }

    /// Shows a command whose point is that it fails.
    ///
    /// # Errors
    /// When it succeeds.
    pub(super) async fn show_failing(&self, out: &mut Out, words: &str) -> anyhow::Result<()> {
        let status = self.perform(out, words).await?;
        anyhow::ensure!(!status.success(), "`{words}` succeeded, and should not have");
        Ok(())
    }

    async fn perform(&self, out: &mut Out, words: &str) -> anyhow::Result<ExitStatus> {
        out.line(&format!("\n$ {words}"))?;
        Ok(self.command("sh").arg("-c").arg(words).status().await?)
    }

    /// A command in the folder. Its `sallyport` knows the demo's configuration and device, and keeps to the folder.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.env("PATH", &self.search).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("SALLYPORT_CONFIG", self.path("sallyport.toml")).env("SALLYPORT_DEVICE", self.path("laptop.conf"));
        command.env_remove("SALLYPORT_STATE").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Starts a stock sshd of this user's on a free port, and waits until it listens.
    pub(super) async fn start_sshd(&self) -> anyhow::Result<SocketAddr> {
        let made = self.command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", "host_key"]).status().await;
        let made = made.context("ssh-keygen could not be run: install OpenSSH's client and server")?;
        anyhow::ensure!(made.success(), "ssh-keygen failed ({made})");
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let at = self.folder.path().display();
        self.write(
            "sshd_config",
            &format!(
                "ListenAddress {address}\nHostKey {at}/host_key\nTrustedUserCAKeys {at}/ca.pub\nAuthorizedKeysFile none\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin prohibit-password\nPrintMotd no\nPrintLastLog no\nSubsystem sftp internal-sftp\n"
            ),
        )?;
        let log = std::fs::File::create(self.path("sshd.log"))?;
        let mut sshd = self.command("sh");
        sshd.arg("-c").arg(if Uid::current().is_root() { SSHD_AS_ROOT } else { SSHD });
        sshd.stdout(log.try_clone()?).stderr(log).kill_on_drop(false);
        let mut sshd = sshd.spawn()?;
        self.until("sshd listens", || {
            if let Some(status) = sshd.try_wait()? {
                anyhow::bail!("sshd ended ({status}): {}", self.read("sshd.log").unwrap_or_default());
            }
            Ok(self.read("sshd.log")?.contains("Server listening"))
        })
        .await?;
        Ok(address)
    }

    /// Starts the gateway, and waits until it answers.
    pub(super) async fn start_gateway(&self, out: &mut Out) -> anyhow::Result<()> {
        out.line("\n$ sallyport up &")?;
        let log = std::fs::File::create(self.path("gateway.log"))?;
        let mut gateway = self.command("sallyport");
        gateway.arg("up").stdout(log.try_clone()?).stderr(log).kill_on_drop(false);
        let mut gateway = gateway.spawn()?;
        let state = self.folder.path().join("state");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = admin::ask_status(&state).await {
                return out.line(&format!("the gateway is up, WireGuard on {}, by {}", status.listen, status.backend));
            }
            if let Some(status) = gateway.try_wait()? {
                anyhow::bail!("the gateway ended ({status}):\n{}", self.gateway_log());
            }
            anyhow::ensure!(Instant::now() < deadline, "the gateway does not answer:\n{}", self.gateway_log());
            sleep(STEP).await;
        }
    }

    fn gateway_log(&self) -> String {
        self.read("gateway.log").unwrap_or_default()
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition()? {
            anyhow::ensure!(Instant::now() < deadline, "waited in vain until {what}");
            sleep(STEP).await;
        }
        Ok(())
    }

    /// The id of the newest session that was not denied.
    pub(super) async fn last_session_that_was_allowed(&self) -> anyhow::Result<String> {
        let mut ls = self.command("sallyport");
        ls.args(["sessions", "ls", "--outcome", "completed", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&ls.output().await?.stdout)?;
        let id = listed.pointer("/0/id").and_then(serde_json::Value::as_str);
        Ok(id.context("the list of sessions is empty")?.to_owned())
    }

    /// Whether a command can be put into the tailnet here, which takes a namespace.
    pub(super) async fn allows_namespaces(&self) -> anyhow::Result<bool> {
        let mut shell = self.command("sallyport");
        shell.args(["shell", "--", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(shell.status().await?.success())
    }

    /// Whether this user's sshd can hand out terminals. Without root it cannot give one to the group `tty`, so they have
    /// to be that group's from the start, as the usual mount of /dev/pts makes them.
    pub(super) fn sshd_has_terminals(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let belong_to_tty = |line: &str| line.contains(" devpts ") && line.contains("gid=");
        Uid::current().is_root() || mounts.lines().any(belong_to_tty)
    }

    /// The file of a session's recording that holds what was printed.
    pub(super) fn output_of(&self, id: &str) -> anyhow::Result<String> {
        let days = std::fs::read_dir(self.folder.path().join("state/recordings"))?;
        let folders: Vec<PathBuf> = days.flatten().map(|day| day.path().join(id)).collect();
        let files = folders.iter().flat_map(|folder| OUTPUTS.map(|name| folder.join(name)));
        let file = files.into_iter().find(|path| path.exists());
        let file = file.with_context(|| format!("the recording of {id} holds no output"))?;
        Ok(file.strip_prefix(self.folder.path()).unwrap_or(&file).display().to_string())
    }

    /// Ends everything that was started, and removes the folder.
    pub(super) async fn strike(self) {
        // Killing a process hands its children to us: until there are none.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let children = children();
            if children.is_empty() || Instant::now() > deadline {
                break;
            }
            for child in children {
                let _ended_already = kill(child, Signal::SIGKILL);
                let _not_yet = waitpid(child, Some(WaitPidFlag::WNOHANG));
            }
            sleep(STEP).await;
        }
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the demo's folder could not be removed");
        }
    }
}

/// The processes whose parent is this one (proc(5): the fourth field of `stat`, the name before it in parentheses).
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let is_child = |folder: &Path| {
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).is_some_and(|parent| parent == own)
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| is_child(&entry.path()))
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok().map(Pid::from_raw))
        .collect()
}

/// sshd wants to be called by its whole path.
const SSHD: &str = "exec $(command -v sshd) -D -e -f sshd_config";

/// The same without a trace in the machine's /run and /var/log, where root's sshd keeps its folder and log of logins; in a
/// container that allows no mounts it keeps them in the container's own.
const SSHD_AS_ROOT: &str = "if unshare --mount true 2> /dev/null; then \
                            exec unshare --mount sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && \
                            mount -t tmpfs tmpfs /var/log && touch /var/log/lastlog /var/log/wtmp && \
                            exec $(command -v sshd) -D -e -f sshd_config'; \
                            else mkdir -p /run/sshd && exec $(command -v sshd) -D -e -f sshd_config; fi";

/// What a recording keeps of a terminal, and of a command without one.
const OUTPUTS: [&str; 2] = ["terminal-0.cast.zst", "channel-0.stdout.zst"];

const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);
