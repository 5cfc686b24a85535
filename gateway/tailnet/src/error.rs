//! What can go wrong in the data plane, each as a sentence that says what to do next.

use std::io;
use std::net::SocketAddr;

use crate::{PublicKey, netns};

/// A failure of the data plane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that should have been a WireGuard key.
    #[error("not a WireGuard key: expected 32 bytes in base64, as `wg genkey` and `wg pubkey` print them")]
    Key,
    /// A peer with an address that another peer already has.
    #[error("address {address} already belongs to the device {owner}: give each device its own address")]
    AddressTaken {
        /// The address wanted twice.
        address: ipnet::IpNet,
        /// Who has it.
        owner: PublicKey,
    },
    /// A peer with an address that cannot be a device's.
    #[error("{address} cannot be a device's address: choose one inside the tailnet, outside the targets' own range")]
    AddressForeign {
        /// The address.
        address: std::net::IpAddr,
    },
    /// The WireGuard port could not be opened.
    #[error("cannot listen on UDP {address}: {source}; choose another [tailnet] listen address")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No backend works on this machine.
    #[error("no data plane works on this machine: {0}")]
    NoBackend(netns::Error),
    /// A connection through the tailnet that could not be made.
    #[error("cannot reach {address} through the tailnet: {source}")]
    Dial {
        /// Whom we called.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A UDP port on the gateway's tailnet address that could not be opened.
    #[error("cannot open UDP port {port} on the gateway's tailnet address: {source}")]
    Datagrams {
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// A system call that should not fail.
    #[error("{doing}: {source}")]
    System {
        /// What we were doing.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
