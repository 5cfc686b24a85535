//! WireGuard's UDP socket: many datagrams a system call, both ways (UDP GSO and GRO, through quinn-udp).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::peer::Endpoint;

/// The socket.
#[derive(Debug)]
pub(crate) struct WireSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    is_v6: bool,
}

impl WireSocket {
    /// Binds. `[::]` takes IPv4 too. Must be called inside a tokio runtime.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Best effort: the kernel caps both at net.core.rmem_max and wmem_max where we are not root.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Self::new(socket.into())
    }

    fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket)?;
        let is_v6 = socket.local_addr()?.is_ipv6();
        Ok(Self { io: tokio::net::UdpSocket::from_std(socket)?, state, is_v6 })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Receives a batch: for each buffer filled, who sent it, how long it is, and how long each datagram in it.
    pub(crate) async fn receive(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        self.io.async_io(Interest::READABLE, || self.state.recv((&self.io).into(), buffers, metas)).await
    }

    /// Sends datagrams of `size` bytes each but the last; waits while the socket is full.
    pub(crate) async fn send(&self, to: Endpoint, datagrams: &[u8], size: usize) {
        for run in datagrams.chunks(self.run_bytes(size)) {
            let sent = self.io.async_io(Interest::WRITABLE, || self.send_run(to, run, size)).await;
            self.settle(sent, to, run, size);
        }
    }

    /// Sends one datagram, or drops it when the socket is full.
    pub(crate) fn try_send(&self, to: Endpoint, datagram: &[u8]) {
        let sent = self.io.try_io(Interest::WRITABLE, || self.send_run(to, datagram, datagram.len()));
        self.settle(sent, to, datagram, datagram.len());
    }

    /// How much one system call takes. quinn-udp lowers its count when the system refuses, so it is asked each time.
    fn run_bytes(&self, size: usize) -> usize {
        let size = size.max(1);
        size * self.state.max_gso_segments().min(MAX_RUN / size).max(1)
    }

    fn send_run(&self, to: Endpoint, contents: &[u8], size: usize) -> io::Result<()> {
        let destination = match to.remote {
            SocketAddr::V4(v4) if self.is_v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        };
        let segment_size = (contents.len() > size).then_some(size);
        let transmit = quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip: to.local };
        self.state.try_send((&self.io).into(), &transmit)
    }

    /// After an error, once more without what may have caused it: our address may have changed, and a path may be too
    /// narrow for segmentation, which cannot fragment.
    fn settle(&self, sent: io::Result<()>, to: Endpoint, run: &[u8], size: usize) {
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(%error, to = %to.remote, "sending again, one datagram at a time");
                let plain = Endpoint { local: None, ..to };
                for datagram in run.chunks(size.max(1)) {
                    // The network may drop what it likes; WireGuard and TCP send again.
                    let _ = self.send_run(plain, datagram, datagram.len());
                }
            }
        }
    }
}

/// Where a received batch came from, with IPv4 written as IPv4.
pub(crate) fn sender(meta: &RecvMeta) -> Endpoint {
    let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
    let local = meta.dst_ip.filter(|ip| !ip.is_multicast() && !matches!(ip, IpAddr::V4(v4) if v4.is_broadcast()));
    Endpoint { remote, local }
}

/// Clears don't-fragment, which quinn-udp sets: better a fragmented packet on a narrow path than none.
#[expect(unsafe_code, reason = "no crate that we use wraps IP_MTU_DISCOVER")]
fn allow_fragments(socket: &UdpSocket) -> io::Result<()> {
    let set = |level: libc::c_int, option: libc::c_int, value: libc::c_int| {
        let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
        // SAFETY: the descriptor is open, and `value` is an int that outlives the call, of the length given.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
    if socket.local_addr()?.is_ipv6() {
        set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

/// What one GSO send may carry: the longest UDP payload, less the outer headers.
const MAX_RUN: usize = 65_400;
/// What we ask for on either side of the socket, in bytes: some forty milliseconds of a gigabit.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
