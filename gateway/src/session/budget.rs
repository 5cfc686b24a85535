//! What the connections of one device may have waiting in the gateway's memory, however many there are.
//!
//! A window that a peer was given cannot be taken back (RFC 4254, section 5.2), so what counts is what peers may send, not
//! what they have sent. Everybody takes a share of what is left, never all of it: those that hold much and do nothing leave
//! enough for the next. What is small is given from the last quarter too, which large shares do not reach into.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sallyport_tailnet::PublicKey;

/// The budgets of all devices that are connected.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<HashMap<PublicKey, Weak<Budget>>>);

impl Budgets {
    /// The one of `device`, which all of its connections share.
    pub(super) fn of(&self, device: PublicKey) -> Arc<Budget> {
        let mut budgets = self.0.lock();
        if let Some(budget) = budgets.get(&device).and_then(Weak::upgrade) {
            return budget;
        }
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::<Budget>::default();
        budgets.insert(device, Arc::downgrade(&budget));
        budget
    }
}

/// The bytes that the peers of one device's connections may send ahead.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    taken: Mutex<usize>,
}

impl Budget {
    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
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
        let mut taken = self.budget.taken.lock();
        let others = *taken - self.bytes;
        self.bytes = wanted.min(allowed(others)).max(least);
        *taken = others + self.bytes;
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.taken.lock() -= self.bytes;
    }
}

/// How large a share may be beside `others`.
fn allowed(others: usize) -> usize {
    let large = LARGE.saturating_sub(others) / LARGE_PART;
    let small = ALL.saturating_sub(others) / SMALL_PART;
    large.max(small.min(SMALL))
}

/// The budget of a device, in bytes.
const ALL: usize = 32 << 20;
/// What of it large shares may take, in bytes.
const LARGE: usize = 24 << 20;
/// One of them is at most a fifth of what is left of that, so that the first eight can be of 2 MB.
const LARGE_PART: usize = 5;
/// The largest small share, in bytes.
const SMALL: usize = 32 << 10;
/// One of them is at most this part of all that is left.
const SMALL_PART: usize = 64;

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

    #[test]
    fn a_thousand_that_want_much_take_no_more_than_there_is() {
        let budget = Arc::default();
        let taken = shares(&budget, std::iter::repeat_n(2 << 20, 1_000));
        assert!(bytes(&taken) <= ALL + taken.len() * LEAST, "{}", bytes(&taken));
        assert!(taken.iter().take(8).all(|share| share.bytes == 2 << 20), "eight at full size");
        drop(taken);
        assert_eq!(*budget.taken.lock(), 0);
    }

    #[test]
    fn those_that_hold_much_leave_something_for_those_that_want_little() {
        let budget = Arc::default();
        let _hogs = shares(&budget, std::iter::repeat_n(2 << 20, 16));
        let mut next = budget.share();
        assert!(next.resize(2 << 20, LEAST) >= 256 << 10, "{next:?}");
        let small = shares(&budget, std::iter::repeat_n(SMALL, 100));
        assert_eq!(bytes(&small), 100 * SMALL);
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
        assert!(smallest.unwrap() > 400 << 10 && largest.unwrap() < 700 << 10, "{smallest:?} {largest:?}");
    }

    #[test]
    fn devices_have_nothing_to_do_with_each_other() {
        let budgets = Budgets::default();
        let [greedy, other] = [1, 2].map(|key| budgets.of(PublicKey::from([key; 32])));
        let _taken = shares(&greedy, std::iter::repeat_n(2 << 20, 1_000));
        assert!(Arc::ptr_eq(&greedy, &budgets.of(PublicKey::from([1; 32]))));
        assert_eq!(other.share().resize(2 << 20, LEAST), 2 << 20);
        drop((greedy, other, _taken));
        let _third = budgets.of(PublicKey::from([3; 32]));
        assert_eq!(budgets.0.lock().len(), 1, "devices that have gone leave nothing behind");
    }
}
