//! Looks at the frames of both directions: judges what is asked, counts what comes back, and writes both down.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use sallyport_recorder::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::judge::{self, Judge};
use super::limits::{Bound, Limits};
use super::observe::Observer;
use super::relay::{Fate, Look, Watcher};
use super::wire::{ErrorFields, Frame, HEAD_MAX, HEADER, Header, backend, frontend};
use crate::access::PostgresPermit;

/// What both directions of one session know.
pub(super) struct Watch {
    began: Instant,
    read_only: bool,
    /// Statements are judged.
    judges: bool,
    /// A statement is to be stopped.
    stop: Notify,
    /// Something was answered.
    answered: Notify,
    shared: Mutex<Shared>,
}

struct Shared {
    observer: Observer,
    judge: Judge,
    limits: Limits,
    /// The client has said goodbye, or the server that the session is over.
    over: bool,
    /// The session was ended here; nothing more is passed on.
    cut: bool,
    /// The client's side waits until something is answered.
    awaited: bool,
}

/// Looks at what the client sends.
pub(super) struct OfClient(pub(super) Arc<Watch>);

/// Looks at what the server sends.
pub(super) struct OfServer(pub(super) Arc<Watch>);

/// One look at what one side has sent.
pub(super) struct Sight<'a> {
    watch: &'a Watch,
    shared: MutexGuard<'a, Shared>,
    /// When it came, from the session's beginning on.
    at: Duration,
}

/// One look at what the client has sent.
pub(super) struct ClientSight<'a>(Sight<'a>);

/// One look at what the server has sent.
pub(super) struct ServerSight<'a>(Sight<'a>);

impl Watch {
    /// Of a session under `permit` that begins now.
    pub(super) fn new(permit: &PostgresPermit, judge: Judge) -> Self {
        let observer = Observer::new(permit.capability().parameters);
        Self {
            began: Instant::now(),
            read_only: permit.capability().is_read_only(),
            judges: judge.judges(),
            stop: Notify::new(),
            answered: Notify::new(),
            shared: Mutex::new(Shared {
                observer,
                judge,
                limits: Limits::new(permit),
                over: false,
                cut: false,
                awaited: false,
            }),
        }
    }

    /// Resolves when a statement is to be stopped.
    pub(super) async fn to_be_stopped(&self) {
        self.stop.notified().await;
    }

    /// Whether one side has said that the session is over.
    pub(super) fn is_over(&self) -> bool {
        self.shared.lock().over
    }

    /// Whether the session was ended here.
    pub(super) fn is_cut(&self) -> bool {
        self.shared.lock().cut
    }

    /// Whether the server has something to answer yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.lock().observer.is_waiting()
    }

    /// Whether so much is unanswered that the client has to wait. Then it is told when something was answered.
    fn is_full(&self) -> bool {
        let mut shared = self.shared.lock();
        shared.awaited = shared.observer.is_full();
        shared.awaited
    }

    /// The events of what was running when the session ended.
    pub(super) fn finish(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.shared.lock().observer.finish(self.began.elapsed(), &mut events);
        events
    }

    fn look(&self, now: Instant) -> Sight<'_> {
        Sight { watch: self, shared: self.shared.lock(), at: now.saturating_duration_since(self.began) }
    }
}

/// What a panic leaves half seen, nobody goes by: nothing more is passed on.
impl Drop for Sight<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.shared.over, self.shared.cut) = (true, true);
        }
    }
}

impl Watcher for OfClient {
    type Look<'a> = ClientSight<'a>;

    fn look(&mut self, now: Instant) -> ClientSight<'_> {
        ClientSight(self.0.look(now))
    }

    async fn room(&self) {
        while self.0.is_full() {
            self.0.answered.notified().await;
        }
    }

    fn is_done(&self) -> bool {
        false
    }
}

