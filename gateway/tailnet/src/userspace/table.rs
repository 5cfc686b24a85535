//! Which connection a packet belongs to, and how many there may be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::connection::Connection;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    /// An address and port of the gateway's or of a target.
    pub(super) here: SocketAddr,
    /// The device's.
    pub(super) device: SocketAddr,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_ends: HashMap<Ends, Arc<Connection>>,
    of_device: HashMap<IpAddr, usize>,
}

impl Table {
    pub(super) fn find(&self, ends: &Ends) -> Option<&Arc<Connection>> {
        self.by_ends.get(ends)
    }

    /// Whether another connection with this device fits.
    pub(super) fn has_room(&self, device: IpAddr) -> bool {
        let own = self.of_device.get(&device).copied().unwrap_or_default();
        own < PER_DEVICE && (self.by_ends.len() < IN_TOTAL || own < GUARANTEED)
    }

    pub(super) fn insert(&mut self, connection: &Arc<Connection>) {
        if self.by_ends.insert(connection.ends, Arc::clone(connection)).is_none() {
            *self.of_device.entry(connection.ends.device.ip()).or_default() += 1;
        }
    }

    /// Forgets this very connection; a later one with the same ends stays.
    pub(super) fn remove(&mut self, connection: &Connection) {
        if self.by_ends.get(&connection.ends).is_some_and(|known| known.id == connection.id) {
            self.by_ends.remove(&connection.ends);
            let device = connection.ends.device.ip();
            if let Some(count) = self.of_device.get_mut(&device) {
                *count -= 1;
                if *count == 0 {
                    self.of_device.remove(&device);
                }
            }
        }
    }

    /// Those of one device, or all.
    pub(super) fn of(&self, device: Option<IpAddr>) -> Vec<Arc<Connection>> {
        let wanted = |connection: &&Arc<Connection>| device.is_none_or(|device| connection.ends.device.ip() == device);
        self.by_ends.values().filter(wanted).cloned().collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_ends.len()
    }
}

/// Connections that one device address may have at a time: as many as it may have flows.
const PER_DEVICE: usize = 4096;
/// Connections at a time, but for [`GUARANTEED`]. One that is idle takes some six kilobytes, one that was used to its
/// limits half a megabyte.
const IN_TOTAL: usize = 16_384;
/// Connections that a device may have even when others have taken all.
const GUARANTEED: usize = 16;
