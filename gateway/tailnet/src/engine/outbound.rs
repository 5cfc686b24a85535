//! From the device to the network: find the peer, count, cut, encrypt, gather for one send.

use std::ops::Range;
use std::time::Instant;

use boringtun::noise::TunnResult;

use super::flows::{Direction, Sighting};
use super::peer::Endpoint;
use super::{Core, OVERHEAD};
use crate::icmp::{self, Lack};
use crate::offload::{Segments, VirtioHeader};
use crate::packet;

/// The working memory of one reader of the device.
pub(crate) struct Outbound {
    /// The batch's encrypted packets, one after the other.
    buffer: Vec<u8>,
    used: usize,
    transmits: Vec<Transmit>,
}

/// Datagrams to one peer, of one size but for the last.
#[derive(Debug)]
pub(crate) struct Transmit {
    pub(crate) to: Endpoint,
    pub(crate) at: Range<usize>,
    /// The size of each datagram but the last, which may be shorter.
    pub(crate) size: usize,
}

impl Outbound {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BATCH_BYTES + ROOM_FOR_ONE], used: 0, transmits: Vec::new() }
    }

    /// Whether the batch should go before another packet is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.used >= BATCH_BYTES
    }

    /// The batch.
    pub(crate) fn transmits(&self) -> impl Iterator<Item = (&Transmit, &[u8])> {
        self.transmits.iter().filter_map(|transmit| Some((transmit, self.buffer.get(transmit.at.clone())?)))
    }

    /// Forgets the batch.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.transmits.clear();
    }

    /// Takes a packet of the device. Where no peer has its destination, an ICMP answer for the device.
    pub(crate) fn take(
        &mut self,
        core: &Core,
        now: Instant,
        virtio: VirtioHeader,
        packet: &mut [u8],
    ) -> Option<icmp::Answer> {
        let destination = packet::destination(packet)?;
        let Some(peer) = core.peer_at(destination) else { return icmp::unreachable(packet, Lack::Host) };
        let live = &mut *peer.live.lock();
        // Without an endpoint there is nobody to shake hands with; the device's own tries will find it.
        let Some(endpoint) = live.endpoint else { return icmp::unreachable(packet, Lack::Host) };
        let seen = Sighting::read(packet, packet.len(), 1, packet.len())?;
        let mut segments = Segments::new(virtio, packet)?;
        let (packets, bytes) = segments.wire();
        if !live.flows.see(now, Direction::ToDevice, &Sighting { packets, bytes, ..seen }) {
            return None;
        }
        live.tx_bytes += bytes as u64;
        while let Some(segment) = segments.next() {
            let needed = (segment.len() + OVERHEAD).max(HANDSHAKE_INITIATION);
            // A connection with absurdly small segments may not fit; TCP sends again what is dropped.
            let Some(room) = self.buffer.get_mut(self.used..).filter(|room| room.len() >= needed) else { break };
            if let TunnResult::WriteToNetwork(datagram) = live.tunnel.encapsulate(segment, room) {
                let length = datagram.len();
                self.append(endpoint, length);
            }
        }
        None
    }

    /// Adds the datagram that was just written to the last transmit, if it can go with it.
    fn append(&mut self, to: Endpoint, length: usize) {
        let at = self.used..self.used + length;
        self.used = at.end;
        match self.transmits.last_mut() {
            // A shorter one ends a transmit, and so `at` of a longer batch is no multiple of `size`.
            Some(last) if last.to == to && length <= last.size && last.at.len() % last.size == 0 => {
                last.at.end = at.end;
            }
            _ => self.transmits.push(Transmit { to, at, size: length }),
        }
    }
}

/// A batch goes when it has this many bytes: about one large packet of the device.
const BATCH_BYTES: usize = 64 * 1024;
/// Room for one more packet of 64 kB, cut into the smallest segments that Linux makes (48 bytes, `TCP_MIN_SND_MSS`).
const ROOM_FOR_ONE: usize = 256 * 1024;
/// The size of a handshake's first message, which is what goes out where there is no session yet.
const HANDSHAKE_INITIATION: usize = 148;
