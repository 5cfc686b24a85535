//! A small world of real peers for the end-to-end tests and the figures: network namespaces joined by cables, throw-away
//! sshd and PostgreSQL servers, callers with wireguard-go and OpenSSH's client, and the real `sallyport` binary between them.
//!
//! Everything has a unique name and lives in namespaces of its own, so tests run side by side; all of it is removed when
//! the world is dropped, also by a panic. Making namespaces takes root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test world that cannot be built ends the test at once"
)]

mod caller;
mod namespace;
mod postgresql;
mod process;
mod skip;
mod sshd;
mod terminal;
mod world;

pub use caller::{Caller, Shared};
pub use namespace::Namespace;
pub use postgresql::{Postgres, newest_programs};
pub use process::{Finished, Process, Talk, run, settle, wait_until};
pub use skip::skip;
pub use sshd::Sshd;
pub use terminal::Terminal;
pub use world::{CONFINE, PERSON, POLICY, Setup, World};

/// Whether `command` is on this machine; where it is not, its absence goes to the list that `make test` ends with.
#[must_use]
pub fn has_peer(command: &str) -> bool {
    let directories = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = directories.split(':').any(|directory| std::path::Path::new(directory).join(command).exists());
    if !found {
        skip(command);
    }
    found
}

/// Whether an ordinary user may make a namespace here; where not, that goes to the list that `make test` ends with.
#[must_use]
pub fn has_namespaces_for_everyone() -> bool {
    let mut made = std::process::Command::new("setpriv");
    made.args([format!("--reuid={PERSON}"), format!("--regid={PERSON}"), "--clear-groups".to_owned()]);
    let found = made.args(["unshare", "--map-root-user", "--net", "true"]).output().unwrap().status.success();
    if !found {
        skip("namespaces of ordinary users (denied here, as in a container or a chroot)");
    }
    found
}
