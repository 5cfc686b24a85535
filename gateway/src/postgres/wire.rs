//! The bytes of PostgreSQL's protocol, version 3 (<https://www.postgresql.org/docs/current/protocol-message-formats.html>): pure,
//! with no I/O and no clock.
//!
//! Every length is checked before anything is done by it, and no more is held of a message than somebody looks at.

mod error;
mod frame;
mod scram;
mod startup;

pub use error::{ErrorFields, ErrorResponse, Severity, SqlState};
pub use frame::{BadFrame, Frame, HEAD_MAX, HEADER, Header, MAX_LENGTH};
pub use scram::{ServerFinal, ServerFirst};
pub use startup::{BadStartup, CancelKey, Hello, MAX_STARTUP, PARAMETERS_MAX, ProtocolVersion, Startup, tls_request};

/// Tags of messages that a client sends.
pub mod frontend {
    /// Bind.
    pub const BIND: u8 = b'B';
    /// Close.
    pub const CLOSE: u8 = b'C';
    /// CopyData, in both directions.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone, in both directions.
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail.
    pub const COPY_FAIL: u8 = b'f';
    /// Describe.
    pub const DESCRIBE: u8 = b'D';
    /// Execute.
    pub const EXECUTE: u8 = b'E';
    /// Flush.
    pub const FLUSH: u8 = b'H';
    /// FunctionCall.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse.
    pub const PARSE: u8 = b'P';
    /// Every answer to a request of authentication.
    pub const PASSWORD: u8 = b'p';
    /// Query.
    pub const QUERY: u8 = b'Q';
    /// Sync.
    pub const SYNC: u8 = b'S';
    /// Terminate.
    pub const TERMINATE: u8 = b'X';
}

/// Tags of messages that a server sends.
pub mod backend {
    /// Authentication, of any kind.
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData.
    pub const KEY_DATA: u8 = b'K';
    /// CommandComplete.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// DataRow.
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse.
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse.
    pub const ERROR: u8 = b'E';
    /// FunctionCallResponse.
    pub const FUNCTION_RESULT: u8 = b'V';
    /// NegotiateProtocolVersion.
    pub const NEGOTIATE: u8 = b'v';
    /// NoticeResponse.
    pub const NOTICE: u8 = b'N';
    /// ParameterStatus.
    pub const PARAMETER: u8 = b'S';
    /// PortalSuspended.
    pub const SUSPENDED: u8 = b's';
    /// ReadyForQuery.
    pub const READY: u8 = b'Z';
}

/// A string that ends with a zero byte, and what comes after it.
pub(super) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// A whole message of a kind whose payload is small.
pub fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len().saturating_add(4)).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(payload.len().saturating_add(HEADER));
    bytes.push(tag);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
