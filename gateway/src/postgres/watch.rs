//! Looks at the frames of both directions: what somebody wants to know of them, and what becomes of them.

use std::time::Instant;

use parking_lot::Mutex;
use sallyport_recorder::Event;

use super::observe::Observer;
use super::relay::{Fate, Watcher};
use super::wire::{ErrorFields, Frame, HEAD_MAX, Header, backend, frontend};
use crate::access::PostgresPermit;

/// What both directions of one session know.
pub(super) struct Watch {
    began: Instant,
    shared: Mutex<Shared>,
}

struct Shared {
    observer: Observer,
    /// The client has said goodbye, or the server that the session is over.
    over: bool,
}

/// Looks at what the client sends.
pub(super) struct OfClient<'a>(&'a Watch);

/// Looks at what the server sends.
pub(super) struct OfServer<'a>(&'a Watch);

impl Watch {
    /// Of a session that begins now.
    pub(super) fn new(permit: &PostgresPermit) -> Self {
        let observer = Observer::new(permit.capability().parameters);
        Self { began: Instant::now(), shared: Mutex::new(Shared { observer, over: false }) }
    }

    pub(super) fn of_client(&self) -> OfClient<'_> {
        OfClient(self)
    }

    pub(super) fn of_server(&self) -> OfServer<'_> {
        OfServer(self)
    }

    /// Whether one side has said that the session is over.
    pub(super) fn is_over(&self) -> bool {
        self.shared.lock().over
    }
}

impl Watcher for OfClient<'_> {
    fn wants(&self, header: Header) -> usize {
        match header.tag {
            frontend::COPY_DATA => 0,
            _ => HEAD_MAX,
        }
    }

    fn sees(&mut self, frame: Frame<'_>, _at_hand: &[u8], events: &mut Vec<Event>) -> Fate {
        let mut shared = self.0.shared.lock();
        shared.observer.client_sent(self.0.began.elapsed(), frame, events);
        shared.over |= frame.tag == frontend::TERMINATE;
        Fate::Pass
    }
}

impl Watcher for OfServer<'_> {
    fn wants(&self, header: Header) -> usize {
        match header.tag {
            backend::DATA_ROW | backend::COPY_DATA => 0,
            _ => HEAD_MAX,
        }
    }

    fn sees(&mut self, frame: Frame<'_>, _at_hand: &[u8], events: &mut Vec<Event>) -> Fate {
        let mut shared = self.0.shared.lock();
        shared.observer.server_sent(self.0.began.elapsed(), frame, events);
        if frame.tag == backend::ERROR {
            shared.over |= matches!(ErrorFields::read(frame.head).severity.as_str(), "FATAL" | "PANIC");
        }
        Fate::Pass
    }
}
