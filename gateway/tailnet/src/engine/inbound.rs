//! From the network to the device: find the peer, decrypt, check, join, count.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn, TunnResult};

use super::flows::{Direction, Sighting};
use super::peer::{Endpoint, Live, Peer};
use super::{Core, OVERHEAD};
use crate::offload::{Merger, VirtioHeader};

/// The working memory of one reader of the socket.
pub(crate) struct Inbound {
    /// What the batch's packets are decrypted into, one after the other.
    arena: Vec<u8>,
    used: usize,
    merger: Merger,
    /// The batch's peers; a joined packet's owner is a place in this list.
    owners: Vec<Arc<Peer>>,
    scratch: Vec<u8>,
}

impl Inbound {
    /// For batches of at most `capacity` bytes from the network.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            arena: vec![0; capacity],
            used: 0,
            merger: Merger::default(),
            owners: Vec::new(),
            scratch: vec![0; MAX_PACKET + OVERHEAD],
        }
    }

    /// Takes datagrams of one sender, `stride` bytes each but the last; answers go to `send`.
    pub(crate) fn take(
        &mut self,
        core: &Core,
        from: Endpoint,
        datagrams: &[u8],
        stride: usize,
        send: &mut dyn FnMut(Endpoint, &[u8]),
    ) {
        let mut rest = datagrams.chunks(stride.max(1)).peekable();
        while let Some(datagram) = rest.peek() {
            let Some(index) = data_index(datagram) else {
                self.handshake(core, from, datagram, send);
                rest.next();
                continue;
            };
            let Some(peer) = core.table.read().by_index(index).cloned() else {
                rest.next();
                continue;
            };
            let owner = self.owner(&peer);
            let live = &mut *peer.live.lock();
            // The whole run of this peer's packets under one lock.
            while let Some(datagram) =
                rest.next_if(|next| data_index(next).is_some_and(|other| other >> 8 == index >> 8))
            {
                self.decrypt(live, owner, from, datagram);
            }
        }
    }

    /// Gives the batch's packets to `write`, each as pieces of the arena, and forgets them.
    pub(crate) fn deliver(&mut self, now: Instant, write: &mut Write<'_>) {
        self.merger.finish(&mut self.arena);
        let mut joined = self.merger.joined().iter().peekable();
        while let Some(owner) = joined.peek().map(|first| first.owner) {
            let Some(peer) = self.owners.get(owner) else { break };
            let live = &mut *peer.live.lock();
            while let Some(packet) = joined.next_if(|next| next.owner == owner) {
                let Some(head) = packet.pieces.first().and_then(|head| self.arena.get(head.clone())) else { continue };
                let seen = Sighting::read(head, packet.length, packet.packets, packet.wire_bytes);
                if seen.is_some_and(|seen| live.flows.see(now, Direction::FromDevice, &seen)) {
                    live.rx_bytes += packet.wire_bytes as u64;
                    write(packet.virtio, &self.arena, &packet.pieces);
                }
            }
        }
        self.merger.clear();
        self.owners.clear();
        self.used = 0;
    }

    fn owner(&mut self, peer: &Arc<Peer>) -> usize {
        self.owners.iter().rposition(|owner| Arc::ptr_eq(owner, peer)).unwrap_or_else(|| {
            self.owners.push(Arc::clone(peer));
            self.owners.len() - 1
        })
    }

    fn decrypt(&mut self, live: &mut Live, owner: usize, from: Endpoint, datagram: &[u8]) {
        let Some(room) = self.arena.get_mut(self.used..).filter(|room| room.len() >= datagram.len()) else { return };
        let (packet, source) = match live.tunnel.decapsulate(None, datagram, room) {
            TunnResult::WriteToTunnelV4(packet, source) => (&*packet, IpAddr::V4(source)),
            TunnResult::WriteToTunnelV6(packet, source) => (&*packet, IpAddr::V6(source)),
            // A keepalive.
            TunnResult::Done => {
                live.endpoint = Some(from);
                return;
            }
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => return,
        };
        // It is authentic, so the peer is where it came from (the paper, section 2.1).
        live.endpoint = Some(from);
        // INVARIANT: no packet reaches the device whose source address is not its peer's own.
        if !live.allows(source) {
            return;
        }
        let range: Range<usize> = self.used..self.used + packet.len();
        self.used = range.end;
        self.merger.push(&self.arena, range, owner);
    }

    /// Handshakes and cookies: rare, and the only packets that a stranger can make us work for.
    fn handshake(&mut self, core: &Core, from: Endpoint, datagram: &[u8], send: &mut dyn FnMut(Endpoint, &[u8])) {
        let address = from.remote.ip();
        let peer = match core.limiter.verify_packet(Some(address), datagram, &mut self.scratch) {
            Ok(Packet::HandshakeInit(packet)) => {
                let Ok(half) = parse_handshake_anon(&core.secret, &core.public, &packet) else { return };
                core.table.read().by_key(&half.peer_static_public.into()).cloned()
            }
            Ok(Packet::HandshakeResponse(packet)) => core.table.read().by_index(packet.receiver_idx).cloned(),
            Ok(Packet::PacketCookieReply(packet)) => core.table.read().by_index(packet.receiver_idx).cloned(),
            Ok(Packet::PacketData(_)) => None,
            Err(TunnResult::WriteToNetwork(cookie)) => return send(from, cookie),
            Err(_) => None,
        };
        let Some(peer) = peer else { return };
        let live = &mut *peer.live.lock();
        if let TunnResult::WriteToNetwork(answer) = live.tunnel.decapsulate(Some(address), datagram, &mut self.scratch)
        {
            live.endpoint = Some(from);
            send(from, answer);
            // What waited for the session.
            while let TunnResult::WriteToNetwork(packet) = live.tunnel.decapsulate(None, &[], &mut self.scratch) {
                send(from, packet);
            }
        }
    }
}

/// Takes a packet for the device: its virtio header, and the pieces of the arena that make it up.
pub(crate) type Write<'a> = dyn FnMut(VirtioHeader, &[u8], &[Range<usize>]) + 'a;

/// The index that a data packet carries; `None` for any other packet.
fn data_index(datagram: &[u8]) -> Option<u32> {
    match Tunn::parse_incoming_packet(datagram) {
        Ok(Packet::PacketData(packet)) => Some(packet.receiver_idx),
        _ => None,
    }
}

/// The longest IP packet, in bytes.
const MAX_PACKET: usize = 65_575;
