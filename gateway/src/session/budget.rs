//! What the connections of one device may have waiting in the gateway's memory, however many there are.
//!
//! A window that a peer was given cannot be taken back (RFC 4254, section 5.2), so what counts is what peers may send, not
//! what they have sent. Everybody takes a share of what is left, never all of it: those that hold much and do nothing leave
//! enough for the next. What is small is given from the last quarter too, which large shares do not reach into. All shares of
//! one session are within two thirds of its device's budget: a target that has windows grow and then falls silent leaves the
//! rest to the device's other sessions.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sallyport_tailnet::PublicKey;

/// The budgets of all devices that are connected.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<HashMap<PublicKey, Weak<Device>>>);

impl Budgets {
    /// A new session's part of the one of `device`.
    pub(super) fn of(&self, device: PublicKey) -> Arc<Budget> {
        let mut devices = self.0.lock();
        let known = devices.get(&device).and_then(Weak::upgrade);
        let device = known.unwrap_or_else(|| {
            devices.retain(|_, budget| budget.strong_count() > 0);
            let budget = Arc::default();
            devices.insert(device, Arc::downgrade(&budget));
            budget
        });
        Arc::new(Budget { device, taken: Mutex::default() })
    }
}

/// The bytes that the peers of all of a device's connections may send ahead.
#[derive(Debug, Default)]
struct Device {
    taken: Mutex<usize>,
}

/// The bytes that the peers of one session may send ahead.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    device: Arc<Device>,
    /// Locked before the device's.
    taken: Mutex<usize>,
}

impl Budget {
    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }

    /// Takes a share of `held` bytes back, and gives one of `wanted` bytes or as many as are allowed, `least` in any case.
    fn exchange(&self, held: usize, wanted: usize, least: usize) -> usize {
        let (mut here, mut device) = (self.taken.lock(), self.device.taken.lock());
        let (others_here, others) = (*here - held, *device - held);
        let given = wanted.min(allowed(others, DEVICE)).min(allowed(others_here, SESSION)).max(least);
        (*here, *device) = (others_here + given, others + given);
        given
    }
}

/// One holder's part of a budget; leaving the scope gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Makes it `wanted` bytes large, or as large as the budget allows, `least` whatever it allows; says how large it is now.
    pub(crate) fn resize(&mut self, wanted: usize, least: usize) -> usize {
        self.bytes = self.budget.exchange(self.bytes, wanted, least);
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.exchange(self.bytes, 0, 0);
    }
}

/// What may be taken.
struct Limits {
    /// In all, in bytes.
    all: usize,
    /// What of it large shares may take, in bytes.
    large: usize,
    /// One of them is at most this part of what is left of that.
    large_part: usize,
    /// A small share is at most this part of all that is left.
    small_part: usize,
}

/// How large a share may be beside `others`.
fn allowed(others: usize, limits: Limits) -> usize {
    let large = limits.large.saturating_sub(others) / limits.large_part;
    let small = limits.all.saturating_sub(others) / limits.small_part;
    large.max(small.min(SMALL))
}

/// Of a device: the first eight can be of 2 MB.
const DEVICE: Limits = Limits { all: 32 << 20, large: 24 << 20, large_part: 5, small_part: 64 };
/// Of a session: two thirds of that, and the first five can be of 2 MB.
const SESSION: Limits = Limits { all: 21 << 20, large: 16 << 20, large_part: 4, small_part: 42 };
/// The largest small share, in bytes: what a channel's window begins with, which has room for a packet.
pub(crate) const SMALL: usize = 48 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = 4 << 10;

    /// As many shares as there are in `wanted`.
    fn shares(budget: &Arc<Budget>, wanted: impl IntoIterator<Item = usize>) -> Vec<Share> {
        let share = |wanted| {
            let mut share = budget.share();
            share.resize(wanted, LEAST);
            share
        };
        wanted.into_iter().map(share).collect()
    }

    fn bytes(shares: &[Share]) -> usize {
        shares.iter().map(|share| share.bytes).sum()
    }

    /// As many sessions of one device.
    fn sessions<const MANY: usize>() -> [Arc<Budget>; MANY] {
        let budgets = Budgets::default();
        [(); MANY].map(|()| budgets.of(PublicKey::from([1; 32])))
    }

    #[test]
    fn a_thousand_that_want_much_take_no_more_than_there_is() {
        let sessions = sessions::<10>();
        let taken = sessions.each_ref().map(|budget| shares(budget, std::iter::repeat_n(2 << 20, 100)));
        let held: usize = taken.iter().map(|shares| bytes(shares)).sum();
        assert!(held <= DEVICE.all + 1_000 * LEAST, "{held}");
        drop(taken);
        assert!(sessions.iter().all(|budget| (*budget.taken.lock(), *budget.device.taken.lock()) == (0, 0)));
    }

    #[test]
    fn bulk_on_several_connections_has_all_that_it_needs() {
        let one_each = sessions::<8>().map(|budget| shares(&budget, [2 << 20]));
        assert!(one_each.iter().flatten().all(|share| share.bytes == 2 << 20));
        let [session] = sessions();
        assert_eq!(bytes(&shares(&session, [2 << 20; 5])), 10 << 20);
    }

    #[test]
    fn a_session_that_takes_all_it_can_leaves_a_third_to_the_others() {
        let [greedy, other] = sessions();
        let taken = shares(&greedy, std::iter::repeat_n(2 << 20, 300));
        assert!(bytes(&taken) <= SESSION.all + taken.len() * LEAST, "{}", bytes(&taken));
        assert!(other.share().resize(2 << 20, LEAST) >= 512 << 10);
        let small = shares(&other, std::iter::repeat_n(SMALL, 50));
        assert_eq!(bytes(&small), 50 * SMALL);
    }

    #[test]
    fn those_that_hold_much_leave_something_for_those_that_want_little() {
        let [budget, other] = sessions();
        let _hogs = [&budget, &other].map(|budget| shares(budget, std::iter::repeat_n(2 << 20, 8)));
        let mut next = budget.share();
        assert!(next.resize(2 << 20, LEAST) >= 256 << 10, "{next:?}");
        let small = shares(&budget, std::iter::repeat_n(SMALL, 50));
        assert_eq!(bytes(&small), 50 * SMALL);
    }

    #[test]
    fn those_that_go_on_asking_end_up_with_the_same() {
        let budget = Arc::default();
        let mut all = shares(&budget, std::iter::repeat_n(2 << 20, 40));
        for _round in 0..100 {
            for share in &mut all {
                share.resize(2 << 20, share.bytes * 3 / 4);
            }
        }
        let (smallest, largest) =
            (all.iter().map(|share| share.bytes).min(), all.iter().map(|share| share.bytes).max());
        assert!(smallest.unwrap() > 250 << 10 && largest.unwrap() < 500 << 10, "{smallest:?} {largest:?}");
    }

    #[test]
    fn devices_have_nothing_to_do_with_each_other() {
        let budgets = Budgets::default();
        let [greedy, greedy_too, other] = [1, 1, 2].map(|key| budgets.of(PublicKey::from([key; 32])));
        let _taken = [&greedy, &greedy_too].map(|budget| shares(budget, std::iter::repeat_n(2 << 20, 1_000)));
        assert!(Arc::ptr_eq(&greedy.device, &greedy_too.device));
        assert_eq!(other.share().resize(2 << 20, LEAST), 2 << 20);
        drop((greedy, greedy_too, other, _taken));
        let _third = budgets.of(PublicKey::from([3; 32]));
        assert_eq!(budgets.0.lock().len(), 1, "devices that have gone leave nothing behind");
    }
}
