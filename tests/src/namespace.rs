//! A network namespace of `ip netns`, with the files that `ip netns exec` lays over `/etc`: own accounts, own resolver.

use crate::process::cpu_seconds;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace. Dropping it ends whatever still runs inside and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace with only its loopback.
    ///
    /// # Panics
    /// When namespaces cannot be made, which takes root.
    #[must_use]
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_abandoned);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("{PREFIX}{}-{number}", std::process::id()) };
        ip(&["netns", "add", &namespace.name]);
        std::fs::create_dir_all(namespace.etc()).unwrap();
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// A short name that no other interface of this machine's tests has.
    #[must_use]
    pub fn interface(&self) -> String {
        self.name.replace('-', "w")
    }

    /// Joins two namespaces by a cable: `here` and `there` are the ends' names and addresses with prefix length.
    pub fn join(&self, here: (&str, &[&str]), other: &Self, there: (&str, &[&str])) {
        ip(&["link", "add", here.0, "netns", &self.name, "type", "veth", "peer", there.0, "netns", &other.name]);
        for (namespace, (link, addresses)) in [(self, here), (other, there)] {
            for address in addresses {
                namespace.ip(&["address", "add", address, "dev", link, "nodad"]);
            }
            namespace.ip(&["link", "set", link, "up"]);
        }
    }

    /// Runs `ip` inside.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Lays a file over `/etc/<file>` for every command run inside from now on.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn lay_over_etc(&self, file: &str, text: &str) {
        std::fs::write(self.etc().join(file), text).unwrap();
    }

    /// Adds login accounts that exist inside this namespace only, each with a home under `homes`.
    ///
    /// # Panics
    /// When this machine's accounts cannot be read.
    pub fn add_accounts(&self, homes: &Path, accounts: &[(&str, u32)]) {
        // The machine may have accounts of these names itself.
        let ours = |line: &&str| accounts.iter().any(|(name, _)| line.split(':').next() == Some(name));
        let read = |file: &str| {
            let text = std::fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            text.lines().filter(|line| !ours(line)).map(|line| format!("{line}\n")).collect::<String>()
        };
        let (mut passwd, mut shadow, mut group) = (read("passwd"), read("shadow"), read("group"));
        for (name, id) in accounts {
            let home = homes.join(name);
            std::fs::create_dir_all(&home).unwrap();
            std::os::unix::fs::chown(&home, Some(*id), Some(*id)).unwrap();
            passwd.push_str(&format!("{name}:x:{id}:{id}::{}:/bin/bash\n", home.display()));
            shadow.push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
            group.push_str(&format!("{name}:x:{id}:\n"));
        }
        self.lay_over_etc("passwd", &passwd);
        self.lay_over_etc("shadow", &shadow);
        self.lay_over_etc("group", &group);
    }

    /// Runs `work` on a thread inside this namespace: sockets that it opens belong here.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let handle = std::fs::File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(handle, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Does `work` inside this namespace and comes back: commands that it starts run here, with no `ip` around them.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or `work` panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let handle = std::fs::File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        let inside = || {
            nix::sched::setns(handle, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    /// CPU seconds that the processes inside have used so far, those that ended not included.
    ///
    /// # Panics
    /// When `/proc` does not look as proc(5) says.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let output = Command::new("ip").args(["netns", "pids", &self.name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(cpu_seconds).sum()
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what an earlier run left when it was killed: the namespaces whose maker is gone.
fn remove_abandoned() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(maker, _)| maker);
        if maker.is_some_and(|maker| maker.parse::<u32>().is_ok() && !Path::new("/proc").join(maker).exists()) {
            remove(&name);
        }
    }
}

/// Ends every process inside, then removes the namespace and its files.
fn remove(name: &str) {
    let inside = Command::new("ip").args(["netns", "pids", name]).output().map(|output| output.stdout);
    for pid in String::from_utf8_lossy(&inside.unwrap_or_default()).split_whitespace() {
        if let Ok(pid) = pid.parse() {
            let _ended_already = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
    }
    let _gone_already = Command::new("ip").args(["netns", "delete", name]).output();
    let _gone_already = std::fs::remove_dir_all(Path::new("/etc/netns").join(name));
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip, of iproute2, is installed");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}

/// Marks the namespaces that these tests made; the maker's process id follows.
const PREFIX: &str = "spt";
static NUMBER: AtomicU32 = AtomicU32::new(0);
