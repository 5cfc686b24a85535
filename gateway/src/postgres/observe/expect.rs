//! What answers are still to come from the server, in their order, and what they will be about.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sallyport_recorder::{Copied, Parameter, Sql};

use super::bind::Bound;
use super::sql::Text;

/// One message of the client that the server has yet to answer.
#[derive(Debug)]
pub(super) enum Expect {
    /// A simple query, answered by as many results as it has statements, and then by ReadyForQuery.
    Query(Box<Query>),
    Parse(Box<Parse>),
    Bind(Box<Bound>, Duration),
    Execute(Box<Execute>),
    /// Of the prepared statement of this name, or of a portal.
    Describe(Option<String>),
    Close(Named),
    Call(Box<Call>),
    Sync,
    /// A Sync within copied data: the server passes over it, or answers it where it has failed before it comes to it.
    SyncInCopy,
    /// The client's CopyDone or CopyFail, which has no answer of its own: up to here, a server that takes in data passes
    /// over Sync (PostgreSQL, "COPY Operations").
    CopyEnd,
}

/// What a Close names.
#[derive(Debug)]
pub(super) enum Named {
    Statement(String),
    Portal(String),
}

/// A simple query that runs.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) text: Text,
    /// Its statements, where there are several.
    pub(super) pieces: Vec<Range<usize>>,
    /// How many of them are over.
    pub(super) over: usize,
    pub(super) sent: Duration,
    pub(super) result: Outcome,
    /// It will have no more results.
    pub(super) done: bool,
}

/// A statement that is being prepared.
#[derive(Debug)]
pub(super) struct Parse {
    pub(super) name: String,
    pub(super) text: Text,
    pub(super) types: Vec<u32>,
    pub(super) sent: Duration,
}

/// A portal that runs.
#[derive(Debug, Default)]
pub(super) struct Execute {
    pub(super) portal: String,
    pub(super) sent: Duration,
    pub(super) result: Outcome,
}

/// What has come of a statement so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) copied: Option<Copied>,
}

/// A function that was called by its number.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: u32,
    pub(super) sent_bytes: u64,
    pub(super) sent: Duration,
    pub(super) done: bool,
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sql: Sql,
    pub(super) types: Vec<u32>,
    /// Its text was written down already.
    told: AtomicBool,
}

/// A portal, with what was bound to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Portal {
    pub(super) prepared: Option<Arc<Prepared>>,
    /// The name that the client gave for it, also where no such statement is known.
    pub(super) statement: String,
    pub(super) parameters: Arc<Vec<Parameter>>,
    pub(super) more: u64,
}

impl Prepared {
    /// Of this text, for parameters of these types; `told` where the text was written down already.
    pub(super) fn new(sql: Sql, types: Vec<u32>, told: bool) -> Self {
        Self { sql, types, told: AtomicBool::new(told) }
    }

    /// The same with other types.
    pub(super) fn with_types(&self, types: Vec<u32>) -> Self {
        Self::new(self.sql.clone(), types, self.is_told())
    }

    /// Its text, which is written down now.
    pub(super) fn tell(&self) -> Sql {
        self.told.store(true, Ordering::Relaxed);
        self.sql.clone()
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

impl Query {
    /// The text of the statement that runs now.
    pub(super) fn sql(&self) -> Sql {
        match self.pieces.get(self.over) {
            Some(range) => self.text.piece(range.clone()),
            None if self.over == 0 => self.text.sql(),
            // The first one has the text of all.
            None => self.text.beginning(),
        }
    }
}

impl Expect {
    /// What has come of it, if it is one that runs.
    pub(super) fn outcome(&mut self) -> Option<&mut Outcome> {
        match self {
            Self::Query(query) => Some(&mut query.result),
            Self::Execute(execute) => Some(&mut execute.result),
            _ => None,
        }
    }

    /// What is kept of it, in bytes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Query(query) => size_of::<Query>() + query.text.size() + size_of_val(query.pieces.as_slice()),
                Self::Parse(parse) => size_of::<Parse>() + parse.text.size() + size_of_val(parse.types.as_slice()),
                Self::Bind(bound, _) => size_of::<Bound>() + bound.size(),
                Self::Execute(_) => size_of::<Execute>(),
                Self::Call(_) => size_of::<Call>(),
                _ => 0,
            }
    }

    /// Whether a ReadyForQuery may end it now.
    pub(super) fn may_be_over(&self) -> bool {
        match self {
            Self::Sync => true,
            Self::Query(query) => query.done || query.over > 0,
            Self::Call(call) => call.done,
            _ => false,
        }
    }

    /// Whether the server passes over it once it has taken in data.
    pub(super) fn is_of_copy(&self) -> bool {
        matches!(self, Self::CopyEnd | Self::SyncInCopy)
    }

    /// Whether the server answers it by ReadyForQuery in the end.
    pub(super) fn ends_in_ready(&self) -> bool {
        matches!(self, Self::Query(_) | Self::Call(_) | Self::Sync)
    }
}

impl Outcome {
    pub(super) fn row(&mut self, bytes: u64) {
        self.rows = self.rows.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn copied_in(&mut self, bytes: u64) {
        let copied = self.copied.get_or_insert_default();
        copied.messages_in = copied.messages_in.saturating_add(1);
        copied.bytes_in = copied.bytes_in.saturating_add(bytes);
    }

    pub(super) fn copied_out(&mut self, bytes: u64) {
        let copied = self.copied.get_or_insert_default();
        copied.messages_out = copied.messages_out.saturating_add(1);
        copied.bytes_out = copied.bytes_out.saturating_add(bytes);
    }
}
