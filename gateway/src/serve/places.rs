//! How many connections there may be at the same time, and how many of them one device may have.

use std::collections::HashMap;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::Mutex;
use sallyport_tailnet::PublicKey;

/// Counts the connections of each device.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<PublicKey, usize>>>,
    all: usize,
    each: usize,
}

/// A connection's place; leaving the scope frees it.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    device: PublicKey,
}

impl Places {
    /// As many as this process may open files for; it is allowed as many as can be had.
    pub(super) fn of_this_process() -> Self {
        Self::within(descriptors())
    }

    /// As many as `descriptors` last for, so that running out of them ends nobody's recording.
    fn within(descriptors: usize) -> Self {
        let all = (descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_CONNECTION).clamp(1, MAX_CONNECTIONS);
        Self { taken: Arc::default(), all, each: (all / DEVICE_SHARE).clamp(1, MAX_PER_DEVICE) }
    }

    /// A place for one more connection of `device`, if there is one.
    pub(super) fn take(&self, device: PublicKey) -> Option<Place> {
        let mut taken = self.taken.lock();
        if taken.values().sum::<usize>() >= self.all {
            return None;
        }
        let own = taken.entry(device).or_default();
        if *own >= self.each {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), device })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(own) = taken.get_mut(&self.device) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.device);
            }
        }
    }
}

/// Raises the soft limit of open files to the hard one, and says what it is.
fn descriptors() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((DEFAULT_DESCRIPTORS, DEFAULT_DESCRIPTORS));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Connections at the same time, of everyone together, however many descriptors there are.
const MAX_CONNECTIONS: usize = 16_384;
/// Connections at the same time, of one device.
const MAX_PER_DEVICE: usize = 1_024;
/// A device may take so many of the places: one of this many parts.
const DEVICE_SHARE: usize = 2;
/// Descriptors that a session needs at the most: two connections, its recording's folder and those above it, the files that are
/// written (however many channels there are) and as many that are synced, and what is opened in passing.
const DESCRIPTORS_PER_CONNECTION: usize = 16;
/// Descriptors that the gateway itself needs.
const DESCRIPTORS_KEPT: usize = 256;
/// What a process may have open where nobody has said otherwise.
const DEFAULT_DESCRIPTORS: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_cannot_take_the_places_of_another() {
        let places = Places::within(20_000);
        let (greedy, other) = (PublicKey::from([1; 32]), PublicKey::from([2; 32]));
        let held: Vec<_> = std::iter::from_fn(|| places.take(greedy)).collect();
        assert_eq!(held.len(), (20_000 - DESCRIPTORS_KEPT) / DESCRIPTORS_PER_CONNECTION / DEVICE_SHARE);
        assert!(places.take(other).is_some());
        drop(held);
        assert!(places.take(greedy).is_some());
    }
}
