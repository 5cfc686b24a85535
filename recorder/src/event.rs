//! What happens in a session, as typed events. One event is one line of `timeline.jsonl`: a JSON object with `at_us`
//! (microseconds since the session started) and `type`, then the fields of the variant.
//!
//! Channels are numbered by the gateway from 0 in the order in which they were asked for, by whichever end; one that the other
//! end would not open leaves its number unused.
//!
//! One long file, because the list of events is the format: it is read whole, beside FORMAT.md.

use serde::{Deserialize, Serialize};

use crate::database::{DatabaseError, DatabaseSession, FunctionCall, Sql, Statement};

/// One thing that happened in a session. `type` in the JSON is the variant in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The recording began; who, where and under which policy is in the manifest. Written by the recorder itself.
    Start {
        /// `ssh` or `postgres`
        protocol: String,
        /// The user, or the tags joined by commas.
        caller: String,
        /// The name of the target.
        target: String,
    },
    /// The policy let the caller in as this account.
    Authorized {
        /// The account on the target.
        account: String,
        /// The rules that allowed it, as `ssh[2]` with line and column.
        rules: Vec<String>,
        /// What the client calls itself, for SSH its version string.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        client: String,
    },
    /// The connection to the target is up, and the target has proved who it is.
    TargetConnected {
        /// The address that was dialled, with port.
        address: String,
        /// Fingerprint of its host key, as `SHA256:…`.
        host_key: String,
        /// How the gateway proved itself there: `certificate`, `key` or `password`.
        login: String,
    },
    /// The client opened a channel and the target confirmed it.
    ChannelOpen {
        /// Number of the channel.
        channel: u32,
        /// `session`, or another channel type of RFC 4254.
        kind: String,
    },
    /// A channel was closed on both sides.
    ChannelClose {
        /// Number of the channel.
        channel: u32,
        /// Bytes from the client to the target.
        sent: u64,
        /// Bytes from the target to the client, stderr included.
        received: u64,
    },
    /// The client asked for an environment variable (RFC 4254, 6.4).
    Environment {
        /// Number of the channel.
        channel: u32,
        /// The variable's name.
        name: String,
        /// Its value; absent where the policy refused it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// Whether it was passed on.
        accepted: bool,
    },
    /// A pseudo-terminal was given to a channel (RFC 4254, 6.2). Its output is in `terminal-N.cast`.
    Pty {
        /// Number of the channel.
        channel: u32,
        /// N of `terminal-N.cast`.
        terminal: u32,
        /// The value of `TERM`.
        term: String,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// A login shell was started.
    Shell {
        /// Number of the channel.
        channel: u32,
    },
    /// A command was started.
    Exec {
        /// Number of the channel.
        channel: u32,
        /// The command line as the client sent it; bytes that are not UTF-8 are replaced by U+FFFD.
        command: String,
    },
    /// A subsystem was started.
    Subsystem {
        /// Number of the channel.
        channel: u32,
        /// Its name.
        name: String,
    },
    /// File transfer by SFTP was started on a channel.
    SftpOpened {
        /// Number of the channel.
        channel: u32,
    },
    /// A file was opened over SFTP, or announced by scp, and is done with.
    File {
        /// Number of the channel.
        channel: u32,
        /// Its path as the client gave it; bytes that are not UTF-8 are replaced by U+FFFD. For scp the path or paths of
        /// its command line.
        path: String,
        /// Its name as scp's sending end gave it, after the folders that it is in; scp's far end decides by itself whether
        /// `path` is the file or a folder for it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        name: String,
        /// Which way it was opened for.
        direction: Direction,
        /// Bytes that the target gave.
        read: u64,
        /// Bytes that the target confirmed to have taken.
        written: u64,
        /// Bytes that were sent to the target and that it never answered for.
        #[serde(default, skip_serializing_if = "is_zero")]
        unconfirmed: u64,
        /// Its size, where the protocol says it beforehand, as scp does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Microseconds from its opening to its closing.
        took_us: u64,
        /// How it went.
        result: FileResult,
        /// What went wrong first, in the target's words where it has any.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Something else than its content was asked of a file or folder, and the target answered.
    FileChange {
        /// Number of the channel.
        channel: u32,
        /// `open` (only where it failed), `remove`, `rename`, `mkdir`, `rmdir`, `attributes`, `symlink`, `link`, `sync`,
        /// `copy`, or `unknown` for a request that the gateway does not know.
        action: String,
        /// What it was asked of: the old path of a rename, the source of a link or copy; of an unknown request its name.
        path: String,
        /// The new path of a rename, a link or a copy; what a symlink points to.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        to: String,
        /// What was asked for: `size 0, mode 0644`, `read, write`, …
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// How it went.
        result: FileResult,
        /// What went wrong, in the target's words where it has any.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// How often a channel's SFTP client only looked; written once, at the channel's end.
    FileLooks {
        /// Number of the channel.
        channel: u32,
        /// Folders that were listed.
        folders: u64,
        /// Questions about files: stat, realpath, readlink, statvfs, …
        questions: u64,
        /// How many of these failed, most often because there was no such file.
        failed: u64,
    },
    /// The client's window changed its size.
    Window {
        /// Number of the channel.
        channel: u32,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// The client sent a signal (RFC 4254, 6.9), without `SIG`.
    Signal {
        /// Number of the channel.
        channel: u32,
        /// `INT`, `TERM`, …
        signal: String,
    },
    /// The client sent a break (RFC 4335).
    Break {
        /// Number of the channel.
        channel: u32,
        /// How long it is to be, in milliseconds.
        length_ms: u32,
    },
    /// A command ended with a status.
    ExitStatus {
        /// Number of the channel.
        channel: u32,
        /// Its exit status.
        status: u32,
    },
    /// A command was ended by a signal.
    ExitSignal {
        /// Number of the channel.
        channel: u32,
        /// `KILL`, `SEGV`, …
        signal: String,
        /// Whether the target says that it dumped core.
        core_dumped: bool,
        /// What the target said about it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// Something was asked for and refused.
    Refused {
        /// Number of the channel, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<u32>,
        /// What was asked for: `exec`, `subsystem sftp`, `agent`, …
        what: String,
        /// Why not, as it was told to the caller.
        why: String,
    },
    /// A forward was asked for and refused, by the policy or by the end that should have opened it.
    ForwardRefused {
        /// As in `forward_opened`.
        kind: String,
        /// What should have been reached or listened on; empty for an agent and a display.
        address: String,
        /// Why not.
        why: String,
    },
    /// A forwarded connection was opened, as a channel of its own.
    ForwardOpened {
        /// Number of the channel.
        channel: u32,
        /// `local` (`ssh -L`, `-D`, `-W`: the target dials a port), `stream-local` (it dials a Unix socket), `remote` (`-R`:
        /// somebody connected to a port where it listens), `remote-stream-local` (to a socket), `jump` (`-J`, `-W`: to
        /// another target of the gateway, in a session of its own), `agent` (`-A`: the target uses the caller's agent) or
        /// `x11` (`-X`, `-Y`: it uses the caller's display).
        kind: String,
        /// What is reached, as `host:port` or a path; for a remote one, where the target listens; empty for an agent and a
        /// display.
        address: String,
        /// Where the connection comes from, as the end that opened it says; empty for sockets and agents.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        originator: String,
    },
    /// A forwarded connection was closed.
    ForwardClosed {
        /// Number of the channel.
        channel: u32,
        /// Bytes from the client to the target.
        sent: u64,
        /// Bytes from the target to the client.
        received: u64,
        /// How long it was open, in milliseconds.
        lasted_ms: u64,
    },
    /// The target listens for the client (`ssh -R`).
    ListenerOpened {
        /// `remote` or `remote-stream-local`.
        kind: String,
        /// Where, as the client asked for it, with the port that the target chose where it was asked to choose.
        address: String,
    },
    /// The target listens there no longer: the client took it back, or the connection ended.
    ListenerClosed {
        /// `remote` or `remote-stream-local`.
        kind: String,
        /// Where.
        address: String,
    },
    /// The client lets the target use its authentication agent (`ssh -A`). Each use is a forward of the kind `agent`.
    AgentForwarding {
        /// Number of the channel that it was asked for on.
        channel: u32,
    },
    /// The client lets the target use its X11 display. Each use is a forward of the kind `x11`.
    X11Forwarding {
        /// Number of the channel that it was asked for on.
        channel: u32,
        /// Whether for a single connection.
        single: bool,
        /// The authentication protocol, such as `MIT-MAGIC-COOKIE-1`; its cookie is not recorded.
        protocol: String,
    },
    /// Keys were exchanged anew in mid-session.
    Rekey {
        /// `client` or `target`.
        leg: String,
    },
    /// The database server let the client's session begin.
    DatabaseSession(Box<DatabaseSession>),
    /// A statement was run, and is over.
    Statement(Box<Statement>),
    /// The policy did not allow a statement, and the server has not seen it.
    StatementRefused {
        /// The statement.
        sql: Sql,
        /// Why not, as the client was told.
        why: String,
        /// What to ask for, as the client was told.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        hint: String,
    },
    /// A function was called by its number.
    FunctionCall(FunctionCall),
    /// The server sent a notice; or an error that belongs to no statement, such as one that ends the session.
    Notice(DatabaseError),
    /// The server passed on a notification (LISTEN).
    Notification {
        /// The channel.
        channel: String,
        /// What was told, cut where it is long.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        payload: String,
    },
    /// The client asked on another connection for what is running to be stopped.
    DatabaseCancel,
    /// A role was made on the database server for the caller, or was enabled again. It goes when the caller has no sessions.
    RoleMade {
        /// Its name.
        role: String,
        /// What it is a member of.
        groups: Vec<String>,
    },
    /// The session has no more use for the role that was made for it.
    RoleEnded {
        /// Its name.
        role: String,
        /// What became of it: `dropped`, `disabled: ` and what it owns, `kept for other sessions`, `left to the sweep`, or
        /// another few words.
        fate: String,
    },
    /// Nothing could be recorded for a while, and the policy let the session go on.
    Gap {
        /// When recording stopped, in milliseconds since the start.
        from_ms: u64,
        /// When it went on.
        to_ms: u64,
        /// What failed.
        why: String,
    },
    /// Something happened whose event was longer than a recording takes.
    TooLong {
        /// How long it was as JSON, in bytes.
        length: u64,
        /// How its JSON begins: the type, and what comes first.
        begins: String,
    },
    /// The session ended. The last event of every recording that was closed or recovered.
    End {
        /// How.
        outcome: Outcome,
        /// Why, in a sentence.
        reason: String,
    },
    /// Written by a later version than this one.
    #[serde(other)]
    Unknown,
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the target to the caller.
    Download,
    /// From the caller to the target.
    Upload,
    /// Opened for both.
    Both,
}

/// How something about a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileResult {
    /// The target said yes to all of it.
    Ok,
    /// The target, or the sending end, said that something failed.
    Failed,
    /// The channel ended before the file was closed, or before the target had answered.
    CutOff,
}

impl FileResult {
    /// The word in the JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::CutOff => "cut_off",
        }
    }
}

impl Event {
    /// What stands in the place of an event whose JSON is `line`.
    pub(crate) fn too_long(line: &[u8]) -> Self {
        let begins = String::from_utf8_lossy(line.get(..KEPT).unwrap_or(line)).into_owned();
        Self::TooLong { length: line.len() as u64, begins }
    }

    /// The words of a person in it, for a search: a command line, a statement and what was bound to it, an error.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Exec { command, .. } => command.clone(),
            Self::Subsystem { name, .. } => name.clone(),
            Self::File { path, name, why, .. } => format!("{path} {name} {why}"),
            Self::Refused { what, why, .. } => format!("{what}: {why}"),
            Self::Statement(statement) => statement.text(),
            Self::StatementRefused { sql, why, .. } => format!("{}\n{why}", sql.text),
            Self::Notice(notice) => notice.to_string(),
            Self::Notification { channel, payload } => format!("{channel} {payload}"),
            Self::DatabaseSession(session) => {
                format!("{} {} {}", session.role, session.database, session.application_name)
            }
            Self::FunctionCall(call) => call.name.clone(),
            Self::TooLong { begins, .. } => begins.clone(),
            _ => String::new(),
        }
    }
}

