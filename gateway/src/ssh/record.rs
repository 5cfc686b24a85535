//! Where the output of one channel's program is recorded. Recording waits while the recorder is behind, and the channel
//! with it; nothing is dropped.

use bytes::Bytes;
use sallyport_policies::RecordingRule;
use sallyport_recorder::{Output, OutputStream, RecorderError, Terminal, TerminalHeader};

use crate::failure::Failure;
use crate::session::Session;

/// The part of a recording that a program's output goes to.
pub(super) enum Track {
    /// A terminal's, as asciicast.
    Terminal(Terminal),
    /// A command's, byte for byte.
    Command { stdout: Output, stderr: Output },
    /// That of sessions that the policy does not record.
    Nothing,
}

impl Track {
    /// For what runs in terminal `number`.
    pub(super) async fn terminal(session: &Session, number: u32, header: TerminalHeader) -> Result<Self, Failure> {
        let Some(recording) = recorded(session) else { return Ok(Self::Nothing) };
        let terminal = tolerate(session, recording.terminal(number, header).await)?;
        Ok(terminal.map_or(Self::Nothing, Self::Terminal))
    }

    /// For what comes on `channel` without a terminal; of a stream that stays empty nothing is kept.
    pub(super) async fn command(session: &Session, channel: u32) -> Result<Self, Failure> {
        let Some(recording) = recorded(session) else { return Ok(Self::Nothing) };
        let stdout = tolerate(session, recording.output(channel, OutputStream::Stdout).await)?;
        let stderr = tolerate(session, recording.output(channel, OutputStream::Stderr).await)?;
        Ok(match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => Self::Command { stdout, stderr },
            _ => Self::Nothing,
        })
    }

    /// Records standard output.
    pub(super) async fn stdout(&self, session: &Session, bytes: &Bytes) -> Result<(), Failure> {
        let written = match self {
            Self::Terminal(terminal) => terminal.output(bytes).await,
            Self::Command { stdout, .. } => stdout.output(bytes).await,
            Self::Nothing => Ok(()),
        };
        tolerate(session, written).map(drop)
    }

    /// Records standard error.
    pub(super) async fn stderr(&self, session: &Session, bytes: &Bytes) -> Result<(), Failure> {
        let written = match self {
            Self::Terminal(terminal) => terminal.output(bytes).await,
            Self::Command { stderr, .. } => stderr.output(bytes).await,
            Self::Nothing => Ok(()),
        };
        tolerate(session, written).map(drop)
    }

    /// Records a terminal's new size.
    pub(super) async fn resize(&self, session: &Session, width: u16, height: u16) -> Result<(), Failure> {
        match self {
            Self::Terminal(terminal) => tolerate(session, terminal.resize(width, height).await).map(drop),
            Self::Command { .. } | Self::Nothing => Ok(()),
        }
    }
}

/// The recording, unless the policy wants no output in it.
fn recorded(session: &Session) -> Option<&sallyport_recorder::Recording> {
    session.recording().filter(|_| session.recording_rule() != RecordingRule::Off)
}

/// A failed recorder ends the session where the recording is required, and is let pass where it is not.
fn tolerate<T>(session: &Session, result: Result<T, RecorderError>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if session.recording_rule() == RecordingRule::Required => Err(Failure::Recording(error.to_string())),
        Err(_) => Ok(None),
    }
}
