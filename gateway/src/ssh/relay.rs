//! The channels of one connection: each is judged, opened at the other end, then confirmed, then carried.
//!
//! [`open`] opens them, whichever end wants one; [`passage`] carries a program's, [`requests`] judges what is asked for on it,
//! and [`program`] is where the byte streams of what runs there are observed; [`forward`] carries a forwarded connection;
//! [`listen`] answers what is asked of the whole connection, [`asked`] remembers what the target may open because of it;
//! [`granted`] ends what a newer permit takes away, and [`farewell`] all of them.

mod asked;
mod farewell;
mod forward;
mod granted;
mod listen;
mod open;
mod passage;
mod program;
mod requests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use parking_lot::Mutex;
use russh::{client, server};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::authorize::{Request, authorize};
use super::opening::{Asking, Opening};
use super::reach::Target;
use crate::access::SshPermit;
use crate::failure::{Ending, Failure};
use crate::session::{Session, SshPermits};

use asked::Asked;
pub(super) use farewell::{Farewell, Programs};

/// Carries the channels of one connection.
#[derive(Clone)]
pub(super) struct Relays(Arc<Shared>);

struct Shared {
    session: Arc<Session>,
    permits: SshPermits,
    /// What the connection began with.
    first: Option<Arc<SshPermit>>,
    client: server::Handle,
    target: Target,
    asked: Asked,
    farewell: Farewell,
    channels: AtomicU32,
    terminals: AtomicU32,
    failure: Mutex<Option<Failure>>,
    failed: CancellationToken,
}

impl Relays {
    pub(super) fn new(session: Arc<Session>, client: server::Handle, target: Target, farewell: Farewell) -> Self {
        let permits = session.ssh_permits();
        Self(Arc::new(Shared {
            first: permits.now().ok(),
            permits,
            session,
            client,
            target,
            asked: Asked::default(),
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
        if let Err(failure) = self.0.close_listeners().await {
            self.0.fail(failure);
        }
        self.0.target.leave().await;
    }

    /// Carries a channel that the client wants, until both ends are closed.
    pub(super) fn carry(&self, opening: Opening<server::Msg>) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move { shared.tell(shared.carry(opening).await) }
    }

    /// The next channel that the target wants.
    pub(super) async fn opening(&self) -> Option<Opening<client::Msg>> {
        self.0.target.opening().await
    }

    /// Carries a channel that the target wants, until both ends are closed.
    pub(super) fn carry_back(&self, opening: Opening<client::Msg>) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move { shared.tell(shared.carry_back(opening).await) }
    }

    /// Ends what the target listens on and the newest permit does not give any more; each open channel sees to itself.
    pub(super) fn judge_listeners(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move { shared.tell(shared.judge_listeners().await) }
    }

    /// Answers a request of the client's about the whole connection; the next one is to wait for it.
    pub(super) async fn answer(&self, asking: Asking) {
        self.0.tell(self.0.answer(asking).await);
    }
}

impl Shared {
    fn tell(&self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.fail(failure);
        }
    }

    /// How the client is told that `request` is refused because of `why`: what it was given at first, it has lost since.
    fn refusal(&self, request: Request<'_>, why: &str) -> String {
        match &self.first {
            Some(first) if authorize(first, request).is_ok() => Ending::Revoked(why.to_owned()).to_string(),
            _ => why.to_owned(),
        }
    }

    /// Tells of something that has no channel to be told on. A person at a terminal beside it reads it there. Where there is
    /// none the client is sent a message that it may show (RFC 4253, section 11.3): OpenSSH does so at `-v` alone.
    async fn notify(&self, sentence: String) {
        let _ = timeout(LAST_WORDS, self.client.debug(sentence.clone())).await;
        self.session.notify(sentence);
    }

    /// Ends the session; its first failure counts.
    fn fail(&self, failure: Failure) {
        self.failure.lock().get_or_insert(failure);
        self.failed.cancel();
    }
}

/// Messages that wait for a connection's loop, which writes as many at once. Data among them is in no window any more: 2 MB of
/// packets of the usual size here and 2 MB in the loop, where the peer takes nothing at all.
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
