//! Ending the TCP connections of an address, as `ss -K` does (sock_diag(7), SOCK_DESTROY since Linux 4.5).
//!
//! Messages are laid out by hand: `struct inet_diag_req_v2` and `struct inet_diag_msg` of Linux's `inet_diag.h`.

use std::io;
use std::net::IpAddr;

use nix::libc;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// Ends every TCP connection with this remote address: both sides read an error at once. Returns how many.
///
/// # Errors
/// `EOPNOTSUPP` on a kernel without CONFIG_INET_DIAG_DESTROY.
pub(super) fn connections_of(remote: IpAddr) -> io::Result<u32> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut destroyed = 0;
    for identity in find(&socket, remote)? {
        socket.send(&message(SOCK_DESTROY, libc::NLM_F_ACK, remote, &identity), 0)?;
        match acknowledgement(&socket.recv_from_full()?.0) {
            Ok(()) => destroyed += 1,
            // It ended by itself in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(destroyed)
}

/// The kernel's names (`struct inet_diag_sockid`) of the connections with this remote address.
fn find(socket: &Socket, remote: IpAddr) -> io::Result<Vec<[u8; IDENTITY]>> {
    socket.send(&message(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, remote, &[0; IDENTITY]), 0)?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, body, after)) = next_message(rest) {
            match kind {
                DONE => return Ok(found),
                ERROR => return acknowledgement(rest).map(|()| found),
                SOCK_DIAG_BY_FAMILY => found.extend(identity(body).filter(|id| remote_of(id, remote) == Some(remote))),
                _ => {}
            }
            rest = after;
        }
    }
}

/// One netlink message off the front: its type, its body, and what follows.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..6)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn identity(body: &[u8]) -> Option<[u8; IDENTITY]> {
    body.get(4..)?.first_chunk().copied()
}

/// The remote address in an identity, read in the family of `like`.
fn remote_of(identity: &[u8; IDENTITY], like: IpAddr) -> Option<IpAddr> {
    let address = identity.get(20..36)?;
    Some(match like {
        IpAddr::V4(_) => IpAddr::from(*address.first_chunk::<4>()?),
        IpAddr::V6(_) => IpAddr::from(*address.first_chunk::<16>()?),
    })
}

/// A netlink header and a `struct inet_diag_req_v2`.
fn message(kind: u16, flags: libc::c_int, remote: IpAddr, identity: &[u8; IDENTITY]) -> Vec<u8> {
    let family = if remote.is_ipv4() { 2_u8 } else { 10 };
    let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or_default();
    let mut bytes = Vec::with_capacity(MESSAGE);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // sequence number and port: one question at a time
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(ALL_STATES.to_ne_bytes());
    bytes.extend(identity);
    bytes
}

fn acknowledgement(bytes: &[u8]) -> io::Result<()> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag sent an answer that makes no sense");
    let (kind, body, _) = next_message(bytes).ok_or_else(broken)?;
    let errno = i32::from_ne_bytes(*body.first_chunk().ok_or_else(broken)?);
    match (kind, errno) {
        (ERROR, 0) => Ok(()),
        (ERROR, errno) => Err(io::Error::from_raw_os_error(-errno)),
        _ => Err(broken()),
    }
}

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`: two ports, two addresses of 16 bytes, an interface and a cookie of 8.
const IDENTITY: usize = 48;
/// A header, 8 bytes and an identity.
const MESSAGE: usize = HEADER + 8 + IDENTITY;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const ALL_STATES: u32 = u32::MAX;
