//! The packet engine: WireGuard on one side, IP packets on the other.
//!
//! [`Core`] holds the peers; [`Inbound`] and [`Outbound`] are the two directions' working memory. None of them does I/O
//! or reads a clock of its own, so that two engines can be wired back to back in a test; `driver` moves the bytes.
//! (boringtun keeps WireGuard's own timers and reads the clock itself.)
//!
//! ```text
//! UDP ─▶ Inbound:  find the peer ▶ decrypt ▶ check the source ▶ join ▶ count ─▶ device
//! UDP ◀─ Outbound: one GSO send  ◀ encrypt ◀ cut ◀ count ◀ find the peer     ◀─ device
//! ```
//!
//! A peer's lock is taken once for a run of packets. Nothing waits for anything: what finds no room is dropped, as IP
//! allows, and the places where that happens are bounded: boringtun's queue of 256 packets for a peer without a
//! session, the device's own queue, the socket's buffers.

mod device;
mod driver;
mod flows;
mod inbound;
mod outbound;
mod peer;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::TunnResult;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};

use self::flows::{Flows, Room};
use self::inbound::Inbound;
use self::outbound::Outbound;
use self::peer::Peer;
use self::table::Table;
use crate::flow::FlowSink;
use crate::{Error, FlowHandle, PeerState, PrivateKey, PublicKey};

pub(crate) use self::device::{Device, Link, Next};
pub(crate) use self::driver::Engine;
pub(crate) use self::peer::{Endpoint, PeerConfig};
pub(crate) use self::socket::WireSocket;

/// The peers, and what they share.
pub(crate) struct Core {
    private: PrivateKey,
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    table: RwLock<Table>,
    /// Counts handshakes, and asks for a cookie above [`HANDSHAKES_PER_SECOND`].
    limiter: RateLimiter,
    /// What the sessions themselves ask, after `limiter` has let a packet through; it never refuses.
    admitted: Arc<RateLimiter>,
    room: Arc<Room>,
    sink: FlowSink,
    /// Peers to begin a handshake with, a few at each tick.
    waking: Mutex<VecDeque<PublicKey>>,
}

impl Core {
    pub(crate) fn new(private: PrivateKey, sink: FlowSink) -> Self {
        let secret = private.to_x25519();
        let public = x25519::PublicKey::from(&secret);
        Self {
            private,
            secret,
            public,
            table: RwLock::default(),
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            admitted: Arc::new(RateLimiter::new(&public, u64::MAX)),
            room: Arc::default(),
            sink,
            waking: Mutex::default(),
        }
    }

    /// Adds or changes a peer. Returns the networks that it had and has no more.
    pub(crate) fn upsert(&self, config: PeerConfig) -> Result<Vec<IpNet>, Error> {
        let mut table = self.table.write();
        table.check(config.key, &config.allowed)?;
        let allowed = config.allowed.clone();
        let known = table.by_key(&config.key).cloned();
        let before = known.as_ref().map(|peer| peer.live.lock().config.allowed.clone()).unwrap_or_default();
        if config.endpoint.is_some() {
            self.waking.lock().push_back(config.key);
        }
        let peer = if let Some(peer) = known {
            peer.change(config, &self.private, &self.admitted);
            peer
        } else {
            let flows = Flows::new(config.key, Arc::clone(&self.room), self.sink.clone());
            Arc::new(Peer::new(table.free_id(), config, &self.private, &self.admitted, flows))
        };
        table.insert(&peer, &allowed);
        Ok(before.into_iter().filter(|network| !allowed.contains(network)).collect())
    }

    /// Removes a peer and emits its flows. Returns the networks it had.
    pub(crate) fn remove(&self, key: &PublicKey) -> Option<Vec<IpNet>> {
        let peer = self.table.write().remove(key)?;
        let live = &mut *peer.live.lock();
        live.flows.close();
        live.endpoint = None;
        Some(std::mem::take(&mut live.config.allowed))
    }

    pub(crate) fn peers(&self, now: Instant) -> Vec<PeerState> {
        let peers: Vec<_> = self.table.read().all().cloned().collect();
        peers.iter().map(|peer| peer.state(now)).collect()
    }

    /// Whose a connection is that the kernel has accepted: the peer whose own packets began it, with its record.
    pub(crate) fn arrival(&self, source: SocketAddr, destination: SocketAddr) -> Option<(PublicKey, FlowHandle)> {
        let peer = self.table.read().by_address(source.ip()).cloned()?;
        let handle = peer.live.lock().flows.arrival(source, destination)?;
        Some((peer.key, handle))
    }

    /// Timers: handshakes, keepalives, ends of flows. Call it [`TICKS_PER_SECOND`] times a second.
    pub(crate) fn tick(&self, now: Instant, send: &mut dyn FnMut(Endpoint, &[u8])) {
        self.limiter.reset_count();
        let mut scratch = [0; SCRATCH];
        let peers: Vec<_> = self.table.read().all().cloned().collect();
        let mut refused = 0;
        for peer in peers {
            let live = &mut *peer.live.lock();
            // Its clock moves on even where there is nobody to send to.
            if let TunnResult::WriteToNetwork(packet) = live.tunnel.update_timers(&mut scratch)
                && let Some(endpoint) = live.endpoint
            {
                send(endpoint, packet);
            }
            refused += live.flows.sweep(now);
        }
        if refused > 0 {
            tracing::warn!(packets = refused, "dropped packets that would have begun flows beyond a device's limit");
        }
        self.wake(&mut scratch, send);
    }

    /// Begins handshakes with peers whose endpoint is remembered: they may hold sessions that we have forgotten.
    fn wake(&self, scratch: &mut [u8], send: &mut dyn FnMut(Endpoint, &[u8])) {
        for _ in 0..WAKES_PER_TICK {
            let Some(key) = self.waking.lock().pop_front() else { return };
            let Some(peer) = self.table.read().by_key(&key).cloned() else { continue };
            let live = &mut *peer.live.lock();
            if live.tunnel.time_since_last_handshake().is_none()
                && let Some((endpoint, packet)) = live.begin(scratch)
            {
                send(endpoint, packet);
            }
        }
    }

    /// Emits the flows of every peer: the engine stops.
    pub(crate) fn close(&self) {
        let peers: Vec<_> = self.table.read().all().cloned().collect();
        peers.iter().for_each(|peer| peer.live.lock().flows.close());
    }

    fn peer_at(&self, address: IpAddr) -> Option<Arc<Peer>> {
        self.table.read().by_address(address).cloned()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("public", &self.private.public()).finish_non_exhaustive()
    }
}

/// Ticks in a second: boringtun's timers are good to a quarter of one.
pub(crate) const TICKS_PER_SECOND: u32 = 4;
/// Handshakes begun at one tick: after a restart, a thousand devices are woken in eight seconds.
const WAKES_PER_TICK: usize = 32;
/// Handshakes a second before an initiator must prove its address with a cookie (the paper, section 5.3). One costs
/// about a fifth of a millisecond.
const HANDSHAKES_PER_SECOND: u64 = 200;
/// Room for any packet that a timer or a handshake sends.
const SCRATCH: usize = 256;
/// What WireGuard adds to a packet, in bytes (the paper, section 5.4.6).
const OVERHEAD: usize = 32;
