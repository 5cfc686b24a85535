//! Why a namespace or a device could not be had, and what to change.

use std::{fmt, fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// One way that was tried and did not work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// The step that failed, as `open /dev/net/tun`.
    pub step: String,
    /// The system's number for why.
    pub errno: i32,
    /// What may be changed about it, in a sentence.
    pub advice: Option<String>,
}

impl Attempt {
    /// Looks at this machine for what is in the way.
    pub(super) fn new(failure: &Failure) -> Self {
        let errno = failure.source.raw_os_error().unwrap_or(nix::libc::EIO);
        Self { step: failure.step.clone(), errno, advice: advice(&failure.step, errno) }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.step, io::Error::from_raw_os_error(self.errno))?;
        match &self.advice {
            Some(advice) => write!(formatter, " ({advice})"),
            None => Ok(()),
        }
    }
}

/// A step of the set-up that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(super) struct Failure {
    pub(super) step: String,
    pub(super) source: io::Error,
}

/// Says which step an error belongs to.
pub(super) trait Step<T> {
    fn step(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step.into(), source: error.into() })
    }
}

fn advice(step: &str, errno: i32) -> Option<String> {
    let denied = matches!(errno, nix::libc::EPERM | nix::libc::EACCES | nix::libc::ENOSPC | nix::libc::ENOSYS);
    let missing = matches!(errno, nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::ENXIO | nix::libc::EOPNOTSUPP);
    if step.contains("/dev/net/tun") && (denied || missing) {
        return Some("load the module with `modprobe tun`; in a container pass `--device /dev/net/tun`".to_owned());
    }
    if missing && step.contains("veth") {
        return Some("load the module with `modprobe veth`".to_owned());
    }
    denied.then(restriction)
}

/// What restricts namespaces here, as far as one can see.
fn restriction() -> String {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor restricts user namespaces: run as root, give the executable an AppArmor profile with `userns,`, \
                or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            .to_owned();
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "this kernel keeps user namespaces to root: run as root, or `sysctl kernel.unprivileged_userns_clone=1`"
            .to_owned();
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "no user namespace may be made: `sysctl user.max_user_namespaces=1024`".to_owned();
    }
    if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        return "this is a container: its seccomp filter forbids namespaces; run it with `--cap-add NET_ADMIN \
                --cap-add SYS_ADMIN`, or with a seccomp profile that allows unshare"
            .to_owned();
    }
    if std::env::var_os("INVOCATION_ID").is_some() {
        return "this is a systemd service: set `RestrictNamespaces=no` (or `user net`), and `PrivateUsers=no`"
            .to_owned();
    }
    "something forbids namespaces here, such as a seccomp filter: run as root or outside it".to_owned()
}
