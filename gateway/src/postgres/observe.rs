//! From frames to the events that are recorded: which statement an answer belongs to, what was bound to it, how long it took.
//! Pure: no I/O, no clock.
//!
//! A client may send many messages before it reads an answer, and the server answers them in their order. So each message
//! that will be answered is kept in a row ([`expect`]), and each answer is about the first in the row. After an error in the
//! extended protocol the server passes over everything up to the next Sync. Names of statements and portals are looked up
//! when the answer comes, for only then are all changes made that the client asked for before.
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html>

mod answer;
mod bind;
mod expect;
mod names;
mod over;
mod sql;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sallyport_policies::ParameterRule;
use sallyport_policies::sql::Refusal;
use sallyport_recorder::{Event, Statement};

use self::bind::Bound;
use self::expect::{Call, Execute, Expect, Named, Parse, Portal, Prepared, Query};
use self::sql::Text;
use self::table::Table;
use super::wire::{Frame, frontend, string};

/// Follows one session from the first ReadyForQuery on.
#[derive(Debug)]
pub struct Observer {
    rule: ParameterRule,
    /// What the server has yet to answer.
    pending: VecDeque<Expect>,
    statements: Table<Arc<Prepared>>,
    portals: Table<Portal>,
    /// Statements that are over, for which the server is about to tell the state of the transaction.
    held: Vec<Statement>,
    /// When the last answer was complete: what was sent before has waited till then.
    free: Duration,
    /// ReadyForQuery that are still to come.
    ready_due: u64,
    /// ReadyForQuery that may come besides: of a Sync within copied data that its server had failed over.
    ready_maybe: u64,
    /// An error was answered, and the client has not sent Sync since.
    skipping: bool,
    /// The server takes in copied data, and passes over Sync.
    copying: bool,
    /// The answers did not fit the row; nothing is known until none are due.
    lost: bool,
}

impl Observer {
    /// Of a session that begins, under this rule for bound values.
    pub fn new(rule: ParameterRule) -> Self {
        Self {
            rule,
            pending: VecDeque::new(),
            statements: Table::default(),
            portals: Table::default(),
            held: Vec::new(),
            free: Duration::ZERO,
            ready_due: 0,
            ready_maybe: 0,
            skipping: false,
            copying: false,
            lost: false,
        }
    }

    /// A frame that the client sent, and that was passed on to the server.
    pub fn client_sent(&mut self, at: Duration, frame: Frame<'_>, out: &mut Vec<Event>) {
        match frame.tag {
            frontend::COPY_DATA => return self.copied_in(u64::from(frame.length)),
            frontend::COPY_DONE | frontend::COPY_FAIL => return self.copy_ended(),
            frontend::SYNC => self.skipping = false,
            _ if self.skipping => return,
            _ => {}
        }
        if let Some(expect) = self.expectation(at, frame) {
            self.push(at, expect, out);
        }
    }

    /// The rest of the frame that the client sent last, where not all of it was in the frame's head. Only statements make use
    /// of it, for their length and hash.
    pub fn client_sent_more(&mut self, bytes: &[u8]) {
        match self.pending.back_mut() {
            Some(Expect::Query(query)) => query.text.more(bytes),
            Some(Expect::Parse(parse)) => parse.text.more(bytes),
            _ => {}
        }
    }

    /// A statement that was not passed on.
    pub fn refused(&mut self, sql: &[u8], refusal: &Refusal, out: &mut Vec<Event>) {
        self.release(None, out);
        let text = Text::begin(&[sql, &[0]].concat());
        let why = refusal.message.clone();
        out.push(Event::StatementRefused { sql: text.sql(), why, hint: refusal.hint.clone() });
    }

    /// The session is over: what was running is written down as unfinished.
    pub fn finish(&mut self, at: Duration, out: &mut Vec<Event>) {
        self.release(None, out);
        self.give_up(at, out);
    }

    /// Whether the server has something to answer yet.
    pub fn is_waiting(&self) -> bool {
        self.ready_due > 0 || !self.pending.is_empty()
    }

    /// Whether so much waits for answers that no more should be taken from the client until some have come.
    pub fn is_full(&self) -> bool {
        match self.pending.len() {
            PENDING_FULL.. => true,
            PENDING_MANY.. => self.pending.iter().map(Expect::size).sum::<usize>() >= PENDING_BYTES,
            // A server holds back no answer to a query.
            PENDING_SOME.. => {
                let queries = self.pending.iter().filter(|expect| matches!(expect, Expect::Query(_)));
                queries.map(Expect::size).sum::<usize>() >= PENDING_BYTES
            }
            _ => false,
        }
    }

