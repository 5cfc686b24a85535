//! Connections that are half open, or open and not yet accepted: a bounded number, and a share of it for each device.
//!
//! A SYN takes a place before it is answered, so that a flood of them takes no memory beyond these places, and one
//! device's flood leaves room for others. Without a place a SYN is dropped, and the device's own TCP tries again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::connection::Connection;

/// The places.
#[derive(Debug)]
pub(super) struct Backlog {
    opened: mpsc::Sender<Opened>,
    shares: Arc<Shares>,
}

/// A connection that is open, with its place until somebody has accepted it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) connection: Arc<Connection>,
    _share: Share,
}

/// A place for a connection that is half open.
#[derive(Debug)]
pub(super) struct Place {
    permit: mpsc::OwnedPermit<Opened>,
    share: Share,
}

type Shares = Mutex<HashMap<IpAddr, usize>>;

#[derive(Debug)]
struct Share {
    device: IpAddr,
    shares: Arc<Shares>,
}

impl Backlog {
    pub(super) fn new() -> (Self, mpsc::Receiver<Opened>) {
        let (opened, receiver) = mpsc::channel(PLACES);
        (Self { opened, shares: Arc::default() }, receiver)
    }

    /// A place for another connection of this device.
    pub(super) fn reserve(&self, device: IpAddr) -> Option<Place> {
        let share = Share::take(device, &self.shares)?;
        let permit = self.opened.clone().try_reserve_owned().ok()?;
        Some(Place { permit, share })
    }
}

impl Place {
    /// Hands the connection over to whoever accepts.
    pub(super) fn open(self, connection: Arc<Connection>) {
        let _sender = self.permit.send(Opened { connection, _share: self.share });
    }
}

impl Share {
    fn take(device: IpAddr, shares: &Arc<Shares>) -> Option<Self> {
        let mut taken = shares.lock();
        let own = taken.entry(device).or_default();
        if *own >= PER_DEVICE {
            return None;
        }
        *own += 1;
        Some(Self { device, shares: Arc::clone(shares) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        if let Some(own) = taken.get_mut(&self.device) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.device);
            }
        }
    }
}

/// Places for all devices together.
const PLACES: usize = 1024;
/// Places for one device.
pub(super) const PER_DEVICE: usize = 128;
