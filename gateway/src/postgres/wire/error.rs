//! ErrorResponse and NoticeResponse: read from a server, and written to a client.

use super::{backend, message, string};

/// Five characters that programs tell errors by (PostgreSQL's appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// `insufficient_privilege`
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    /// `invalid_authorization_specification`
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// `connection_failure`
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// `sqlclient_unable_to_establish_sqlconnection`
    pub const UNABLE_TO_CONNECT: Self = Self(*b"08001");
    /// `protocol_violation`
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// `admin_shutdown`
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// `program_limit_exceeded`
    pub const LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// `internal_error`
    pub const INTERNAL: Self = Self(*b"XX000");
    /// `io_error`
    pub const IO: Self = Self(*b"58030");
    /// `feature_not_supported`
    pub const NOT_SUPPORTED: Self = Self(*b"0A000");

    /// Its five characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It goes on.
    Error,
    /// It ends.
    Fatal,
}

/// An error for a client to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// Whether the session ends.
    pub severity: Severity,
    /// The kind.
    pub code: SqlState,
    /// One sentence.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl ErrorResponse {
    /// The message. Characters that end a string or move a terminal's cursor are taken out.
    pub fn bytes(&self) -> Vec<u8> {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let code = self.code.text();
        let fields = [
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(code.as_str())),
            (b'M', Some(self.message.as_str())),
            (b'D', self.detail.as_deref()),
            (b'H', self.hint.as_deref()),
        ];
        let mut payload = Vec::new();
        for (field, text) in fields {
            let Some(text) = text else { continue };
            payload.push(field);
            let plain = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).take(TEXT_MAX);
            payload.extend_from_slice(plain.collect::<String>().as_bytes());
            payload.push(0);
        }
        payload.push(0);
        message(backend::ERROR, &payload)
    }
}

/// What a server said, as far as the gateway looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// `ERROR`, `FATAL` or `PANIC`, in whatever language.
    pub severity: String,
    /// The five characters.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl ErrorFields {
    /// Reads the payload of an ErrorResponse or a NoticeResponse. What is cut short gives what there is.
    pub fn read(mut payload: &[u8]) -> Self {
        let mut fields = Self::default();
        while let Some((&field, rest)) = payload.split_first() {
            let Some((text, after)) = string(rest) else { break };
            let text = || String::from_utf8_lossy(text).into_owned();
            match field {
                // The one that is never translated comes second and counts.
                b'S' | b'V' => fields.severity = text(),
                b'C' => fields.code = text(),
                b'M' => fields.message = text(),
                _ => {}
            }
            payload = after;
        }
        fields
    }

    /// The code, if it is one.
    pub fn sqlstate(&self) -> Option<SqlState> {
        let code: [u8; 5] = self.code.as_bytes().try_into().ok()?;
        code.iter().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()).then_some(SqlState(code))
    }
}

/// Characters of one field, at most.
const TEXT_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_as_it_is_written() {
        let error = ErrorResponse {
            severity: Severity::Fatal,
            code: SqlState::INSUFFICIENT_PRIVILEGE,
            message: "no".into(),
            detail: Some("a\0b\u{1b}".into()),
            hint: None,
        };
        let bytes = error.bytes();
        let fields = ErrorFields::read(&bytes[5..]);
        assert_eq!((fields.severity.as_str(), fields.message.as_str()), ("FATAL", "no"));
        assert_eq!(fields.sqlstate(), Some(SqlState::INSUFFICIENT_PRIVILEGE));
        assert!(
            String::from_utf8_lossy(&bytes).contains("Da b \0"),
            "one string, and nothing for a terminal to act on"
        );
    }

    #[test]
    fn a_target_that_says_nonsense_gives_what_there_is() {
        assert_eq!(ErrorFields::read(b"Mhello\0C").message, "hello");
        assert_eq!(ErrorFields::read(b"Mhello").message, "");
        assert_eq!(ErrorFields::read(b"C42\0").sqlstate(), None);
    }
}
