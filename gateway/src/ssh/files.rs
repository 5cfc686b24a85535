//! The files that pass through a channel: which may, and what is written down of each.
//!
//! A [`Transfer`] is fed both directions of a channel, piece by piece, and gives back what goes on, with the events of it. It
//! does no I/O and reads no clock; a file's bytes are counted and never held, and what is held of the protocol is bounded.
//! SFTP ([`sftp`]) is judged request by request, and a refused one is answered in the target's stead; scp's old protocol
//! ([`scp`]) goes one way only, which its command line says, and is judged by that.

mod cutter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod scp;
mod sftp;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::Event;

pub(super) use scp::Command as ScpCommand;

use super::authorize::FileRule;

/// The protocol of a channel that carries files.
#[derive(Debug)]
pub(super) enum Transfer {
    /// SFTP, version 3.
    Sftp(Box<sftp::Sftp>),
    /// scp's old protocol.
    Scp(Box<scp::Scp>),
}

/// What came of a piece of a stream.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What goes on in the same direction, in order.
    pub(super) pieces: Vec<Bytes>,
    /// What is to be written down, before the pieces go on.
    pub(super) events: Vec<Event>,
    /// A sentence for the person at the client.
    pub(super) told: Option<String>,
    /// The protocol was broken: nothing more is to be passed on either way, and the channel is to be closed.
    pub(super) broken: Option<Broken>,
    /// Whether the other direction has something to send now, or may go on where it waited.
    pub(super) wake: bool,
}

/// How the protocol was broken, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

impl Transfer {
    /// The subsystem `sftp`, on a channel of this number, under a rule.
    pub(super) fn sftp(channel: u32, rule: FileRule) -> Self {
        Self::Sftp(Box::new(sftp::Sftp::new(channel, rule)))
    }

    /// scp's far end, as `command` started it.
    pub(super) fn scp(channel: u32, command: ScpCommand) -> Self {
        Self::Scp(Box::new(scp::Scp::new(channel, command)))
    }

    /// Looks at what came from the client, `now` after the channel was opened. What is left in `chunk` has to wait until
    /// the other direction says [`Passed::wake`].
    pub(super) fn client_sent(&mut self, now: Duration, chunk: &mut Bytes) -> Passed {
        match self {
            Self::Sftp(sftp) => sftp.client_sent(now, chunk),
            Self::Scp(scp) => scp.client_sent(now, chunk),
        }
    }

    /// Looks at what came from the target; otherwise as [`Transfer::client_sent`]. An empty `chunk` asks for what is to be
    /// sent to the client in the target's stead.
    pub(super) fn target_sent(&mut self, now: Duration, chunk: &mut Bytes) -> Passed {
        match self {
            Self::Sftp(sftp) => sftp.target_sent(now, chunk),
            Self::Scp(scp) => scp.target_sent(now, chunk),
        }
    }

    /// The client will send nothing more, so that nothing that waits for it will go on.
    pub(super) fn client_ended(&mut self) {
        if let Self::Scp(scp) = self {
            scp.client_ended();
        }
    }

    /// The channel's end: what was going on then.
    pub(super) fn finish(&mut self, now: Duration) -> Vec<Event> {
        match self {
            Self::Sftp(sftp) => sftp.finish(now),
            Self::Scp(scp) => scp.finish(now),
        }
    }
}

impl Broken {
    fn client(what: impl std::fmt::Display) -> Self {
        Self(format!("the client broke the protocol of file transfer: {what}"))
    }

    fn target(what: impl std::fmt::Display) -> Self {
        Self(format!("the target broke the protocol of file transfer: {what}"))
    }
}

/// A path or name as text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Microseconds.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Longest path, in bytes: Linux's PATH_MAX. A longer one could not be recorded whole, and is refused.
const MAX_PATH: usize = 4096;
/// Longest text of an answer that is kept, in bytes.
const MAX_MESSAGE: usize = 256;
