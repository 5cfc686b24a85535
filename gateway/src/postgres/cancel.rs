//! CancelRequest: from a key that the gateway gave out to the backend of that session.
//!
//! A client is told the number of the server's process, since clients show it and look for it in `pg_stat_activity`, and a
//! secret of the gateway's own, never the server's. Whoever sends both back on a connection of the same device has the session
//! ask its server to stop; anybody else is not answered, just as PostgreSQL answers nobody.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sallyport_tailnet::PublicKey;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::greet::Canceller;
use super::wire::{CancelKey, ProtocolVersion};

/// The keys of all live sessions, by their servers' process; several servers may have one of the same number.
#[derive(Clone, Default)]
pub struct Cancels(Arc<Mutex<HashMap<u32, Vec<Entry>>>>);

struct Entry {
    secret: Vec<u8>,
    device: PublicKey,
    wishes: mpsc::Sender<Wish>,
}

/// Somebody waits for a cancellation to be passed on.
pub(super) type Wish = oneshot::Sender<()>;

/// A session's place among those that can be cancelled; leaving the scope takes it off.
pub(super) struct Place {
    cancels: Cancels,
    key: CancelKey,
}

impl Cancels {
    /// A new key for a session of `device` with the server's `process` that speaks `version`, and what comes in for it.
    pub(super) fn enter(
        &self,
        device: PublicKey,
        version: ProtocolVersion,
        process: Option<u32>,
    ) -> (Place, mpsc::Receiver<Wish>) {
        let long = version >= ProtocolVersion::V3_2;
        let secret = if long { rand::random::<[u8; 32]>().to_vec() } else { rand::random::<[u8; 4]>().to_vec() };
        let (sender, wishes) = mpsc::channel(1);
        // Drivers hold it in a signed number, and show it.
        let process = process.unwrap_or_else(|| rand::random::<u32>() >> 1);
        let entry = Entry { secret: secret.clone(), device, wishes: sender };
        self.0.lock().entry(process).or_default().push(entry);
        (Place { cancels: self.clone(), key: CancelKey { process, secret } }, wishes)
    }

    /// Passes a client's request on, if the session is of the same `device`, and closes its connection.
    pub async fn deliver(&self, device: PublicKey, canceller: Canceller) {
        let Canceller { key, mut leg } = canceller;
        let wishes = self.0.lock().get(&key.process).and_then(|entries| {
            let mut fitting = entries.iter().filter(|entry| same(&entry.secret, &key.secret) && entry.device == device);
            fitting.next().map(|entry| entry.wishes.clone())
        });
        if let Some(wishes) = wishes {
            let (done, passed_on) = oneshot::channel();
            // Where one is under way already, this one has nothing to add.
            if wishes.try_send(done).is_ok() {
                let _ = timeout(PATIENCE, passed_on).await;
            }
        }
        let _ = timeout(PATIENCE, leg.shutdown()).await;
    }
}

impl Place {
    /// The key that the client is told.
    pub(super) fn key(&self) -> &CancelKey {
        &self.key
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let hash_map::Entry::Occupied(mut entries) = self.cancels.0.lock().entry(self.key.process) {
            entries.get_mut().retain(|session| session.secret != self.key.secret);
            if entries.get().is_empty() {
                let _nobody = entries.remove();
            }
        }
    }
}

impl fmt::Debug for Cancels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancels({})", self.0.lock().len())
    }
}

/// Compares in a time that does not tell where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// How long a request may take to be passed on.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_left_cannot_be_cancelled() {
        let cancels = Cancels::default();
        let (place, _wishes) = cancels.enter(PublicKey::from([1; 32]), ProtocolVersion::V3_0, Some(7));
        assert_eq!(place.key().secret.len(), 4);
        // Another server's process of the same number.
        let (long, _wishes) = cancels.enter(PublicKey::from([1; 32]), ProtocolVersion::V3_2, Some(7));
        assert_eq!(long.key().secret.len(), 32);
        assert_eq!((place.key().process, long.key().process, cancels.0.lock()[&7].len()), (7, 7, 2));
        drop(place);
        assert_eq!(cancels.0.lock()[&7].len(), 1);
        drop(long);
        assert!(cancels.0.lock().is_empty());
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(same(b"abcd", b"abcd") && !same(b"abcd", b"abce") && !same(b"abcd", b"abc") && same(b"", b""));
    }
}
