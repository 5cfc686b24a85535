//! When each connection wants to be polled again: one entry for each that waits for a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;

/// All connections that wait for a time, the next first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: Mutex<BTreeMap<(Instant, u64), Arc<Connection>>>,
    earlier: Notify,
}

impl Timers {
    /// Moves a connection from the time it waited for to another.
    pub(super) fn set(&self, connection: &Arc<Connection>, before: Option<Instant>, at: Option<Instant>) {
        let mut waiting = self.waiting.lock();
        if let Some(before) = before {
            waiting.remove(&(before, connection.id));
        }
        if let Some(at) = at {
            let first = waiting.first_key_value().is_none_or(|((first, _), _)| at < *first);
            waiting.insert((at, connection.id), Arc::clone(connection));
            if first {
                self.earlier.notify_one();
            }
        }
    }

    /// Waits for a time to come: the connection whose time it was, and when. Cancel-safe.
    pub(super) async fn next(&self) -> (Instant, Arc<Connection>) {
        loop {
            let next = self.waiting.lock().first_key_value().map(|((at, _), _)| *at);
            match next {
                None => self.earlier.notified().await,
                Some(at) if at <= Instant::now() => {
                    if let Some(((at, _), connection)) = self.waiting.lock().pop_first() {
                        return (at, connection);
                    }
                }
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }
}
