//! The stack: what becomes of each packet that the engine hands over.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ipnet::{Ipv4Net, Ipv6Net};
use parking_lot::Mutex;
use smoltcp::time;
use tokio::sync::mpsc;

use super::answers;
use super::backlog::{Backlog, Opened};
use super::connection::Connection;
use super::datagrams::Ports;
use super::egress::Egress;
use super::link::Link;
use super::normal::{self, Normal};
use super::stream::StackStream;
use super::table::{Ends, Table};
use super::timers::Timers;
use crate::icmp;
use crate::offload::VirtioHeader;
use crate::packet::{ACK, Outline, RST, SYN, TCP, UDP};

/// What is here.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// The gateway's own addresses: UDP is bound there, and we dial from them.
    pub(crate) own: (Ipv4Addr, Ipv6Addr),
    /// The prefixes of which every address is here too.
    pub(crate) service: Option<(Ipv4Net, Ipv6Net)>,
    /// The TCP ports that are accepted on all of them.
    pub(crate) ports: Vec<u16>,
    /// The tunnel's MTU.
    pub(crate) mtu: u16,
}

impl Here {
    fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.own.0 || self.service.is_some_and(|(service, _)| service.contains(&v4)),
            IpAddr::V6(v6) => v6 == self.own.1 || self.service.is_some_and(|(_, service)| service.contains(&v6)),
        }
    }
}

/// The stack. It does nothing by itself: the engine hands packets over and takes them, and two tasks call
/// [`Stack::keep_time`] and accept what was opened.
#[derive(Debug)]
pub(crate) struct Stack {
    here: Here,
    began: Instant,
    next_id: AtomicU64,
    table: Mutex<Table>,
    backlog: Backlog,
    egress: Egress,
    timers: Timers,
    ports: Ports,
    /// Where the pieces of a joined packet are put together.
    joined: Mutex<Vec<u8>>,
}

impl Stack {
    pub(crate) fn new(here: Here) -> (Arc<Self>, mpsc::Receiver<Opened>) {
        let (backlog, opened) = Backlog::new();
        let stack = Self {
            here,
            began: Instant::now(),
            next_id: AtomicU64::default(),
            table: Mutex::default(),
            backlog,
            egress: Egress::default(),
            timers: Timers::default(),
            ports: Ports::default(),
            joined: Mutex::default(),
        };
        (Arc::new(stack), opened)
    }

    /// Takes a packet, given as pieces of `arena`.
    pub(crate) fn take(&self, virtio: VirtioHeader, arena: &[u8], pieces: &[std::ops::Range<usize>]) {
        let piece = |range: &std::ops::Range<usize>| arena.get(range.clone()).unwrap_or_default();
        // The engine verified what it joined, and left its checksum unfinished.
        let verified = virtio.needs_checksum();
        if let [whole] = pieces {
            return self.sort(piece(whole), verified);
        }
        let mut joined = self.joined.lock();
        joined.clear();
        pieces.iter().for_each(|range| joined.extend_from_slice(piece(range)));
        self.sort(&joined, verified);
    }

    /// What a packet is, and whose.
    fn sort(&self, packet: &[u8], verified: bool) {
        let Some(Normal { packet, outline }) = normal::read(packet, verified) else { return };
        // Nothing is passed on, so that one device cannot reach another.
        if !self.here.has(outline.destination) && outline.protocol != ICMP4 && outline.protocol != ICMP6 {
            return;
        }
        match outline.protocol {
            TCP => self.take_segment(&packet, &outline),
            UDP => self.take_datagram(&packet, &outline),
            ICMP4 | ICMP6 => self.take_icmp(&packet, &outline),
            _ => self.answer(icmp::unreachable(&packet, icmp::Lack::Protocol)),
        }
    }

    fn take_segment(&self, packet: &[u8], outline: &Outline) {
        let (device, here) = outline.ends(packet);
        let ends = Ends { here, device };
        let Some(flags) = outline.tcp_flags(packet) else { return };
        let known = self.table.lock().find(&ends).cloned();
        if let Some(connection) = known {
            connection.take(self, packet, outline);
        } else if flags & (SYN | ACK | RST) == SYN && self.here.ports.contains(&here.port()) {
            self.accept(ends, packet, outline);
        } else {
            self.answer(answers::reset(packet, outline));
        }
    }

    /// Begins a connection, or drops its SYN where there is no room.
    fn accept(&self, ends: Ends, packet: &[u8], outline: &Outline) {
        let Some(place) = self.backlog.reserve(ends.device.ip()) else { return };
        let mut table = self.table.lock();
        if !table.has_room(ends.device.ip()) {
            return;
        }
        let Some(connection) = Connection::listen(self, ends, place) else { return };
        table.insert(&connection);
        drop(table);
        connection.take(self, packet, outline);
    }

