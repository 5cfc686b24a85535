//! A database session at a glance: as whom, where, and how much was done.

use std::fmt::{self, Display, Formatter};

use sallyport_recorder::{DatabaseSession, Event, Statement};
use serde::Serialize;

use crate::show::{bytes, counted};

/// What a recording says about its database session.
#[derive(Debug, Default, Serialize)]
pub struct Database {
    /// As whom, where, by which client; empty until the server had let it in.
    #[serde(flatten)]
    pub session: DatabaseSession,
    /// Statements that ran.
    pub statements: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Statements that the policy refused.
    pub refused: u64,
    /// Rows that came back.
    pub rows: u64,
    /// Bytes of these rows.
    pub row_bytes: u64,
    /// Bytes that were copied in.
    pub copied_in: u64,
    /// Bytes that were copied out.
    pub copied_out: u64,
    /// What the longest statement took, in microseconds.
    pub longest_us: u64,
    /// Cancellations that were asked for.
    pub cancels: u64,
}

impl Database {
    /// Counts an event, if it is one of a database session.
    pub fn count(slot: &mut Option<Self>, event: &Event) {
        match event {
            Event::DatabaseSession(session) => slot.get_or_insert_default().session = session.as_ref().clone(),
            Event::Statement(one) => slot.get_or_insert_default().ran(one),
            Event::StatementRefused { .. } => slot.get_or_insert_default().refused += 1,
            Event::DatabaseCancel => slot.get_or_insert_default().cancels += 1,
            _ => {}
        }
    }

    fn ran(&mut self, one: &Statement) {
        self.statements += 1;
        self.failed += u64::from(one.error.is_some());
        self.rows = self.rows.saturating_add(one.rows);
        self.row_bytes = self.row_bytes.saturating_add(one.bytes);
        let copied = one.copy.unwrap_or_default();
        self.copied_in = self.copied_in.saturating_add(copied.bytes_in);
        self.copied_out = self.copied_out.saturating_add(copied.bytes_out);
        self.longest_us = self.longest_us.max(one.duration_us);
    }
}

impl Display for Database {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let DatabaseSession { role, database, application_name, .. } = &self.session;
        let client = if application_name.is_empty() { String::new() } else { format!(" by {application_name}") };
        write!(f, "{database} as {role}{client} · {}, {} failed", counted(self.statements, "statement"), self.failed)?;
        write!(f, ", {} refused · {}, {}", self.refused, counted(self.rows, "row"), bytes(self.row_bytes))?;
        if self.copied_in + self.copied_out > 0 {
            write!(f, " · {} copied in, {} out", bytes(self.copied_in), bytes(self.copied_out))?;
        }
        if self.cancels > 0 {
            write!(f, " · {} cancelled", self.cancels)?;
        }
        Ok(())
    }
}
