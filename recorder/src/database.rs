//! What happens in a database session, as parts of [`crate::Event`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The session that a client asked for and got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSession {
    /// The role on the target.
    pub role: String,
    /// The database.
    pub database: String,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub application_name: String,
    /// The other parameters of its start-up packet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Whether the client wanted TLS within the tunnel.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tls: bool,
    /// What the server calls its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_version: String,
}

/// SQL as a client sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql {
    /// The text: passwords blotted out, bytes that are not UTF-8 replaced by U+FFFD, and cut where it is long.
    pub text: String,
    /// Bytes of the whole, where `text` is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// SHA-256 of the whole in hex, where `text` is not all of it and the whole was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A statement that was run, with what came of it. One event, written when it was over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What was run. Empty where a portal was run that no statement is known of, such as one of a cursor.
    pub sql: Sql,
    /// How it was run.
    pub by: RunBy,
    /// The prepared statement, where it has a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub statement: String,
    /// The portal, where it has a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub portal: String,
    /// What was bound to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Further parameters that are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_parameters: u64,
    /// Rows that came back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Bytes of these rows on the wire.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// From when it was sent, or the one before it was over, to its end, in microseconds.
    pub duration_us: u64,
    /// The command tag: `SELECT 3`, `INSERT 0 1`. Absent where it failed, was suspended or was cut off.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Data that was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copied>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DatabaseError>,
    /// The portal has more rows, which the client had asked to wait for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// The session ended before the statement did, or its end could not be told from others' (a gap stands before it then).
    #[serde(default, skip_serializing_if = "is_false")]
    pub unfinished: bool,
    /// The state of the transaction after it, where the server told it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Transaction>,
}

/// How a statement was run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunBy {
    /// By a simple query.
    #[default]
    Query,
    /// By an Execute of the extended protocol.
    Execute,
    /// It was to be prepared, and failed; or, unfinished, it was prepared under a name and not run by an Execute (but maybe
    /// by EXECUTE in SQL), or what its name stands for is not known from here on.
    Parse,
    /// Values were to be bound to it, which failed; or, unfinished, they were, and what its name stands for is not known from
    /// here on.
    Bind,
}

/// The state of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transaction {
    /// None is open.
    Idle,
    /// One is open.
    Open,
    /// One is open, has failed, and can only be rolled back.
    Failed,
}

/// A value that was bound to a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its type, where it is known: `int4`, `timestamptz`, or the OID.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The value as text, cut where it is long; binary values of types that are not known in hex behind `\x`. Absent where
    /// it is NULL, and where the policy hides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Bytes on the wire, where `value` does not show all of them. Neither `value` nor `bytes` means NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Data that was copied in a statement, in CopyData messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Messages from the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub messages_in: u64,
    /// Bytes from the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_in: u64,
    /// Messages to the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub messages_out: u64,
    /// Bytes to the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_out: u64,
}

/// What a server said in an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseError {
    /// `ERROR`, `FATAL`, `NOTICE`, `WARNING`, …
    pub severity: String,
    /// PostgreSQL's five characters.
    pub sqlstate: String,
    /// One sentence, cut where it is long.
    pub message: String,
}

/// A function that was called by its number, as large objects are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The function's OID.
    pub function: u32,
    /// Its name, where the number is one of PostgreSQL's own for large objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Bytes of its arguments.
    pub sent: u64,
    /// Bytes of its result.
    pub received: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DatabaseError>,
    /// The session ended before the call did.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unfinished: bool,
}

impl Statement {
    /// The statement, what was bound to it, and its error: what a search looks at.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.sql.text.clone();
        for value in self.parameters.iter().filter_map(|parameter| parameter.value.as_ref()) {
            text.push('\n');
            text.push_str(value);
        }
        if let Some(error) = &self.error {
            text.push('\n');
            text.push_str(&error.to_string());
        }
        text
    }
}

/// `ERROR 42501: permission denied for table orders`
impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_false(switch: &bool) -> bool {
    !*switch
}
