//! What the server's answers say about the first message in the row.

use std::sync::Arc;
use std::time::Duration;

use sallyport_recorder::{DatabaseError, Event, RunBy, Transaction};

use super::expect::{Expect, Named, Parse};
use super::sql::cut;
use super::{Observer, TYPES_MAX};
use crate::postgres::wire::{ErrorFields, Frame, backend, string};

impl Observer {
    /// A frame that the server sent.
    pub fn server_sent(&mut self, at: Duration, frame: Frame<'_>, out: &mut Vec<Event>) {
        match frame.tag {
            backend::NOTICE => {
                self.release(None, out);
                out.push(self.heard(error(frame.head)));
            }
            NOTIFICATION => {
                self.release(None, out);
                out.push(notification(frame.head));
            }
            backend::PARAMETER | backend::KEY_DATA | backend::AUTHENTICATION | backend::NEGOTIATE => {}
            backend::READY => self.ready(at, frame.head.first(), out),
            _ if self.lost => {}
            backend::ERROR => self.failed(at, error(frame.head), out),
            _ => self.answered(at, frame, out),
        }
    }

    fn answered(&mut self, at: Duration, frame: Frame<'_>, out: &mut Vec<Event>) {
        self.pass_over_copy();
        self.ready_maybe = 0;
        let fits = match (frame.tag, self.pending.front_mut()) {
            (backend::DATA_ROW, Some(front)) => {
                front.outcome().map(|outcome| outcome.row(u64::from(frame.length))).is_some()
            }
            (backend::COPY_DATA, Some(front)) => {
                front.outcome().map(|outcome| outcome.copied_out(u64::from(frame.length))).is_some()
            }
            (backend::COMMAND_COMPLETE, Some(_)) => self.complete(at, tag(frame.head), out),
            (backend::EMPTY_QUERY, Some(Expect::Query(query))) => {
                query.done = true;
                true
            }
            (backend::EMPTY_QUERY, Some(Expect::Execute(_))) => self.done(),
            (backend::SUSPENDED, Some(Expect::Execute(_))) => self.suspended(at, out),
            (PARSE_COMPLETE, Some(Expect::Parse(_))) => self.parsed(out),
            (BIND_COMPLETE, Some(Expect::Bind(..))) => self.bound(out),
            (CLOSE_COMPLETE, Some(Expect::Close(_))) => self.closed(out),
            (PARAMETER_DESCRIPTION, Some(Expect::Describe(name))) => {
                if let Some(name) = name.clone() {
                    self.described(&name, frame.head);
                }
                true
            }
            (ROW_DESCRIPTION | NO_DATA, Some(Expect::Describe(_))) => self.done(),
            (ROW_DESCRIPTION, Some(Expect::Query(_) | Expect::Execute(_))) => true,
            (COPY_IN | COPY_BOTH, Some(front @ (Expect::Query(_) | Expect::Execute(_)))) => {
                if let Some(outcome) = front.outcome() {
                    outcome.copied.get_or_insert_default();
                }
                self.takes_copied_data();
                true
            }
            (COPY_OUT | COPY_DONE, Some(Expect::Query(_) | Expect::Execute(_))) => true,
            (backend::FUNCTION_RESULT, Some(Expect::Call(_))) => self.called(at, u64::from(frame.length), out),
            // Of a later protocol: nobody knows what it is about.
            (unknown, _) => !ANSWERS.contains(&unknown),
        };
        if !fits {
            self.lose(at, "the server answers something else than was asked", out);
        }
    }

    fn done(&mut self) -> bool {
        self.pending.pop_front();
        true
    }

    fn parsed(&mut self, out: &mut Vec<Event>) -> bool {
        if let Some(Expect::Parse(parse)) = self.pending.pop_front() {
            self.keep_prepared(*parse, out);
        }
        true
    }

    fn bound(&mut self, out: &mut Vec<Event>) -> bool {
        if let Some(Expect::Bind(bound, _)) = self.pending.pop_front() {
            self.keep_bound(*bound, out);
        }
        true
    }

    fn closed(&mut self, out: &mut Vec<Event>) -> bool {
        match self.pending.pop_front() {
            Some(Expect::Close(Named::Statement(name))) => self.forget_prepared(&name, out),
            Some(Expect::Close(Named::Portal(name))) => _ = self.portals.remove(&name),
            _ => {}
        }
        true
    }

    /// The server has told the types of a statement's parameters.
    fn described(&mut self, name: &str, head: &[u8]) {
        let types = head.get(2..).unwrap_or_default().chunks_exact(4).take(TYPES_MAX);
        let types = types.filter_map(|oid| Some(u32::from_be_bytes(oid.try_into().ok()?))).collect();
        if let Some(prepared) = self.statements.get_mut(name) {
            *prepared = Arc::new(prepared.with_types(types));
        }
    }

    /// From now until the client ends its data, the server passes over Sync, also those that were sent already; unless it
    /// fails before it comes to them.
    fn takes_copied_data(&mut self) {
        let end = self.pending.iter().position(|expect| matches!(expect, Expect::CopyEnd));
        for expect in self.pending.iter_mut().take(end.unwrap_or(usize::MAX)) {
            if matches!(expect, Expect::Sync) {
                *expect = Expect::SyncInCopy;
                self.ready_due = self.ready_due.saturating_sub(1);
            }
        }
        if let Some(end) = end {
            self.pending.remove(end);
        }
        self.copying = end.is_none();
    }

