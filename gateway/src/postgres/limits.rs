//! The most that one statement may bring back.
//!
//! When a result has grown past it, the rest is held back, the server is asked to stop, and the error that it then gives is
//! put into the rule's words. A statement that was over before it could be stopped ends the session: its rows cannot be
//! taken back, and the client must not take them for all there were.

use super::wire::{ErrorResponse, Frame, Severity, SqlState, backend};
use crate::access::PostgresPermit;

/// Counts one session's results.
#[derive(Debug)]
pub(super) struct Limits {
    rows_most: Option<u64>,
    bytes_most: Option<u64>,
    rules: String,
    rows: u64,
    bytes: u64,
    /// What was passed, once something was.
    passed: Option<String>,
}

/// What becomes of a frame, as far as limits go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// It is within them.
    Within,
    /// It is held back, and the statement is to be stopped.
    Exceeded,
    /// It is held back.
    HeldBack,
    /// It is the end of the statement, in other words.
    Stopped(Vec<u8>),
    /// The statement was over before it could be stopped.
    TooLate(Vec<u8>),
}

impl Limits {
    /// Those of `permit`.
    pub(super) fn new(permit: &PostgresPermit) -> Self {
        let capability = permit.capability();
        Self {
            rows_most: capability.max_rows,
            bytes_most: capability.max_bytes,
            rules: permit.rule().to_owned(),
            rows: 0,
            bytes: 0,
            passed: None,
        }
    }

    /// Counts a frame of the server's.
    pub(super) fn count(&mut self, frame: Frame<'_>) -> Bound {
        if self.rows_most.is_none() && self.bytes_most.is_none() {
            return Bound::Within;
        }
        match frame.tag {
            backend::DATA_ROW | backend::COPY_DATA if self.passed.is_some() => Bound::HeldBack,
            backend::DATA_ROW | backend::COPY_DATA => {
                self.rows = self.rows.saturating_add(1);
                self.bytes = self.bytes.saturating_add(u64::from(frame.length));
                self.passed = self.exceeded();
                if self.passed.is_some() { Bound::Exceeded } else { Bound::Within }
            }
            // A large object comes piece by piece, each in one message.
            backend::FUNCTION_RESULT => match self.bytes_most {
                Some(most) if u64::from(frame.length) > most => {
                    Bound::Stopped(self.error(Severity::Error, &format!("{most} bytes")))
                }
                _ => Bound::Within,
            },
            backend::COMMAND_COMPLETE | backend::SUSPENDED => match self.passed.take() {
                Some(what) => Bound::TooLate(self.error(Severity::Fatal, &what)),
                None => {
                    // A portal that was suspended goes on counting when it goes on.
                    if frame.tag == backend::COMMAND_COMPLETE {
                        (self.rows, self.bytes) = (0, 0);
                    }
                    Bound::Within
                }
            },
            backend::ERROR => {
                (self.rows, self.bytes) = (0, 0);
                match self.passed.take() {
                    Some(what) => Bound::Stopped(self.error(Severity::Error, &what)),
                    None => Bound::Within,
                }
            }
            _ => Bound::Within,
        }
    }

    fn exceeded(&self) -> Option<String> {
        match (self.rows_most, self.bytes_most) {
            (Some(most), _) if self.rows > most => Some(format!("{most} rows")),
            (_, Some(most)) if self.bytes > most => Some(format!("{most} bytes")),
            _ => None,
        }
    }

    fn error(&self, severity: Severity, what: &str) -> Vec<u8> {
        let error = ErrorResponse {
            severity,
            code: SqlState::LIMIT_EXCEEDED,
            message: format!("the result is larger than the policy allows: at most {what}"),
            detail: Some(format!("the limit is of {}", self.rules)),
            hint: Some("Ask for less, for example with LIMIT.".to_owned()),
        };
        error.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_brings_back_counts_as_well() {
        let rules = "grants[0]".to_owned();
        let mut limits = Limits { rows_most: None, bytes_most: Some(1_000), rules, rows: 0, bytes: 0, passed: None };
        let mut count = |length| limits.count(Frame { tag: backend::FUNCTION_RESULT, length, head: &[] });
        assert_eq!(count(1_000), Bound::Within);
        assert!(matches!(count(1_001), Bound::Stopped(_)));
        assert_eq!(count(1_000), Bound::Within);
    }
}
