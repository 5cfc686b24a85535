//! Moving the helper into namespaces of its own.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

use super::advice::{Failure, Step};

/// Which namespaces were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// A network namespace alone: we were allowed to.
    Network,
    /// A user namespace, which owns the network namespace.
    UserAndNetwork,
}

/// Moves this process, which has a single thread, into a new network namespace.
///
/// In a user namespace it keeps its own numbers: whoever owns the outside of it stays who they are inside.
pub(super) fn enter() -> Result<Entered, Failure> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => return Ok(Entered::Network),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(error).step("make a network namespace"),
    }
    let (user, group) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).step("make a user and a network namespace")?;
    // Without this, an unprivileged process may not map groups (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").step("write /proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1\n")).step("write /proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1\n")).step("write /proc/self/gid_map")?;
    Ok(Entered::UserAndNetwork)
}
