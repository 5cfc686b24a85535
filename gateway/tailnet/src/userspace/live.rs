//! What smoltcp knows of one connection, and what changes about it beyond that.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, Socket, State};
use smoltcp::time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::backlog::Place;
use super::connection::Connection;
use super::stack::Stack;
use super::table::Ends;
use super::window::Edge;

/// What changes about a connection.
pub(super) struct Live {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) socket: SocketHandle,
    pub(super) stage: Stage,
    /// When [`super::timers::Timers`] will poll it.
    pub(super) due: Option<std::time::Instant>,
    /// Whether it waits for room in the egress.
    pub(super) starved: bool,
    /// Why it ended, where that is not for its socket to say.
    pub(super) fate: Option<io::ErrorKind>,
    pub(super) edge: Edge,
}

/// Whose a connection is.
pub(super) enum Stage {
    /// Nobody's yet: a device wants it.
    HalfOpen(Place),
    /// A stream's, or waiting for one.
    Held,
    /// Nobody's any more: what is left is saying goodbye.
    Released,
    /// Forgotten.
    Over,
}

impl Live {
    pub(super) fn new(stack: &Stack, ends: Ends, stage: Stage) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rand::random();
        let mut interface = Interface::new(config, &mut stack.link(None), stack.now());
        let (address, bits) = match ends.here.ip() {
            IpAddr::V4(v4) => (IpAddress::Ipv4(v4), 32),
            IpAddr::V6(v6) => (IpAddress::Ipv6(v6), 128),
        };
        // Neither of them can fail: the interface has room for two addresses and two routes.
        interface.update_ip_addrs(|addresses| {
            let _room = addresses.push(IpCidr::new(address, bits));
        });
        match ends.here.ip() {
            IpAddr::V4(v4) => drop(interface.routes_mut().add_default_ipv4_route(v4)),
            IpAddr::V6(v6) => drop(interface.routes_mut().add_default_ipv6_route(v6)),
        }
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        // As on the kernel's sockets (TCP_NODELAY).
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(KEEPALIVE.into()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(socket);
        Self { interface, sockets, socket, stage, due: None, starved: false, fate: None, edge: Edge::default() }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Takes a packet, sends what is to be sent, and breaks what nobody reads. True: it could not send all.
    pub(super) fn work(&mut self, stack: &Stack, packet: Option<&[u8]>) -> bool {
        let starved = self.poll(stack, packet);
        if let Stage::Released = self.stage
            && self.socket().recv_queue() > 0
        {
            self.socket().abort();
            self.poll(stack, None);
        }
        starved
    }

    /// Takes a packet, sends what is to be sent. True: it could not send all.
    fn poll(&mut self, stack: &Stack, packet: Option<&[u8]>) -> bool {
        let now = stack.now();
        let mut link = stack.link(packet);
        self.interface.poll_maintenance(now);
        if packet.is_some() {
            self.interface.poll_ingress_single(now, &mut link, &mut self.sockets);
        }
        // Room is looked for before smoltcp is asked: it forgets a retransmission that the card then refuses.
        while stack.egress().has_room() {
            if let PollResult::None = self.interface.poll_egress(now, &mut link, &mut self.sockets) {
                return false;
            }
        }
        self.interface.poll_at(now, &self.sockets).is_some_and(|next| next <= now)
    }

    /// Hands a connection over once its handshake is done.
    pub(super) fn open(&mut self, connection: &Arc<Connection>) {
        if matches!(self.socket().state(), State::Established | State::CloseWait)
            && matches!(self.stage, Stage::HalfOpen(_))
            && let Stage::HalfOpen(place) = std::mem::replace(&mut self.stage, Stage::Held)
        {
            place.open(Arc::clone(connection));
        }
    }

    /// How long the device may be silent: less when we wait for it.
    pub(super) fn set_timeout(&mut self) {
        let held = matches!(self.stage, Stage::Held);
        let socket = self.socket();
        if held && !matches!(socket.state(), State::SynSent | State::SynReceived) {
            let patience = if socket.send_queue() > 0 { UNACKNOWLEDGED } else { SILENCE };
            socket.set_timeout(Some(patience.into()));
        }
    }

    /// Whether nothing more will come of it. One that waits for late packets only (TIME-WAIT) is not polled again, for
    /// smoltcp would throw away what has not been read; a late packet is answered with a reset, which a device that has
    /// closed does not mind.
    pub(super) fn is_over(&mut self) -> bool {
        let socket = self.socket();
        match socket.state() {
            State::Closed => socket.remote_endpoint().is_none(),
            // The handshake came to nothing.
            State::Listen | State::TimeWait => true,
            _ => false,
        }
    }

    /// When it wants to be polled.
    pub(super) fn next(&mut self, stack: &Stack) -> Option<std::time::Instant> {
        let now = stack.now();
        let next = self.interface.poll_at(now, &self.sockets)?;
        // Never at once: a poll has just left nothing to do.
        Some(stack.real(next.max(now + time::Duration::from_millis(1))))
    }
}

/// Bytes that wait in each direction: a window for 100 Mb/s over 20 ms.
pub(super) const BUFFER: usize = 256 * 1024;
/// How often a silent device is asked whether it is still there.
const KEEPALIVE: Duration = crate::tailnet::KEEPALIVE;
/// How long a device may be silent: as in the records, so that none outlives its connection.
const SILENCE: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
/// How long bytes may go without any answer, even that there is no room: Linux's `tcp_retries2` comes to about this.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15 * 60);