impl Look for ClientSight<'_> {
    fn wants(&self, header: Header) -> usize {
        match header.tag {
            frontend::COPY_DATA => 0,
            tag if self.0.watch.judges => judge::wants(tag).unwrap_or(HEAD_MAX),
            _ => HEAD_MAX,
        }
    }

    fn sees(&mut self, frame: Frame<'_>, at_hand: &[u8], events: &mut Vec<Event>) -> Fate {
        let Sight { shared, at, .. } = &mut self.0;
        if shared.cut {
            return Fate::Drop;
        }
        let refused = shared.judge.refuses(frame, at_hand);
        if let Some(refused) = &refused {
            shared.observer.refused(&refused.text, &refused.refusal, events);
        }
        // The server answers what was refused as well: with an error.
        shared.observer.client_sent(*at, frame, events);
        shared.over |= frame.tag == frontend::TERMINATE;
        refused.map_or(Fate::Pass, |refused| Fate::Replace(refused.substitute))
    }

    fn sees_more(&mut self, bytes: &[u8]) {
        self.0.shared.observer.client_sent_more(bytes);
    }
}

impl Watcher for OfServer {
    type Look<'a> = ServerSight<'a>;

    fn look(&mut self, now: Instant) -> ServerSight<'_> {
        ServerSight(self.0.look(now))
    }

    async fn room(&self) {}

    /// The last words have been said to the client: it may not stay, whether or not it goes by itself.
    fn is_done(&self) -> bool {
        self.0.is_cut()
    }
}

impl Look for ServerSight<'_> {
    fn wants(&self, header: Header) -> usize {
        match header.tag {
            backend::DATA_ROW | backend::COPY_DATA => 0,
            _ => HEAD_MAX,
        }
    }

    fn sees(&mut self, frame: Frame<'_>, _: &[u8], events: &mut Vec<Event>) -> Fate {
        let Sight { watch, shared, at } = &mut self.0;
        if shared.cut {
            return Fate::Drop;
        }
        let fate = shared.fate(watch, frame);
        match &fate {
            // What is written down is what the client is told.
            Fate::Replace(bytes) => {
                let payload = bytes.get(HEADER..).unwrap_or_default();
                let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                let told = Frame { tag: backend::ERROR, length, head: payload };
                shared.observer.server_sent(*at, told, events);
            }
            Fate::Pass => shared.observer.server_sent(*at, frame, events),
            Fate::Drop => {}
        }
        if shared.awaited && !matches!(frame.tag, backend::DATA_ROW | backend::COPY_DATA) {
            watch.answered.notify_one();
        }
        fate
    }

    fn sees_more(&mut self, _: &[u8]) {}
}

impl Shared {
    fn fate(&mut self, watch: &Watch, frame: Frame<'_>) -> Fate {
        match frame.tag {
            backend::ERROR => {
                self.over |= matches!(ErrorFields::read(frame.head).severity.as_str(), "FATAL" | "PANIC");
                if let Some(error) = self.judge.answer(frame.head) {
                    return Fate::Replace(error);
                }
            }
            backend::PARAMETER => {
                self.judge.reported(frame.head);
                // Since version 14 the server says so when a session is not read-only any more.
                if watch.read_only && frame.head == READ_ONLY_OFF {
                    return self.cut_off(super::refuse::not_read_only());
                }
            }
            _ => {}
        }
        match self.limits.count(frame) {
            Bound::Within => Fate::Pass,
            Bound::HeldBack => Fate::Drop,
            Bound::Exceeded => {
                watch.stop.notify_one();
                Fate::Drop
            }
            Bound::Stopped(error) => Fate::Replace(error),
            Bound::TooLate(error) => self.cut_off(error),
        }
    }

    /// Ends the session with these last words.
    fn cut_off(&mut self, error: Vec<u8>) -> Fate {
        (self.over, self.cut) = (true, true);
        Fate::Replace(error)
    }
}

const READ_ONLY_OFF: &[u8] = b"default_transaction_read_only\0off\0";
