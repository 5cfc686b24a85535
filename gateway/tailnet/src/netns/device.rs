//! Opening the device: TUN, or an AF_PACKET socket on one end of a veth pair.
//!
//! The layouts and option numbers are those of Linux's `if_tun.h` and `if_packet.h`.

use std::fs::OpenOptions;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkUnspec, LinkVeth};
use socket2::{Domain, Socket, Type};

use super::advice::{Failure, Step};
use super::network::{Netlink, netlink};
use super::{DEVICE_MAC, DEVICE_NAME, Device, DeviceKind, Offloads};

/// A device that stands, and what it lacks.
pub(super) struct Opened {
    pub(super) device: Device,
    pub(super) notes: Vec<String>,
}

/// Opens a device of this kind in the namespace we are in, and sets its MTU.
pub(super) async fn open(kind: DeviceKind, mtu: u16) -> Result<Opened, Failure> {
    match kind {
        DeviceKind::Tun => open_tun(mtu).await,
        DeviceKind::Packet => open_packet(mtu).await,
    }
}

async fn open_tun(mtu: u16) -> Result<Opened, Failure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .step("open /dev/net/tun")?;
    let fd = OwnedFd::from(file);
    let mut request = InterfaceRequest::new(libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR);
    set_interface(&fd, &mut request).step("make a TUN device of /dev/net/tun (TUNSETIFF)")?;
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let mut notes = Vec::new();
    let mut udp = true;
    // USO came with Linux 6.2.
    if set_offloads(&fd, tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6).is_err() {
        set_offloads(&fd, tcp).step("set the TUN device's offloads (TUNSETOFFLOAD)")?;
        notes.push("this kernel's TUN does not take UDP super-segments (Linux 6.2 does)".to_owned());
        udp = false;
    }
    let netlink = netlink()?;
    netlink.set_link(LinkUnspec::new_with_name(DEVICE_NAME).mtu(u32::from(mtu)).build(), "set the MTU").await?;
    Ok(Opened { device: Device { fd, kind: DeviceKind::Tun, offloads: Offloads { tcp: true, udp } }, notes })
}

async fn open_packet(mtu: u16) -> Result<Opened, Failure> {
    let netlink: Netlink = netlink()?;
    let pair = LinkVeth::new(DEVICE_NAME, PEER_NAME).mtu(u32::from(mtu)).arp(false).address(DEVICE_MAC.to_vec());
    netlink.add_link(pair.build(), "make a veth pair").await?;
    let peer = LinkUnspec::new_with_name(PEER_NAME).mtu(u32::from(mtu)).arp(false).up();
    netlink.set_link(peer.build(), "bring up the veth pair").await?;

    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)
        .step("open an AF_PACKET socket (it wants CAP_NET_RAW)")?;
    for (option, name) in [
        (libc::PACKET_VNET_HDR, "PACKET_VNET_HDR"),
        (libc::PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"),
        (libc::PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS"),
    ] {
        set_packet_option(&socket, option).step(format!("set {name}"))?;
    }
    // Best effort: the kernel caps it at net.core.rmem_max where we are not root.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let index = if_nametoindex(PEER_NAME).step("find the veth pair")?;
    bind_packet(&socket, index).step("bind the AF_PACKET socket")?;
    let device = Device { fd: socket.into(), kind: DeviceKind::Packet, offloads: Offloads { tcp: true, udp: true } };
    Ok(Opened { device, notes: Vec::new() })
}

/// `struct ifreq` with flags in it, padded to its size in the kernel.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl InterfaceRequest {
    #[expect(clippy::cast_possible_truncation, reason = "the flags of TUNSETIFF are 16 bits in struct ifreq")]
    fn new(flags: libc::c_int) -> Self {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(DEVICE_NAME.bytes()) {
            *to = from;
        }
        Self { name, flags: flags as libc::c_short, rest: [0; 22] }
    }
}

#[expect(unsafe_code, reason = "no crate that we use wraps this ioctl")]
fn set_interface(fd: &OwnedFd, request: &mut InterfaceRequest) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the request is as long as the kernel's struct ifreq, which it reads and writes.
    succeeded(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, request) })
}

#[expect(unsafe_code, reason = "no crate that we use wraps this ioctl")]
fn set_offloads(fd: &OwnedFd, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open, and this ioctl takes its argument by value.
    succeeded(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })
}

#[expect(unsafe_code, reason = "no crate that we use wraps options of AF_PACKET")]
fn set_packet_option(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the pointer and the length are those of one int that outlives the call.
    succeeded(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            length_of::<libc::c_int>(),
        )
    })
}

#[expect(unsafe_code, reason = "no crate that we use makes a sockaddr_ll")]
fn bind_packet(socket: &Socket, interface: libc::c_uint) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be(),
        sll_ifindex: libc::c_int::try_from(interface).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the descriptor is open, and the pointer and the length are those of an address that outlives the call.
    succeeded(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>()) })
}

#[expect(clippy::cast_possible_truncation, reason = "the sizes of two small C types")]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The end of the veth pair that the AF_PACKET socket is on.
const PEER_NAME: &str = "tailnet1";

/// What we ask for on the AF_PACKET socket, in bytes: a burst of some sixty super-segments.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