    fn expectation(&mut self, at: Duration, frame: Frame<'_>) -> Option<Expect> {
        Some(match frame.tag {
            frontend::QUERY => {
                let text = Text::begin(frame.head);
                Expect::Query(Box::new(Query { pieces: text.pieces(), text, sent: at, ..Query::default() }))
            }
            frontend::PARSE => Expect::Parse(Box::new(parse(at, frame.head))),
            frontend::BIND => {
                let bound = Bound::read(frame.head, self.rule).unwrap_or_default();
                Expect::Bind(Box::new(bound), at)
            }
            frontend::EXECUTE => {
                let portal = string(frame.head).map(|(name, _)| text(name)).unwrap_or_default();
                Expect::Execute(Box::new(Execute { portal, sent: at, ..Execute::default() }))
            }
            frontend::DESCRIBE => Expect::Describe(match named(frame.head) {
                Named::Statement(name) => Some(name),
                Named::Portal(_) => None,
            }),
            frontend::CLOSE => Expect::Close(named(frame.head)),
            frontend::FUNCTION_CALL => {
                let function = frame.head.first_chunk::<4>().map_or(0, |oid| u32::from_be_bytes(*oid));
                Expect::Call(Box::new(Call { function, sent_bytes: u64::from(frame.length), sent: at, done: false }))
            }
            frontend::SYNC if self.copying => Expect::SyncInCopy,
            frontend::SYNC => Expect::Sync,
            // Flush, Terminate, and whatever a server does not answer.
            _ => return None,
        })
    }

    fn push(&mut self, at: Duration, expect: Expect, out: &mut Vec<Event>) {
        self.ready_due = self.ready_due.saturating_add(u64::from(expect.ends_in_ready()));
        if self.pending.len() >= PENDING_MAX && !self.lost {
            self.lose(at, "too many messages wait for an answer", out);
        }
        if self.lost {
            self.give_up(at, out);
        }
        self.pending.push_back(expect);
    }

    /// Follows no answers any more until none are due, and says so. What is sent is written down all the same.
    fn lose(&mut self, at: Duration, why: &str, out: &mut Vec<Event>) {
        self.release(None, out);
        self.lost = true;
        let moment = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        out.push(Event::Gap {
            from_ms: moment,
            to_ms: moment,
            why: format!("statements cannot be told apart from here on: {why}"),
        });
        self.give_up(at, out);
        self.portals.clear();
    }

    /// Writes down what is pending as unfinished, and what was prepared besides.
    fn give_up(&mut self, at: Duration, out: &mut Vec<Event>) {
        for expect in std::mem::take(&mut self.pending) {
            self.unfinished(at, expect, out);
        }
        self.forget(out);
    }

    fn copied_in(&mut self, bytes: u64) {
        let running = if self.copying {
            self.pending.iter_mut().find_map(Expect::outcome)
        } else {
            // Sent before the server has asked for it: it belongs to what was sent last.
            self.pending.iter_mut().rev().find_map(Expect::outcome)
        };
        if let Some(outcome) = running {
            outcome.copied_in(bytes);
        }
    }

    fn copy_ended(&mut self) {
        if !std::mem::take(&mut self.copying) && !self.pending.is_empty() && self.pending.len() < PENDING_MAX {
            self.pending.push_back(Expect::CopyEnd);
        }
    }
}

fn parse(at: Duration, head: &[u8]) -> Parse {
    let (name, rest) = string(head).unwrap_or((head, &[]));
    let after = string(rest).map(|(_, after)| after).unwrap_or_default();
    let types = after.get(2..).unwrap_or_default().chunks_exact(4).take(TYPES_MAX);
    let types = types.filter_map(|oid| Some(u32::from_be_bytes(oid.try_into().ok()?))).collect();
    Parse { name: text(name), text: Text::begin(rest), types, sent: at }
}

/// What a Describe or Close names.
fn named(head: &[u8]) -> Named {
    let name = string(head.get(1..).unwrap_or_default()).map(|(name, _)| text(name)).unwrap_or_default();
    if head.first() == Some(&b'S') { Named::Statement(name) } else { Named::Portal(name) }
}

/// A name, cut where the server cuts it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..NAME_MAX).unwrap_or(bytes)).into_owned()
}

/// Messages without an answer from which on the client should wait.
const PENDING_FULL: usize = 16 * 1024;

/// The same where what is kept of them takes [`PENDING_BYTES`]. A server holds back no more answers than fit into its buffer of
/// 8 kB, which are fewer: it has answered some of so many before it needs to hear more.
const PENDING_MANY: usize = 2_048;

/// Fewer take less than [`PENDING_BYTES`], whatever they are.
const PENDING_SOME: usize = 128;

/// Texts and values of messages without an answer, in bytes.
const PENDING_BYTES: usize = 8 << 20;

/// Messages without an answer from which on no more are followed: more than come with one read beside those.
const PENDING_MAX: usize = 256 * 1024;

/// Types of one statement's parameters that are kept: as many as values are.
const TYPES_MAX: usize = 64;

/// `NAMEDATALEN` less one, in bytes: names that are the same so far are the same to the server.
const NAME_MAX: usize = 63;
