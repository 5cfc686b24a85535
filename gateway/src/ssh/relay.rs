//! The channels of one connection: each is opened on the target, then confirmed to the client, then carried.
//!
//! [`passage`] carries one channel, [`requests`] judges what is asked for on it, [`program`] is where the byte streams of
//! what runs there are observed, and [`farewell`] ends them all.

mod farewell;
mod passage;
mod program;
mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use russh::ChannelOpenFailure;
use sallyport_recorder::Event;
use tokio_util::sync::CancellationToken;

use super::greet::Opening;
use super::reach::Target;
use crate::access::SshPermit;
use crate::failure::Failure;
use crate::session::Session;

pub(super) use farewell::Farewell;
use passage::Passage;

/// Carries the channels of one connection.
#[derive(Clone)]
pub(super) struct Relays(Arc<Shared>);

struct Shared {
    session: Arc<Session>,
    permit: SshPermit,
    target: Target,
    farewell: Farewell,
    channels: AtomicU32,
    terminals: AtomicU32,
    failure: Mutex<Option<Failure>>,
    failed: CancellationToken,
}

impl Relays {
    pub(super) fn new(session: Arc<Session>, permit: SshPermit, target: Target, farewell: Farewell) -> Self {
        Self(Arc::new(Shared {
            session,
            permit,
            target,
            farewell,
            channels: AtomicU32::new(0),
            terminals: AtomicU32::new(0),
            failure: Mutex::new(None),
            failed: CancellationToken::new(),
        }))
    }

    /// Resolves with the first failure that the whole session has to end for.
    pub(super) async fn failed(&self) -> Failure {
        tokio::select! {
            () = self.0.failed.cancelled() => {}
            () = self.0.target.gone() => {}
        }
        self.0.failure.lock().take().unwrap_or_else(|| self.0.target.broke_off())
    }

    /// Says goodbye to the target.
    pub(super) async fn leave(&self) {
        self.0.target.leave().await;
    }

    /// Opens the target's end of a channel, then the client's, and carries both directions until both are closed.
    pub(super) fn carry(&self, opening: Opening) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move {
            if let Err(failure) = shared.carry(opening).await {
                shared.failure.lock().get_or_insert(failure);
                shared.failed.cancel();
            }
        }
    }
}

impl Shared {
    async fn carry(&self, opening: Opening) -> Result<(), Failure> {
        let Opening { channel: near, reply, place: _place } = opening;
        // The client's channel is confirmed only now, so nothing of its can arrive before there is a place for it.
        let far = match self.target.open().await {
            Ok(far) => far,
            Err(russh::Error::ChannelOpenFailure(refusal)) => {
                let why = format!("{}: {}", self.session.target().name, refusal.description());
                let event = Event::Refused { channel: None, what: "session channel".to_owned(), why: why.clone() };
                self.session.record(event).await?;
                reply.reject(ChannelOpenFailure::Other { code: refusal.code(), reason: why }).await;
                return Ok(());
            }
            Err(_) => return Err(self.target.broke_off()),
        };
        let number = self.channels.fetch_add(1, Ordering::Relaxed);
        if number >= MAX_IN_ALL {
            let why = format!("one connection may open {MAX_IN_ALL} channels: connect again");
            reply.reject(ChannelOpenFailure::Other { code: RESOURCE_SHORTAGE, reason: why }).await;
            return Ok(());
        }
        self.session.record(Event::ChannelOpen { channel: number, kind: "session".to_owned() }).await?;
        reply.accept().await;
        let (result, sent, received) = Passage::carry(self, number, near, far).await;
        self.session.record(Event::ChannelClose { channel: number, sent, received }).await?;
        result
    }
}

/// What a peer may send ahead on one channel, in bytes; OpenSSH's own size, and 16 MB was slower.
pub(super) const WINDOW: u32 = 2 * 1024 * 1024;
/// Messages that wait for a connection's loop; data among them is within its channel's window.
pub(super) const QUEUE: usize = 64;
/// A peer that is silent for so long is asked whether it is there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);
/// Questions that may go without an answer.
pub(super) const KEEPALIVES: usize = 10;
/// A peer that answers nothing, and takes nothing, for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(5 * 60);
/// How long the channels may take to end after the client has gone, or was told to.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How long a client may take to take our last words.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Channels in the life of one connection: a recording has files for each, and has to stay readable.
const MAX_IN_ALL: u32 = 20_000;
/// SSH_OPEN_RESOURCE_SHORTAGE (RFC 4254, section 5.1).
const RESOURCE_SHORTAGE: u32 = 4;
