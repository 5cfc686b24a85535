//! Entering the tunnel's namespaces, and having names resolve there.
//!
//! The resolver's files are laid over those of /etc by bind mounts in a mount namespace of the process's own, so nobody
//! else sees them. glibc and musl read resolv.conf alone once nsswitch.conf says `files dns` and nscd is out of reach.

use std::fs;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::place::Place;
use super::{CallerError, DeviceFile};

/// Moves this process, which has a single thread.
pub(super) fn enter(network: &OwnedFd, user: Option<&OwnedFd>, place: &Place) -> Result<(), CallerError> {
    if let Some(user) = user {
        setns(user, CloneFlags::CLONE_NEWUSER).map_err(step("join its user namespace"))?;
    }
    setns(network, CloneFlags::CLONE_NEWNET).map_err(step("join its network namespace"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace"))?;
    let nothing: Option<&str> = None;
    // What we mount must not show outside; what is mounted outside may show here.
    mount(nothing, "/", nothing, MsFlags::MS_SLAVE | MsFlags::MS_REC, nothing)
        .map_err(step("keep mounts to ourselves"))?;
    if !Path::new(RESOLV_CONF).exists() {
        let missing = "it is missing, or a link to nowhere: create an empty one for the tailnet's to lie over";
        return Err(CallerError::Enter { step: RESOLV_CONF.to_owned(), cause: io::Error::other(missing) });
    }
    lay_over(&place.resolv_conf(), RESOLV_CONF)?;
    if Path::new(NSSWITCH).exists() {
        lay_over(&place.nsswitch(), NSSWITCH)?;
    }
    for socket in NAME_SERVICES.into_iter().filter(|socket| Path::new(socket).exists()) {
        lay_over(&place.empty(), socket)?;
    }
    Ok(())
}

fn lay_over(source: &Path, target: &str) -> Result<(), CallerError> {
    let nothing: Option<&str> = None;
    mount(Some(source), target, nothing, MsFlags::MS_BIND, nothing).map_err(step(&format!("mount over {target}")))
}

/// Leaves the socket open for whatever this process becomes, out of the way of numbers that shell scripts use.
pub(super) fn keep_open(socket: OwnedFd) -> Result<(), CallerError> {
    fcntl(&socket, FcntlArg::F_DUPFD(HIGH)).map_err(step("keep the tunnel's socket"))?;
    Ok(())
}

/// Writes the files that are laid over those of /etc.
pub(super) fn write_files(file: &DeviceFile, place: &Place) -> Result<(), CallerError> {
    place.write(&place.resolv_conf(), &resolv_conf(file))?;
    place.write(&place.nsswitch(), &nsswitch(&fs::read_to_string(NSSWITCH).unwrap_or_default()))?;
    place.write(&place.empty(), "")
}

fn resolv_conf(file: &DeviceFile) -> String {
    let servers = file.dns.iter().map(|server| format!("nameserver {server}\n"));
    let search = (!file.search.is_empty()).then(|| format!("search {}\n", file.search.join(" ")));
    servers.chain(search).collect()
}

/// The same file with names looked up in /etc/hosts and by DNS alone: systemd-resolved sits in another namespace.
fn nsswitch(text: &str) -> String {
    let others = text.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    others.chain(["hosts: files dns"]).map(|line| format!("{line}\n")).collect()
}

fn step(name: &str) -> impl FnOnce(nix::Error) -> CallerError {
    let step = name.to_owned();
    move |error| CallerError::Enter { step, cause: error.into() }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const NSSWITCH: &str = "/etc/nsswitch.conf";

/// Where nscd listens.
const NAME_SERVICES: [&str; 2] = ["/run/nscd/socket", "/var/run/nscd/socket"];

/// The lowest number for the tunnel's socket.
const HIGH: RawFd = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_files_and_dns_alone_for_hosts() {
        let text = "passwd: files systemd\nhosts: mymachines resolve [!UNAVAIL=return] files dns\nnetworks: files\n";
        assert_eq!(nsswitch(text), "passwd: files systemd\nnetworks: files\nhosts: files dns\n");
    }
}
