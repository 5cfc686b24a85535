//! What a peer wants opened or answered, on its way from the loop of its leg to the relay.

use std::sync::Arc;

use russh::server::{GlobalReply, GlobalRequest};
use russh::{Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelOpenHandleInner, ChannelType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A channel that a peer wants, and its place among those that may be open.
pub(super) struct Opening<M: Send + From<(ChannelId, ChannelMsg)>> {
    pub(super) typ: ChannelType,
    pub(super) channel: Channel<M>,
    pub(super) reply: ChannelOpenHandleInner<M>,
    pub(super) place: OwnedSemaphorePermit,
}

/// A request of the client's about the whole connection.
pub(super) struct Asking {
    pub(super) request: GlobalRequest,
    pub(super) reply: GlobalReply,
}

/// How many channels may be open on one connection, counted from the request to open them, by whichever end.
#[derive(Debug, Clone)]
pub(super) struct Places {
    sessions: Arc<Semaphore>,
    forwards: Arc<Semaphore>,
}

impl Places {
    /// All of them free.
    pub(super) fn new() -> Self {
        Self { sessions: Arc::new(Semaphore::new(MAX_SESSIONS)), forwards: Arc::new(Semaphore::new(MAX_FORWARDS)) }
    }

    /// A place for one more channel of this type.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn take(&self, typ: &ChannelType) -> Result<OwnedSemaphorePermit, String> {
        let (places, most, what) = match typ {
            ChannelType::Session => (&self.sessions, MAX_SESSIONS, "session channels"),
            _ => (&self.forwards, MAX_FORWARDS, "forwarded channels"),
        };
        Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| format!("at most {most} {what} may be open on one connection at the same time"))
    }
}

/// The name of a channel type on the wire, as it may stand in a recording.
pub(super) fn wire_name(typ: &ChannelType) -> String {
    match typ {
        ChannelType::Session => "session",
        ChannelType::X11 { .. } => "x11",
        ChannelType::DirectTcpip(_) => "direct-tcpip",
        ChannelType::DirectStreamLocal(_) => "direct-streamlocal@openssh.com",
        ChannelType::ForwardedTcpIp(_) => "forwarded-tcpip",
        ChannelType::ForwardedStreamLocal(_) => "forwarded-streamlocal@openssh.com",
        ChannelType::AgentForward => "auth-agent@openssh.com",
        ChannelType::Unknown { typ } => return super::observe::name(typ),
    }
    .to_owned()
}

/// A refusal because there are too many already.
pub(super) fn shortage(reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: SHORTAGE, reason }
}

/// A refusal because it is not allowed.
pub(super) fn prohibited(reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: PROHIBITED, reason }
}

/// A refusal because nobody knows such a channel.
pub(super) fn unknown(reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: UNKNOWN, reason }
}

/// Programs at the same time on one connection; OpenSSH's sshd allows ten.
const MAX_SESSIONS: usize = 64;
/// Forwarded connections at the same time on one connection: what a browser behind `ssh -D` opens.
const MAX_FORWARDS: usize = 256;
/// Openings that may wait for the relay: all that there are places for.
pub(super) const MAX_OPENINGS: usize = MAX_SESSIONS + MAX_FORWARDS;
/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, section 5.1).
const PROHIBITED: u32 = 1;
/// SSH_OPEN_UNKNOWN_CHANNEL_TYPE (RFC 4254, section 5.1).
const UNKNOWN: u32 = 3;
/// SSH_OPEN_RESOURCE_SHORTAGE (RFC 4254, section 5.1).
const SHORTAGE: u32 = 4;
