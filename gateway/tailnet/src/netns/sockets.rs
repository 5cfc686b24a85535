//! Sockets inside the namespace: listeners, and those made on request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::advice::{Failure, Step};
use super::{MAX_PORTS, Setup};

/// Listens on each port of a gateway's set-up, once for IPv4 and once for IPv6.
pub(super) fn listen(setup: &Setup, notes: &mut Vec<String>) -> Result<Vec<(SocketAddr, OwnedFd)>, Failure> {
    let Setup::Gateway(gateway) = setup else { return Ok(Vec::new()) };
    if gateway.ports.len() > MAX_PORTS {
        let many = std::io::Error::from_raw_os_error(nix::libc::E2BIG);
        return Err(many).step(format!("listen on more than {MAX_PORTS} ports"));
    }
    let mut listeners = Vec::new();
    for port in &gateway.ports {
        for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let address = SocketAddr::new(any, *port);
            let socket = stream_socket(address, notes)?;
            if address.is_ipv6() {
                socket.set_only_v6(true).step("keep a listener to IPv6")?;
            }
            socket.set_reuse_address(true).step("set SO_REUSEADDR")?;
            socket.bind(&address.into()).step(format!("bind TCP {address}"))?;
            socket.listen(BACKLOG).step(format!("listen on TCP {address}"))?;
            listeners.push((address, socket.into()));
        }
    }
    Ok(listeners)
}

/// A TCP socket for this destination, not connected.
pub(super) fn tcp(destination: SocketAddr) -> Result<OwnedFd, Failure> {
    Ok(stream_socket(destination, &mut Vec::new())?.into())
}

/// A UDP socket bound to this address.
pub(super) fn udp(address: SocketAddr) -> Result<OwnedFd, Failure> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP)).step("open a UDP socket")?;
    socket.bind(&address.into()).step(format!("bind UDP {address}"))?;
    Ok(socket.into())
}

fn stream_socket(address: SocketAddr, notes: &mut Vec<String>) -> Result<Socket, Failure> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP)).step("open a TCP socket")?;
    if let Err(error) = socket.set_tcp_congestion(b"bbr") {
        let note = format!("TCP runs without bbr, so lossy paths are slower ({error}): `modprobe tcp_bbr`");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(socket)
}

/// Connections that may wait to be accepted; the kernel lowers it to somaxconn.
const BACKLOG: i32 = 4096;
