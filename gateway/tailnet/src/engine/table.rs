//! Who is who: peers by key, by the index in their packets, and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::peer::Peer;
use crate::{Error, PublicKey};

/// All peers.
#[derive(Default)]
pub(super) struct Table {
    by_key: HashMap<PublicKey, Arc<Peer>>,
    by_id: HashMap<u32, Arc<Peer>>,
    /// Single addresses, which is all that a gateway's peers have.
    hosts: HashMap<IpAddr, Arc<Peer>>,
    /// Wider networks, the narrowest first.
    networks: Vec<(IpNet, Arc<Peer>)>,
    next_id: u32,
}

impl Table {
    pub(super) fn by_key(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.by_key.get(key)
    }

    /// The peer whose packets carry this index.
    pub(super) fn by_index(&self, index: u32) -> Option<&Arc<Peer>> {
        self.by_id.get(&(index >> SESSION_BITS))
    }

    /// The peer that has this address.
    pub(super) fn by_address(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.hosts
            .get(&address)
            .or_else(|| self.networks.iter().find(|(network, _)| network.contains(&address)).map(|(_, peer)| peer))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values()
    }

    /// An id that no peer has.
    pub(super) fn free_id(&mut self) -> u32 {
        loop {
            self.next_id = (self.next_id + 1) & MAX_ID;
            if !self.by_id.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Fails when another peer than `key` has one of these networks.
    pub(super) fn check(&self, key: PublicKey, allowed: &[IpNet]) -> Result<(), Error> {
        for network in allowed {
            let host = self.hosts.get(&network.addr()).filter(|_| is_host(network));
            let wide = || self.networks.iter().find(|(taken, _)| taken == network).map(|(_, peer)| peer);
            if let Some(owner) = host.or_else(wide).filter(|owner| owner.key != key) {
                return Err(Error::AddressTaken { address: *network, owner: owner.key });
            }
        }
        Ok(())
    }

    /// Adds a peer, or gives a known one other networks.
    pub(super) fn insert(&mut self, peer: &Arc<Peer>, allowed: &[IpNet]) {
        if self.by_key.insert(peer.key, Arc::clone(peer)).is_some() {
            self.forget_addresses(peer.id);
        }
        self.by_id.insert(peer.id, Arc::clone(peer));
        for network in allowed {
            if is_host(network) {
                self.hosts.insert(network.addr(), Arc::clone(peer));
            } else {
                self.networks.push((network.trunc(), Arc::clone(peer)));
            }
        }
        self.networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
    }

    pub(super) fn remove(&mut self, key: &PublicKey) -> Option<Arc<Peer>> {
        let peer = self.by_key.remove(key)?;
        self.by_id.remove(&peer.id);
        self.forget_addresses(peer.id);
        Some(peer)
    }

    fn forget_addresses(&mut self, id: u32) {
        self.hosts.retain(|_, peer| peer.id != id);
        self.networks.retain(|(_, peer)| peer.id != id);
    }
}

fn is_host(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// A packet's index is the peer's id and, below it, eight bits for its sessions (boringtun's division).
const SESSION_BITS: u32 = 8;
/// The largest id that leaves room for [`SESSION_BITS`].
const MAX_ID: u32 = u32::MAX >> SESSION_BITS;
