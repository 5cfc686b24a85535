//! One peer: its WireGuard session, where it is, what it may send from, and its flows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use ipnet::IpNet;
use parking_lot::Mutex;

use super::flows::Flows;
use crate::{PeerState, PresharedKey, PrivateKey, PublicKey};

/// A peer as the engine is told of it.
#[derive(Clone, Debug)]
pub(crate) struct PeerConfig {
    pub(crate) key: PublicKey,
    pub(crate) preshared: Option<PresharedKey>,
    /// What it may send from, and what is sent to it.
    pub(crate) allowed: Vec<IpNet>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) keepalive: Option<u16>,
}

/// Where a peer is, and which of our addresses it knows us by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
}

impl From<SocketAddr> for Endpoint {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}

/// A peer. What changes is behind one lock, taken once for a batch of packets.
pub(super) struct Peer {
    pub(super) key: PublicKey,
    /// The upper 24 bits of the indices that its packets carry.
    pub(super) id: u32,
    pub(super) live: Mutex<Live>,
}

/// What changes about a peer.
pub(super) struct Live {
    pub(super) tunnel: Tunn,
    pub(super) config: PeerConfig,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) flows: Flows,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
}

impl Peer {
    pub(super) fn new(
        id: u32,
        config: PeerConfig,
        own: &PrivateKey,
        admitted: &Arc<RateLimiter>,
        flows: Flows,
    ) -> Self {
        let tunnel = tunnel(id, &config, own, admitted);
        let endpoint = config.endpoint.map(Endpoint::from);
        let key = config.key;
        Self { key, id, live: Mutex::new(Live { tunnel, config, endpoint, flows, rx_bytes: 0, tx_bytes: 0 }) }
    }

    /// Takes a changed configuration. The session goes on unless its secrets changed.
    pub(super) fn change(&self, config: PeerConfig, own: &PrivateKey, admitted: &Arc<RateLimiter>) {
        let live = &mut *self.live.lock();
        let secret = |config: &PeerConfig| config.preshared.as_ref().map(|key| *key.as_bytes());
        if secret(&live.config) != secret(&config) || live.config.keepalive != config.keepalive {
            live.tunnel = tunnel(self.id, &config, own, admitted);
        }
        if live.endpoint.is_none() || live.config.endpoint != config.endpoint && config.endpoint.is_some() {
            live.endpoint = config.endpoint.map(Endpoint::from);
        }
        live.config = config;
    }

    pub(super) fn state(&self, now: Instant) -> PeerState {
        let live = self.live.lock();
        PeerState {
            key: self.key,
            endpoint: live.endpoint.map(|endpoint| endpoint.remote),
            last_handshake: live.tunnel.time_since_last_handshake().and_then(|ago| now.checked_sub(ago)),
            rx_bytes: live.rx_bytes,
            tx_bytes: live.tx_bytes,
        }
    }
}

impl Live {
    /// Whether the peer may send from, and be sent to at, this address.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        self.config.allowed.iter().any(|net| net.contains(&address))
    }

    /// Begins a handshake if none is under way; its first packet is in `scratch`.
    pub(super) fn begin<'a>(&mut self, scratch: &'a mut [u8]) -> Option<(Endpoint, &'a [u8])> {
        let endpoint = self.endpoint?;
        match self.tunnel.format_handshake_initiation(scratch, false) {
            TunnResult::WriteToNetwork(packet) => Some((endpoint, packet)),
            _ => None,
        }
    }
}

fn tunnel(id: u32, config: &PeerConfig, own: &PrivateKey, admitted: &Arc<RateLimiter>) -> Tunn {
    let preshared = config.preshared.as_ref().map(|key| *key.as_bytes());
    let keepalive = config.keepalive.filter(|seconds| *seconds > 0);
    Tunn::new(own.to_x25519(), config.key.to_x25519(), preshared, keepalive, id, Some(Arc::clone(admitted)))
}
