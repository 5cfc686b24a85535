//! How many of something there may be at the same time, and how many of them one holder may have: connections of a device,
//! questions of an address that wait for a resolver.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts what each holder has.
#[derive(Debug)]
pub(crate) struct Places<H: Hash + Eq> {
    taken: Arc<Mutex<HashMap<H, usize>>>,
    all: usize,
    each: usize,
}

/// A place that is taken; leaving the scope frees it.
#[derive(Debug)]
pub(crate) struct Place<H: Hash + Eq> {
    taken: Arc<Mutex<HashMap<H, usize>>>,
    holder: H,
}

impl<H: Copy + Hash + Eq> Places<H> {
    /// As many places, of which one holder may have `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { taken: Arc::default(), all, each }
    }

    /// One more place for `holder`, if there is one.
    pub(crate) fn take(&self, holder: H) -> Option<Place<H>> {
        let mut taken = self.taken.lock();
        let own = taken.get(&holder).copied().unwrap_or(0);
        if own >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(holder, own + 1);
        Some(Place { taken: Arc::clone(&self.taken), holder })
    }
}

impl<H: Hash + Eq> Clone for Places<H> {
    fn clone(&self) -> Self {
        Self { taken: Arc::clone(&self.taken), ..*self }
    }
}

impl<H: Hash + Eq> Drop for Place<H> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&self.holder) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.holder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_cannot_take_the_places_of_another_and_all_together_no_more_than_there_are() {
        let places = Places::new(20, 8);
        let held: Vec<_> = std::iter::from_fn(|| places.clone().take(1)).collect();
        assert_eq!(held.len(), 8);
        let others: Vec<_> = (2..100).filter_map(|holder| places.take(holder)).collect();
        assert_eq!(others.len(), 12);
        drop(held);
        assert!(places.take(1).is_some());
        drop(others);
        assert!(places.taken.lock().is_empty(), "whoever has nothing is forgotten");
    }
}
