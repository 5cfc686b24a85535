//! What a data plane is started with, and what it tells about its peers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{PresharedKey, PrivateKey, PublicKey};

/// How to start a data plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// The gateway's WireGuard key.
    pub private_key: PrivateKey,
    /// Where WireGuard listens, on the host's network. `[::]` takes IPv4 too.
    pub listen: SocketAddr,
    /// The gateway's own addresses in the tailnet.
    pub gateway: (Ipv4Addr, Ipv6Addr),
    /// The whole tailnet: every device's address is in it.
    pub prefix: (Ipv4Net, Ipv6Net),
    /// The virtual addresses of the targets.
    pub service: (Ipv4Net, Ipv6Net),
    /// The TCP ports that are accepted, on every address of `service` and on the gateway's own.
    pub ports: Vec<u16>,
    /// The tunnel's MTU: see [`DEFAULT_MTU`].
    pub mtu: u16,
    /// Use this backend and no other. `None`: the first that works, best first.
    pub backend: Option<BackendKind>,
}

/// The ways to reach the tunnel's packets, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// A private network namespace with a TUN device.
    Tun,
    /// A private network namespace with a veth pair and a packet socket, for machines without `/dev/net/tun`.
    Packet,
    /// A TCP stack in this process, for machines that allow no namespaces: it needs nothing, and copes less well with
    /// loss.
    Userspace,
    /// Inside this process, for tests: no packets at all.
    Memory,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tun => "private namespace, TUN",
            Self::Packet => "private namespace, packet socket",
            Self::Userspace => "userspace",
            Self::Memory => "memory",
        })
    }
}

/// Which backend won, and what could be better.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The one in use.
    pub kind: BackendKind,
    /// Why the better ones did not work, and what works less well than it could; each with what to change.
    pub notes: Vec<String>,
}

/// A device that may speak to the gateway.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who it is.
    pub key: PublicKey,
    /// The secret it shares with the gateway, if any.
    pub preshared: Option<PresharedKey>,
    /// The tailnet addresses that only this device may send from.
    pub addresses: Vec<IpAddr>,
    /// Where it was last seen. With one, a handshake begins at once, so that a device that still believes in an
    /// old session comes back by itself.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep a path through NAT open. The device's side usually asks for these.
    pub keepalive: Option<u16>,
}

/// A peer as it is now.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// Who it is.
    pub key: PublicKey,
    /// Where its last authentic packet came from, or where it was said to be.
    pub endpoint: Option<SocketAddr>,
    /// When the session in use was agreed on.
    pub last_handshake: Option<Instant>,
    /// IP bytes received from the device.
    pub rx_bytes: u64,
    /// IP bytes sent to the device.
    pub tx_bytes: u64,
}

/// The tunnel's MTU unless configured: what IPv6 promises everywhere (RFC 8200, section 5), so that the
/// encrypted packet fits every path that carries IPv6.
pub const DEFAULT_MTU: u16 = 1280;
