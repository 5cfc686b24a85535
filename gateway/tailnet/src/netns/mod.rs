//! The private namespace: a network of our own, made without touching the host's.
//!
//! The main process stays where it is, because it dials targets on the host's network. It starts its own executable
//! once more as a *helper* with one SOCK_SEQPACKET socket as descriptor 0. The helper moves into a new network namespace
//! (and a user namespace first, where it is not allowed to do so otherwise), opens a device there, gives it addresses
//! and routes, listens on the service ports, and passes the descriptors back. From then on packets flow through the
//! device's descriptor and connections through the listeners; the helper stays only to make more sockets and to cut
//! connections. It leaves when its socket closes, so it never outlives the main process, however that one ends.
//!
//! This module knows nothing of WireGuard.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod advice;
mod control;
mod destroy;
mod device;
mod enter;
mod helper;
mod network;
mod sockets;
pub(crate) mod wire;

pub use advice::Attempt;
pub use control::{Control, Error, Namespaces};
pub use helper::helper_main;

/// What the namespace is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Setup {
    /// The gateway's side: whole prefixes are this machine's, and the service ports are accepted on all of them.
    Gateway(GatewaySetup),
    /// A caller's side: the device's own addresses, and routes to the tailnet.
    Caller(CallerSetup),
}

/// See [`Setup::Gateway`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GatewaySetup {
    /// The gateway's own tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// The prefixes of virtual addresses; no device may have an address in them, or its packets are dropped as forged.
    pub service: Vec<IpNet>,
    /// TCP ports to accept on every address above; at most [`MAX_PORTS`].
    pub ports: Vec<u16>,
    /// The device's MTU in bytes.
    pub mtu: u16,
    /// Use this kind of device alone instead of the best that works.
    pub device: Option<DeviceKind>,
}

/// See [`Setup::Caller`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallerSetup {
    /// The device's tailnet addresses (`Address` of a wg-quick file).
    pub addresses: Vec<IpAddr>,
    /// What lies behind the tunnel (`AllowedIPs` of a wg-quick file).
    pub allowed: Vec<IpNet>,
    /// The device's MTU in bytes.
    pub mtu: u16,
    /// Use this kind of device alone instead of the best that works.
    pub device: Option<DeviceKind>,
}

/// How packets leave and enter the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A TUN device: a virtio header, then an IP packet.
    Tun,
    /// An AF_PACKET socket on a veth pair: a virtio header, then 14 bytes of Ethernet header, then an IP packet. The
    /// offsets in the virtio header count from the Ethernet header.
    Packet,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tun => "TUN",
            Self::Packet => "AF_PACKET",
        })
    }
}

/// What the kernel leaves to us on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offloads {
    /// Packets read may be TCP super-segments or lack a checksum, and such packets may be written.
    pub tcp: bool,
    /// The same for UDP.
    pub udp: bool,
}

/// The open device. Reads and writes are one packet each, after a virtio header of [`VNET_HEADER`] bytes, and do not
/// block.
#[derive(Debug)]
pub struct Device {
    /// The descriptor; it keeps the namespace alive.
    pub fd: OwnedFd,
    /// What is read and written.
    pub kind: DeviceKind,
    /// What may be read and written.
    pub offloads: Offloads,
}

/// A socket that accepts connections to one port on any address of the namespace, in one family.
#[derive(Debug)]
pub struct Listener {
    /// The listening socket, non-blocking. The local address of an accepted connection is the one that was called.
    pub socket: std::net::TcpListener,
    /// The port it listens on, and the unspecified address of its family.
    pub address: SocketAddr,
}

/// A namespace with a device in it.
#[derive(Debug)]
pub struct PrivateNamespace {
    /// Where packets come out and go in.
    pub device: Device,
    /// Two for each port, IPv4 and IPv6; none on a caller's side.
    pub listeners: Vec<Listener>,
    /// Makes sockets inside and cuts connections.
    pub control: Control,
    /// What was tried first and did not work, and what works less well than it could.
    pub notes: Vec<String>,
}

impl PrivateNamespace {
    /// Makes the namespace. Blocks for some ten milliseconds, at most ten seconds.
    ///
    /// # Errors
    /// When no kind of device could be opened: the error names each, why it failed and what to change.
    pub fn open(setup: &Setup) -> Result<Self, Error> {
        control::open(setup)
    }
}

/// The hidden subcommand under which the executable becomes the helper: the program's `main` calls [`helper_main`] for
/// it before it starts any thread.
pub const SUBCOMMAND: &str = "__netns";
/// How many ports a gateway may listen on: each costs two descriptors, and one message carries at most 253.
pub const MAX_PORTS: usize = 64;
/// The name of the device inside the namespace.
pub const DEVICE_NAME: &str = "tailnet0";
/// With [`DeviceKind::Packet`], the destination that each frame written to the device must carry: the kernel takes a
/// frame to any other for somebody else's.
pub const DEVICE_MAC: [u8; 6] = [0x02, 0x53, 0x41, 0x4c, 0x4c, 0x59];
/// The length of `struct virtio_net_hdr` that comes before each packet read from or written to a device.
pub const VNET_HEADER: usize = 10;
