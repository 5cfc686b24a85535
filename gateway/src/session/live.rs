//! The sessions that are going on, so that they can be counted, ended, and waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sallyport_recorder::SessionId;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::sight::Sight;
use crate::failure::Ending;

/// All live sessions of this gateway.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sessions: Mutex<HashMap<SessionId, Entry>>,
    settled: Notify,
}

#[derive(Debug)]
struct Entry {
    ending: watch::Sender<Option<Ending>>,
    judged_by: u64,
    sight: Sight,
}

/// A live session's place in the list; leaving the scope takes it off.
#[derive(Debug)]
pub(super) struct Place {
    live: Live,
    id: SessionId,
}

impl Live {
    /// Lists a session, not judged by any world yet.
    pub(super) fn enter(&self, id: SessionId, sight: Sight) -> (Place, watch::Receiver<Option<Ending>>) {
        let (ending, ended) = watch::channel(None);
        self.0.sessions.lock().insert(id, Entry { ending, judged_by: 0, sight });
        (Place { live: self.clone(), id }, ended)
    }

    /// How many sessions are going on.
    pub fn count(&self) -> usize {
        self.0.sessions.lock().len()
    }

    /// Tells the session `id` to end; whether it was there.
    pub fn end(&self, id: SessionId, ending: Ending) -> bool {
        let sessions = self.0.sessions.lock();
        let Some(entry) = sessions.get(&id) else { return false };
        tell(entry, &ending);
        true
    }

    /// Lets an operator look at the session `id` for some seconds; `None` when it is not there, or else why not all of it
    /// can be seen, if that is so.
    pub fn look(&self, id: SessionId) -> Option<Option<String>> {
        self.0.sessions.lock().get(&id).map(|entry| entry.sight.look(id))
    }

    /// Waits until the session `id` has ended, for `patience` at most; says whether it has.
    pub async fn gone(&self, id: SessionId, patience: Duration) -> bool {
        self.wait_until(patience, |sessions| !sessions.contains_key(&id)).await
    }

    /// Tells every session to end.
    pub fn end_all(&self, ending: &Ending) {
        for entry in self.0.sessions.lock().values() {
            tell(entry, ending);
        }
    }

    /// Waits until every session has been judged by the world of `revision` or a later one, and those that it does not
    /// allow are gone. Gives up after `patience`; says whether all had settled.
    pub async fn settled(&self, revision: u64, patience: Duration) -> bool {
        self.wait_until(patience, |sessions| sessions.values().all(|entry| entry.judged_by >= revision)).await
    }

    /// Waits until no session is left, for `patience` at most; says whether that came to be.
    pub async fn empty(&self, patience: Duration) -> bool {
        self.wait_until(patience, HashMap::is_empty).await
    }

    async fn wait_until(&self, patience: Duration, done: impl Fn(&HashMap<SessionId, Entry>) -> bool) -> bool {
        let waiting = async {
            loop {
                let mut settled = std::pin::pin!(self.0.settled.notified());
                settled.as_mut().enable();
                if done(&self.0.sessions.lock()) {
                    return;
                }
                settled.await;
            }
        };
        timeout(patience, waiting).await.is_ok()
    }
}

impl Place {
    /// The world of `revision` still allows this session.
    pub(super) fn judged(&self, revision: u64) {
        if let Some(entry) = self.live.0.sessions.lock().get_mut(&self.id) {
            entry.judged_by = revision;
        }
        self.live.0.settled.notify_waiters();
    }

    /// Tells the session to end, unless it has been told already.
    pub(super) fn end(&self, ending: Ending) {
        self.live.end(self.id, ending);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.0.sessions.lock().remove(&self.id);
        self.live.0.settled.notify_waiters();
    }
}

fn tell(entry: &Entry, ending: &Ending) {
    entry.ending.send_if_modified(|told| {
        let first = told.is_none();
        if first {
            *told = Some(ending.clone());
        }
        first
    });
}
