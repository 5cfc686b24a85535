//! The caller's side without root: a namespace in which the tailnet's names resolve and stock clients work.
//!
//! A WireGuard key cannot be used from two places at once, so whoever uses a device's file first starts one background
//! process for it, the *tunnel*: it holds the private namespace and the packet engine. Everybody else who uses the same
//! file joins it over a socket in a folder of the person's own, and it leaves a few seconds after its last user.
//!
//! ```text
//! sallyport shell ──join──▶ tunnel (one a device key) ══WireGuard══▶ gateway
//!       │ ◀─ descriptors of its namespaces ─┘
//!       └─ enters them, lays resolv.conf over /etc's, and becomes the command
//! ```
//!
//! Whoever only wants a connection ([`Membership::connect`], `sallyport proxy`) asks the tunnel for it and stays outside. So
//! that works where no namespace may be made as well: there the tunnel holds a TCP stack of its own, and nobody can enter.
//!
//! Inside, a person is still who they are: the user namespace maps their own numbers to themselves, and files, agents
//! and variables are those of the outside. Set-user-id programs such as `sudo` do not work inside.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, netns};

mod config;
mod inside;
mod join;
mod names;
mod place;
mod reach;
mod tunnel;
mod warden;

pub use config::DeviceFile;
pub use join::{Connection, Membership, join};
pub use warden::{SUBCOMMAND, tunnel_main};

/// Why a caller's side could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallerError {
    /// There is no device file.
    #[error("there is no {}: ask for one (`sallyport device add` prints it) and put it there, or name yours with --config", .0.display())]
    NoFile(PathBuf),
    /// The device file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The folder in which users of one device meet.
    #[error("{}: {cause}", path.display())]
    Place {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// The background process could not start, or has ended.
    #[error("the tunnel could not be opened: {0}")]
    Tunnel(String),
    /// The gateway does not answer.
    #[error(
        "no handshake from {endpoint} within {} s: check that the gateway runs there, that UDP gets through, and that \
         this device has not been removed (`sallyport device ls` on the gateway)", HANDSHAKE.as_secs()
    )]
    NoHandshake {
        /// Whom we called.
        endpoint: String,
    },
    /// There is a tunnel, and nothing to enter.
    #[error(
        "a command can be put into the tailnet only by a namespace, and this device's tunnel has none: {0}; without one, \
         `sallyport proxy HOST:PORT` works, also as ssh's ProxyCommand: `ssh -o ProxyCommand='sallyport proxy %h:%p' HOST`"
    )]
    NoNamespace(String),
    /// A connection through the tunnel.
    #[error("{0}")]
    Connect(String),
    /// A step on the way into the namespace.
    #[error("could not enter the tunnel's namespace: {step}: {cause}")]
    Enter {
        /// Which step.
        step: String,
        /// Why it failed.
        cause: io::Error,
    },
}

impl From<netns::Error> for CallerError {
    fn from(error: netns::Error) -> Self {
        Self::Tunnel(error.to_string())
    }
}

impl From<Error> for CallerError {
    fn from(error: Error) -> Self {
        Self::Tunnel(error.to_string())
    }
}

/// How long a gateway may take to answer the first handshake: WireGuard sends it again after 5 s, so once is enough.
const HANDSHAKE: Duration = Duration::from_secs(6);
