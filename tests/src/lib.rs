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
mod sshd;
mod terminal;
mod world;

pub use caller::{Caller, Shared};
pub use namespace::Namespace;
pub use postgresql::{Postgres, newest_programs};
pub use process::{Finished, Process, Talk, run, wait_until};
pub use sshd::Sshd;
pub use terminal::Terminal;
pub use world::{CONFINE, PERSON, POLICY, Setup, World};

use std::io::Write as _;

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

/// Names a peer whose tests are skipped in the list that `make test` ends with.
pub fn skip(peer: &str) {
    eprintln!("skipped: {peer}");
    if let Ok(list) = std::env::var("SALLYPORT_SKIPPED") {
        let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
        writeln!(list, "{peer}").unwrap();
    }
}
