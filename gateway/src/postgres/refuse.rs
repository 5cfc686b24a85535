//! Failure → ErrorResponse. Nothing else in the broker words an error of the gateway's own.

use std::time::Duration;

use sallyport_recorder::SessionId;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::greet::{Asked, Client};
use super::wire::{ErrorResponse, Severity, SqlState};
use crate::failure::{Ending, Failure};

/// A failure, and the SQLSTATE that the target gave it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) code: Option<SqlState>,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { failure, code: None }
    }
}

impl Fault {
    /// The error that ends the session `id`.
    pub(super) fn response(&self, id: SessionId) -> ErrorResponse {
        let code = self.code.unwrap_or(match &self.failure {
            Failure::Denied(_) => SqlState::INVALID_AUTHORIZATION,
            Failure::Client(_) => SqlState::PROTOCOL_VIOLATION,
            Failure::Target { .. } => SqlState::UNABLE_TO_CONNECT,
            Failure::Recording(_) => SqlState::IO,
            Failure::Ours(_) => SqlState::INTERNAL,
        });
        match &self.failure {
            Failure::Denied(sentence) => denial(Severity::Fatal, code, sentence),
            failure => {
                ErrorResponse { severity: Severity::Fatal, code, message: failure.told(id), detail: None, hint: None }
            }
        }
    }
}

/// A denial: the sentence, and whom to ask as the hint.
pub(super) fn denial(severity: Severity, code: SqlState, sentence: &str) -> ErrorResponse {
    let (message, ask) = match sentence.rsplit_once("; ask ") {
        Some((message, whom)) => (message, Some(format!("Ask {whom}."))),
        None => (sentence, None),
    };
    let (message, detail) = match message.split_once(": ") {
        Some((message, detail)) => (message, Some(detail.to_owned())),
        None => (message, None),
    };
    ErrorResponse { severity, code, message: message.to_owned(), detail, hint: ask }
}

/// The farewell of a session that the gateway ends.
pub(super) fn ended(ending: &Ending) -> ErrorResponse {
    ErrorResponse {
        severity: Severity::Fatal,
        code: SqlState::ADMIN_SHUTDOWN,
        message: format!("terminating connection: {ending}"),
        detail: None,
        hint: None,
    }
}

/// The end of a session that was to be read-only and is not any more.
pub(super) fn not_read_only() -> Vec<u8> {
    let error = ErrorResponse {
        severity: Severity::Fatal,
        code: SqlState::INSUFFICIENT_PRIVILEGE,
        message: "this session may only read, and its server has stopped to keep it from writing".to_owned(),
        detail: None,
        hint: None,
    };
    error.bytes()
}

/// Turns away a caller who asked for something, before there is a session.
pub async fn decline(asked: Asked, failure: &Failure) {
    let Asked::Session(mut client) = asked else { return };
    let sentence = match failure {
        Failure::Denied(sentence) => sentence.as_str(),
        _ => "the connection was refused",
    };
    client.dismiss(&denial(Severity::Fatal, SqlState::INVALID_AUTHORIZATION, sentence)).await;
}

impl Client {
    /// Tells it why it goes no further, and waits until it has read that.
    pub(super) async fn dismiss(&mut self, error: &ErrorResponse) {
        tell(&mut self.leg, error).await;
        // Closing with something unread would have the kernel take back what was said.
        let mut rest = [0; 512];
        let _ = timeout(LAST_WORDS, async { while matches!(self.leg.read(&mut rest).await, Ok(1..)) {} }).await;
    }
}

/// Says a last word to a client, and closes its side.
pub(super) async fn tell<W: AsyncWrite + Unpin>(client: &mut W, error: &ErrorResponse) {
    let telling = async {
        client.write_all(&error.bytes()).await?;
        client.shutdown().await
    };
    let _ = timeout(LAST_WORDS, telling).await;
}

/// How long a client may take to take our last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_whom_to_ask_in_its_hint() {
        let sentence = "bob@example.com may not use orders as admin: no rule allows it; ask group:sre";
        let error = denial(Severity::Fatal, SqlState::INVALID_AUTHORIZATION, sentence);
        assert_eq!(error.message, "bob@example.com may not use orders as admin");
        assert_eq!(error.detail.as_deref(), Some("no rule allows it"));
        assert_eq!(error.hint.as_deref(), Some("Ask group:sre."));
    }
}