    /// Copied data is over. A Sync within it is answered still where the server has failed before it came to it.
    fn pass_over_copy(&mut self) {
        while let Some(front) = self.pending.front().filter(|front| front.is_of_copy()) {
            self.ready_maybe = self.ready_maybe.saturating_add(u64::from(matches!(front, Expect::SyncInCopy)));
            self.pending.pop_front();
        }
    }

    fn ready(&mut self, at: Duration, state: Option<&u8>, out: &mut Vec<Event>) {
        let transaction = match state {
            Some(b'I') => Some(Transaction::Idle),
            Some(b'T') => Some(Transaction::Open),
            Some(b'E') => Some(Transaction::Failed),
            _ => None,
        };
        self.release(transaction, out);
        self.copying = false;
        // Whoever is ready has come to a Sync.
        self.skipping = false;
        self.free = at;
        if transaction == Some(Transaction::Idle) {
            // Portals live no longer than their transaction.
            self.portals.clear();
        }
        if self.lost {
            self.give_up(at, out);
            self.ready_due = self.ready_due.saturating_sub(1);
            self.lost = self.ready_due > 0;
            return;
        }
        self.pass_over_copy();
        if self.ready_maybe > 0 && !self.pending.front().is_some_and(Expect::may_be_over) {
            self.ready_maybe -= 1;
            return;
        }
        while let Some(expect) = self.pending.pop_front() {
            let is_last = expect.ends_in_ready();
            self.ready_due = self.ready_due.saturating_sub(u64::from(is_last));
            // Of a server that keeps to the protocol this one alone is left, and it is over.
            self.unfinished(at, expect, out);
            if is_last {
                return;
            }
        }
    }

    /// An error is about the first message in the row, and what follows up to the next Sync is passed over.
    fn failed(&mut self, at: Duration, error: DatabaseError, out: &mut Vec<Event>) {
        self.pass_over_copy();
        self.copying = false;
        match self.pending.front_mut() {
            Some(Expect::Query(query)) => {
                query.done = true;
                return self.query_over(at, "", Some(error), out);
            }
            Some(Expect::Call(call)) => {
                call.done = true;
                return self.call_over(at, 0, Some(error), out);
            }
            Some(Expect::Sync) | None => {
                self.release(None, out);
                return out.push(self.heard(error));
            }
            Some(_) => {}
        }
        match self.pending.pop_front() {
            Some(Expect::Execute(execute)) => self.execute_over(at, *execute, String::new(), Some(error), out),
            Some(Expect::Parse(parse)) => {
                let Parse { name, text, sent, .. } = *parse;
                self.not_run(at, sent, RunBy::Parse, (name, text.sql()), error, out);
            }
            Some(Expect::Bind(bound, sent)) => self.not_bound(at, sent, *bound, error, out),
            _ => {
                self.release(None, out);
                out.push(self.heard(error));
            }
        }
        self.skip_to_sync();
    }

    fn skip_to_sync(&mut self) {
        while let Some(front) = self.pending.front() {
            if matches!(front, Expect::Sync | Expect::SyncInCopy) {
                return;
            }
            self.ready_due = self.ready_due.saturating_sub(u64::from(front.ends_in_ready()));
            self.pending.pop_front();
        }
        self.skipping = true;
    }
}

fn error(head: &[u8]) -> DatabaseError {
    let ErrorFields { severity, code, message } = ErrorFields::read(head);
    let short = |text: &str| cut(text, MESSAGE_MAX).to_owned();
    DatabaseError { severity: short(&severity), sqlstate: short(&code), message: short(&message) }
}

/// The process that notified, the channel, the payload.
fn notification(head: &[u8]) -> Event {
    let (channel, rest) = string(head.get(4..).unwrap_or_default()).unwrap_or_default();
    let (payload, _) = string(rest).unwrap_or_default();
    let short = |bytes: &[u8]| cut(&String::from_utf8_lossy(bytes), MESSAGE_MAX).to_owned();
    Event::Notification { channel: short(channel), payload: short(payload) }
}

fn tag(head: &[u8]) -> String {
    let (tag, _) = string(head).unwrap_or_default();
    cut(&String::from_utf8_lossy(tag), MESSAGE_MAX).to_owned()
}

/// Bytes of what a server says that are recorded, for each of its fields.
const MESSAGE_MAX: usize = 1_024;

const NOTIFICATION: u8 = b'A';
const PARSE_COMPLETE: u8 = b'1';
const BIND_COMPLETE: u8 = b'2';
const CLOSE_COMPLETE: u8 = b'3';
const PARAMETER_DESCRIPTION: u8 = b't';
const ROW_DESCRIPTION: u8 = b'T';
const NO_DATA: u8 = b'n';
const COPY_IN: u8 = b'G';
const COPY_OUT: u8 = b'H';
const COPY_BOTH: u8 = b'W';
const COPY_DONE: u8 = b'c';

/// Answers that have to be about something that was asked.
const ANSWERS: [u8; 18] = [
    backend::DATA_ROW,
    backend::COPY_DATA,
    backend::COMMAND_COMPLETE,
    backend::EMPTY_QUERY,
    backend::SUSPENDED,
    PARSE_COMPLETE,
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARAMETER_DESCRIPTION,
    ROW_DESCRIPTION,
    NO_DATA,
    COPY_IN,
    COPY_OUT,
    COPY_BOTH,
    COPY_DONE,
    backend::FUNCTION_RESULT,
    backend::ERROR,
    backend::READY,
];
