//! A throw-away stock sshd: host keys of its own, certificates of the gateway's CA accepted, nothing of ours on it.

use crate::{Namespace, Process, run, wait_until};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running sshd.
#[derive(Debug)]
pub struct Sshd {
    folder: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Sshd {
    /// Starts an sshd on `address` inside `namespace`, with its files in `folder`, which is everybody's home too: what this
    /// machine's own shells begin with is none of the tests' business. `extra` is more of sshd_config.
    #[must_use]
    pub fn start(namespace: &Namespace, folder: &Path, address: SocketAddr, extra: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        new_host_key(folder);
        std::fs::write(folder.join("ca.pub"), "").unwrap();
        let at = folder.display();
        let config = format!(
            "ListenAddress {address}\nHostKey {at}/host_key\nTrustedUserCAKeys {at}/ca.pub\nPidFile none\n\
             AuthorizedKeysFile {at}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPrintMotd no\n\
             Subsystem sftp /usr/lib/openssh/sftp-server\nAcceptEnv *\nMaxStartups 1000\nMaxSessions 200\n\
             LogLevel VERBOSE\nSetEnv HOME={at}\n{extra}\n"
        );
        std::fs::write(folder.join("sshd_config"), config).unwrap();
        // sshd's own separation of privileges wants this empty directory, which Debian makes at boot.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let process = launch(namespace, folder);
        Self { folder: folder.to_owned(), address, process }
    }

    /// Trusts an authority's certificates: `ca` is the line that `sallyport target ca` prints.
    pub fn trust(&self, ca: &str) {
        std::fs::write(self.folder.join("ca.pub"), ca).unwrap();
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its public host key as it stands in known_hosts: `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn host_key(&self) -> String {
        let line = std::fs::read_to_string(self.folder.join("host_key.pub")).unwrap();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.printed()
    }

    /// Restarts it with another host key, as a machine that took over the address would have.
    pub fn change_host_key(&mut self, namespace: &Namespace) {
        self.stop();
        std::fs::remove_file(self.folder.join("host_key")).unwrap();
        new_host_key(&self.folder);
        self.process = launch(namespace, &self.folder);
    }

    /// Whether a process with exactly these arguments, joined by spaces, runs on this machine.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    #[must_use]
    pub fn runs(&self, command_line: &str) -> bool {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ") == command_line
        })
    }

    /// Kills the processes that serve open connections; the listener stays.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    pub fn kill_sessions(&self) {
        let listener = self.process.id();
        let mut serving = vec![listener];
        // The monitor is a child of the listener, and the process that holds the socket is the monitor's.
        for _generation in 0..2 {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let after_name = stat.rsplit(')').next().unwrap_or_default();
                let parent = after_name.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
                let id = entry.file_name().to_string_lossy().parse().unwrap_or_default();
                if stat.contains("(sshd")
                    && parent.is_some_and(|parent| serving.contains(&parent))
                    && !serving.contains(&id)
                {
                    serving.push(id);
                }
            }
        }
        for id in serving.into_iter().skip(1) {
            let _ended_already = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::SIGKILL);
        }
    }

    /// Stops listening; sessions that are open go on.
    pub fn stop(&mut self) {
        self.process.signal(nix::sys::signal::SIGTERM);
        self.process.wait();
    }
}

fn new_host_key(folder: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join("host_key"));
    let _made = run(keygen, b"").ok();
}

fn launch(namespace: &Namespace, folder: &Path) -> Process {
    let log = folder.join("log");
    let _earlier = std::fs::remove_file(&log);
    let mut command = namespace.command("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    let process = Process::spawn(command, &log);
    wait_until("sshd listens", || process.printed().contains("Server listening"));
    process
}