/// Bytes that are kept of an event that is too long.
const KEPT: usize = 4096;

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both sides were done.
    Completed,
    /// The policy refused it.
    Denied,
    /// The client went away or broke the protocol.
    Client,
    /// The target could not be reached, refused the login, or broke off.
    Target,
    /// The policy, the device or the user changed in mid-session and no longer allowed it.
    Revoked,
    /// It was idle for too long, or reached its longest duration.
    Expired,
    /// An operator ended it.
    Killed,
    /// The recording was required and could not be written.
    Recording,
    /// The gateway was stopped in good order.
    Shutdown,
    /// The gateway failed.
    Failed,
    /// The gateway stopped without a word; the recording was sealed at its next start.
    Interrupted,
}

impl Outcome {
    /// The word in the JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Denied => "denied",
            Self::Client => "client",
            Self::Target => "target",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Killed => "killed",
            Self::Recording => "recording",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How, why and when a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: String,
    /// When, by the gateway's clock.
    pub at: jiff::Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Parameter, RunBy, Transaction};

    #[test]
    fn an_event_is_tagged_by_its_type() {
        let event = Event::Exec { channel: 3, command: "uname -a".into() };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"type":"exec","channel":3,"command":"uname -a"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn a_statement_is_one_flat_line_without_what_is_empty() {
        let statement = Statement {
            sql: Sql { text: "SELECT $1".into(), ..Sql::default() },
            by: RunBy::Execute,
            parameters: vec![Parameter { kind: "int4".into(), value: Some("7".into()), bytes: None }],
            rows: 1,
            bytes: 11,
            duration_us: 250,
            tag: "SELECT 1".into(),
            transaction: Some(Transaction::Idle),
            ..Statement::default()
        };
        let event = Event::Statement(Box::new(statement));
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            r#"{"type":"statement","sql":{"text":"SELECT $1"},"by":"execute","parameters":[{"type":"int4","value":"7"}],"rows":1,"bytes":11,"duration_us":250,"tag":"SELECT 1","transaction":"idle"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        assert_eq!(event.text(), "SELECT $1\n7");
    }

    #[test]
    fn an_event_of_a_later_version_is_unknown_not_an_error() {
        let event: Event = serde_json::from_str(r#"{"type":"teleported","to":"mars"}"#).unwrap();
        assert_eq!(event, Event::Unknown);
    }

    #[test]
    fn an_outcome_is_named_as_in_the_json() {
        for outcome in [Outcome::Completed, Outcome::Target, Outcome::Interrupted] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{}\"", outcome.as_str()));
        }
    }
}
