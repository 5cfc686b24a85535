//! Failures, sorted by whose fault they are.
//!
//! What a caller may read depends on the kind: a denial is shown in full, a target's failure with the target and the stage
//! that failed, our own fault as 'internal error' with the session's id. Each protocol's `refuse.rs` turns
//! [`Failure::told`] into its own bytes; nothing else does.

use std::fmt;
use std::time::Duration;

use sallyport_recorder::SessionId;
use thiserror::Error;

/// Why a session could not begin, or could not go on.
#[derive(Debug, Error)]
pub enum Failure {
    /// The policy does not allow it. The sentence is meant for the caller.
    #[error("{0}")]
    Denied(String),
    /// The client broke its protocol, or never finished its greeting.
    #[error("client: {0}")]
    Client(String),
    /// The target could not be reached, or did not behave.
    #[error("{target}: {stage} failed: {detail}")]
    Target {
        /// The target's name.
        target: String,
        /// How far the connection had come.
        stage: Stage,
        /// What happened, without secrets.
        detail: String,
    },
    /// A required recording could not be opened or written.
    #[error("recording: {0}")]
    Recording(String),
    /// Everything else. The text goes to the log; the caller reads 'internal error'.
    #[error("internal error: {0}")]
    Ours(String),
}

impl Failure {
    /// A failure of `target` at `stage`.
    pub fn target(target: &str, stage: Stage, detail: impl fmt::Display) -> Self {
        Self::Target { target: target.to_owned(), stage, detail: harmless(&detail.to_string()) }
    }

    /// The sentence that the caller reads.
    pub fn told(&self, session: SessionId) -> String {
        match self {
            Self::Denied(sentence) => sentence.clone(),
            Self::Client(what) => format!("the connection was closed: {what}"),
            Self::Target { target, stage, detail } => {
                format!("{target} could not be reached: {stage} failed: {detail} (session {session})")
            }
            Self::Recording(_) => {
                format!("this session must be recorded, and its recording cannot be written (session {session})")
            }
            Self::Ours(_) => format!("internal error (session {session})"),
        }
    }
}

/// The stages of reaching a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding the target's address.
    Resolve,
    /// Opening the transport connection.
    Dial,
    /// Proving that the target is the one that was registered, by its TLS certificate.
    Tls,
    /// The same, by its SSH host key.
    HostKey,
    /// Logging in as the account.
    Login,
    /// Logging in as the admin that makes roles.
    AdminLogin,
    /// Anything after that.
    Protocol,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Dial => "dial",
            Self::Tls => "tls",
            Self::HostKey => "host key",
            Self::Login => "login",
            Self::AdminLogin => "admin login",
            Self::Protocol => "protocol",
        })
    }
}

/// Why the gateway ended a session that its caller had not ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Ending {
    /// The policy, the device or the target changed, and what was allowed is not any more.
    #[error("access was withdrawn: {0}")]
    Revoked(String),
    /// The permit's time is over.
    #[error("the device's key has expired: enrol it again")]
    Expired,
    /// The permit's longest duration is over.
    #[error("a session may last {} here at the most", said(*.0))]
    Overran(Duration),
    /// Nothing came from either side for as long as the permit allows.
    #[error("the session was idle for {}", said(*.0))]
    Idle(Duration),
    /// The required recording cannot be written any more.
    #[error("this session must be recorded, and its recording cannot be written any more")]
    RecordingFailed,
    /// An operator ended it, and may have said why.
    #[error("an operator ended this session{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Killed(Option<String>),
    /// The gateway is going down.
    #[error("the gateway is shutting down")]
    Shutdown,
}

impl Ending {
    /// An operator's word, with what they said about it.
    pub fn killed(why: Option<&str>) -> Self {
        Self::Killed(why.map(|why| harmless(why.trim())).filter(|why| !why.is_empty()))
    }
}

/// What a client, a target or an operator says, fit for a log line and a terminal: no control characters, and not too much.
pub(crate) fn harmless(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).take(LONGEST_DETAIL).collect()
}

/// A length of time for a person to read, such as `1h 30m`.
pub(crate) fn said(length: Duration) -> String {
    jiff::SignedDuration::try_from(length).map_or_else(|_| "a long time".to_owned(), |length| format!("{length:#}"))
}

/// Characters of a failure's detail that are kept.
const LONGEST_DETAIL: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_forges_no_log_line() {
        let failure = Failure::target("web1", Stage::Login, "bye\n2026-01-01 INFO session ended\u{1b}]52;c;x\u{7}");
        assert!(!failure.to_string().chars().any(char::is_control), "{failure}");
        assert!(Failure::target("web1", Stage::Login, "x".repeat(1 << 20)).to_string().len() < 2_000);
    }
}
