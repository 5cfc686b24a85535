//! Connections that callers make inside their sessions, to targets of this gateway: `ssh -J web1 web2`.
//!
//! The gateway answers such a connection itself, as one of the same device that arrived on the tailnet: with an approach, a
//! permit and a recording of its own. The target in whose session it was asked for never hears of it.

use std::net::SocketAddr;

use sallyport_tailnet::Stream;
use tokio::sync::mpsc;

use super::Session;
use crate::failure::Failure;
use crate::identity::Origin;

/// Where connections inside sessions are handed in.
#[derive(Debug, Clone)]
pub struct Inside(mpsc::Sender<InnerCall>);

/// A connection inside a session.
#[derive(Debug)]
pub struct InnerCall {
    /// The device of the session that it was made in, calling where it wants to go.
    pub origin: Origin,
    /// Its bytes.
    pub stream: Stream,
}

impl Inside {
    /// With the other end, for whoever answers the connections of the tailnet.
    pub fn new() -> (Self, mpsc::Receiver<InnerCall>) {
        let (calls, answered) = mpsc::channel(WAITING);
        (Self(calls), answered)
    }
}

impl Session {
    /// The place on the tailnet that a client means by `host` and `port`, if there is one.
    pub fn on_tailnet(&self, host: &str, port: u32) -> Option<SocketAddr> {
        self.access.on_tailnet(host, u16::try_from(port).ok()?)
    }

    /// Calls `destination` on the tailnet, as the session's caller.
    ///
    /// # Errors
    /// [`Failure::Ours`] when nobody answers, because the gateway is stopping or has too much to do.
    pub fn call(&self, destination: SocketAddr) -> Result<Stream, Failure> {
        let (near, far) = Stream::pair(BUFFER);
        let call = InnerCall { origin: self.caller().calling(destination), stream: far };
        self.inside.0.try_send(call).map_err(|_| Failure::Ours("a call inside a session was not taken".into()))?;
        Ok(near)
    }
}

/// Calls that may wait for the door.
const WAITING: usize = 256;
/// Bytes that a call holds in each direction: two packets of the largest usual size (RFC 4253, section 6.1).
const BUFFER: usize = 64 * 1024;
