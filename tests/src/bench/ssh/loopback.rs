//! One sshd and one gateway on the loopback of a namespace, and the ways to a shell there.

use e2e::{Namespace, Process, Sshd, run, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// How a client gets to sshd.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Direct,
    /// Through a relay that only copies.
    Relayed,
    Through,
}

/// A stock sshd and the gateway beside it.
pub(super) struct Loopback {
    // Dropped in this order: the gateway before the machine that it runs on, the folder last.
    gateway: Process,
    _relay: Process,
    _sshd: Sshd,
    machine: Namespace,
    cipher: Option<&'static str>,
    folder: TempDir,
}

impl Loopback {
    /// With this cipher alone on both legs, and everything recorded.
    pub(super) fn new(cipher: &'static str) -> Self {
        Self::start(Some(cipher), "")
    }

    /// With the ciphers that client and server choose by themselves.
    pub(super) fn as_it_comes() -> Self {
        Self::start(None, "")
    }

    /// With nothing recorded but that there was a session.
    pub(super) fn unrecorded(cipher: &'static str) -> Self {
        let rule = r#", "app": { "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {}, "recording": "off" }] }"#;
        Self::start(Some(cipher), rule)
    }

    fn start(cipher: Option<&'static str>, rule: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("sallyport-bench-").tempdir().unwrap();
        let at = folder.path();
        // An account of the namespace's own: the start-up files of the machine's are not what is measured.
        std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let machine = Namespace::new();
        machine.add_accounts(&at.join("home"), &[("ubuntu", 20001), ("crowd", 20002)]);
        let ciphers = cipher.map_or_else(String::new, |cipher| format!("Ciphers {cipher}\n"));
        let settings = format!("{ciphers}KexAlgorithms {EXCHANGE}\nPrintLastLog no\nLogLevel INFO");
        let sshd = Sshd::start(&machine, &at.join("sshd"), ([127, 0, 0, 1], 22).into(), &settings);
        let target = format!(
            "[[target]]\nname = \"web1\"\ntags = [\"tag:prod\"]\nssh = {{ address = \"127.0.0.1:22\", host_key = \"{}\" }}\n",
            sshd.host_key()
        );
        std::fs::write(at.join("target.toml"), target).unwrap();
        std::fs::write(at.join("policy"), POLICY.replace("RULE", rule)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve-ssh").arg(at).arg(PORT);
        let gateway = machine.within(|| Process::spawn(command, &at.join("gateway.log")));
        wait_until("the gateway listens", || gateway.printed().contains("listening"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["serve-relay", RELAY, "22"]);
        let relay = machine.within(|| Process::spawn(command, &at.join("relay.log")));
        let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
        sshd.trust(&read("user_ca"));
        let known = format!("web1 {}\n@cert-authority web1 {}\n", sshd.host_key(), read("host_ca"));
        std::fs::write(at.join("known_hosts"), known).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at.join("key"));
        let _made = run(keygen, b"").ok();
        std::fs::copy(at.join("key.pub"), at.join("sshd/authorized_keys")).unwrap();
        Self { gateway, _relay: relay, _sshd: sshd, machine, cipher, folder }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn gateway(&self) -> &Process {
        &self.gateway
    }

    /// `ssh web1` on this way; to be run inside.
    pub(super) fn ssh(&self, way: Way) -> Command {
        self.ssh_as("ubuntu", way)
    }

    /// The same as this account.
    pub(super) fn ssh_as(&self, account: &str, way: Way) -> Command {
        let at = self.folder().display();
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-q", "-o", "BatchMode=yes", "-o", "HostKeyAlias=web1", "-l", account]);
        command.arg("-o").arg(format!("UserKnownHostsFile={at}/known_hosts"));
        command.arg("-o").arg(format!("KexAlgorithms={EXCHANGE}"));
        command.args(self.cipher.into_iter().flat_map(|cipher| ["-c", cipher]));
        match way {
            Way::Direct => command.arg("-i").arg(self.folder().join("key")).args(["-p", "22"]),
            Way::Relayed => command.arg("-i").arg(self.folder().join("key")).args(["-p", RELAY]),
            Way::Through => command.args(["-o", "IdentityFile=none", "-p", PORT]),
        };
        command.arg("127.0.0.1").env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        command
    }

    /// Does `work` where the commands of [`Self::ssh`] have their loopback.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.machine.within(work)
    }

    /// Seconds from the command's start to its end, which must be a success.
    pub(super) fn seconds(&self, mut command: Command) -> f64 {
        self.within(|| {
            let begun = Instant::now();
            let status = command.stdout(Stdio::null()).status().unwrap();
            let took = begun.elapsed().as_secs_f64();
            assert!(status.success(), "{command:?}: {status}; the gateway: {}", self.gateway.printed());
            took
        })
    }

    /// Waits until no session's recording is open any more, and removes them all.
    pub(super) fn settle(&self) {
        let recordings = self.folder().join("recordings");
        wait_until("every recording is sealed", || manifests(&recordings).iter().all(|file| is_sealed(file)));
        for day in std::fs::read_dir(&recordings).unwrap().flatten() {
            std::fs::remove_dir_all(day.path()).unwrap();
        }
    }

    /// Recordings of terminals that reached the disk.
    pub(super) fn terminals(&self) -> usize {
        let manifests = manifests(&self.folder().join("recordings"));
        manifests.iter().filter(|file| file.with_file_name("terminal-0.cast.zst").exists()).count()
    }
}

fn manifests(recordings: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    list(recordings).flat_map(|day| list(&day).collect::<Vec<_>>()).map(|folder| folder.join("manifest.json")).collect()
}

fn is_sealed(manifest: &Path) -> bool {
    let text = std::fs::read(manifest).unwrap_or_default();
    serde_json::from_slice(&text).is_ok_and(|manifest: serde_json::Value| manifest["state"] == "sealed")
}

/// The one key exchange of every connection: the best that OpenSSH 9.2 and the gateway both know.
const EXCHANGE: &str = "curve25519-sha256";
/// Where the gateway listens, and the relay.
const PORT: &str = "2222";
const RELAY: &str = "2223";
const POLICY: &str = r#"{
  "tagOwners": { "tag:prod": ["alice@example.com"] },
  "grants": [{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"]RULE }],
  "ssh": [{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["ubuntu", "crowd"] }],
}"#;