    fn take_datagram(&self, packet: &[u8], outline: &Outline) {
        let (from, to) = outline.ends(packet);
        let own = to.ip() == self.gateway(to.is_ipv4());
        let Some(payload) = normal::datagram(packet, outline) else { return };
        if !own || !self.ports.deliver(to.port(), from, payload) {
            self.answer(icmp::unreachable(packet, icmp::Lack::Port));
        }
    }

    /// Pings are answered; that nobody has an address ends the call to it.
    fn take_icmp(&self, packet: &[u8], outline: &Outline) {
        if self.here.has(outline.destination)
            && let Some(answer) = answers::pong(packet, outline)
        {
            return self.answer(Some(answer));
        }
        if let Some((here, device)) = answers::quoted(packet, outline)
            && device.ip() == outline.source
        {
            let known = self.table.lock().find(&Ends { here, device }).cloned();
            if let Some(connection) = known {
                connection.unreachable(self);
            }
        }
    }

    fn answer(&self, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            self.egress.answer(packet);
        }
    }

    /// Waits for packets, then hands them to `take` until none is left or it says stop.
    pub(crate) async fn read(&self, take: &mut (dyn FnMut(VirtioHeader, &mut [u8]) -> crate::engine::Next + Send)) {
        self.egress.ready().await;
        while let Some(mut frame) = self.egress.pop() {
            let next = take(frame.virtio, &mut frame.packet);
            self.egress.recycle(frame);
            if let crate::engine::Next::Stop = next {
                break;
            }
        }
        while let Some(connection) = self.egress.next_starved() {
            connection.feed(self);
        }
    }

    /// Polls each connection when its time has come. Never ends.
    pub(crate) async fn keep_time(&self) {
        loop {
            let (at, connection) = self.timers.next().await;
            connection.poll(self, at);
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The stream of a connection that was opened, with the device's address and the one it called.
    pub(crate) fn stream(self: &Arc<Self>, opened: Opened) -> (StackStream, SocketAddr, SocketAddr) {
        let stream = StackStream::new(Arc::clone(self), opened.connection);
        let (device, here) = stream.ends();
        (stream, device, here)
    }

    /// Connects to a device. There is no deadline but TCP's: drop the future to give up.
    pub(crate) async fn dial(self: &Arc<Self>, device: SocketAddr) -> io::Result<StackStream> {
        let connection = {
            let mut table = self.table.lock();
            if !table.has_room(device.ip()) {
                return Err(io::Error::other("too many connections with this device"));
            }
            let own = self.gateway(device.is_ipv4());
            let first: u16 = rand::random_range(FIRST_PORT..=u16::MAX);
            let port = (FIRST_PORT..=u16::MAX)
                .map(|port| FIRST_PORT + (port - FIRST_PORT + (first - FIRST_PORT)) % (u16::MAX - FIRST_PORT))
                .find(|port| table.find(&Ends { here: SocketAddr::new(own, *port), device }).is_none())
                .ok_or(io::ErrorKind::AddrNotAvailable)?;
            let connection = Connection::dial(self, Ends { here: SocketAddr::new(own, port), device })?;
            table.insert(&connection);
            connection
        };
        let stream = StackStream::new(Arc::clone(self), connection);
        stream.open().await?;
        Ok(stream)
    }

    /// Breaks the connections with one device address, or all.
    pub(crate) fn cut(&self, device: Option<IpAddr>) {
        let connections = self.table.lock().of(device);
        connections.iter().for_each(|connection| connection.cut(self, io::ErrorKind::ConnectionAborted));
    }

    /// The gateway's own address of a family.
    pub(super) fn gateway(&self, v4: bool) -> IpAddr {
        if v4 { self.here.own.0.into() } else { self.here.own.1.into() }
    }

    pub(super) fn mtu(&self) -> u16 {
        self.here.mtu
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn link<'a>(&'a self, packet: Option<&'a [u8]>) -> Link<'a> {
        Link::new(packet, &self.egress, self.here.mtu)
    }

    pub(super) fn egress(&self) -> &Egress {
        &self.egress
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(super) fn forget(&self, connection: &Connection) {
        self.table.lock().remove(connection);
    }

    pub(super) fn starve(&self, connection: &Arc<Connection>) {
        self.egress.starve(connection);
    }

    /// smoltcp's time: microseconds since we began.
    pub(super) fn now(&self) -> time::Instant {
        time::Instant::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// The clock's time for one of smoltcp's.
    pub(super) fn real(&self, at: time::Instant) -> Instant {
        self.began + std::time::Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.table.lock().len()
    }
}

/// ICMP's protocol number.
const ICMP4: u8 = 1;
/// ICMPv6's protocol number.
const ICMP6: u8 = 58;
/// Source ports come from the ephemeral range of RFC 6335.
const FIRST_PORT: u16 = 49_152;
