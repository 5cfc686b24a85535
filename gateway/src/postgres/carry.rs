//! A session from its server's welcome to its end: the client is let in, frames go both ways until one side or the gateway has
//! had enough, and both sides hear of that.

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::cancel::Wish;
use super::leg::{ClientLeg, Leg, Reader, TargetLeg, Writer};
use super::reach::Target;
use super::refuse::{self, Fault};
use super::relay::{Direction, Stopped, Watcher};
use super::stop::Stopper;
use super::watch::{OfClient, OfServer, Watch};
use super::wire::{ErrorResponse, SqlState};
use super::{Broker, Client};
use crate::failure::{Ending, Failure, Stage};
use crate::session::Session;

/// From the client to the server.
type Up = Direction<Reader<ClientLeg>, Writer<TargetLeg>>;
/// From the server to the client.
type Down = Direction<Reader<TargetLeg>, Writer<ClientLeg>>;

/// Lets the client in, and carries frames both ways until the session is over.
///
/// # Errors
/// What broke it, for the session's record; the client was told already.
pub(super) async fn carry(
    client: Client,
    target: Target,
    watch: &Arc<Watch>,
    session: &Arc<Session>,
    broker: &Broker,
) -> Result<(), Failure> {
    let Target { leg: server, inbox, welcome, key, .. } = target;
    let device = session.caller().device().key;
    let (place, wishes) = broker.cancels.enter(device, welcome.version, key.as_ref().map(|key| key.process));
    let mut client = client.leg;
    if !let_in(&mut client, &welcome.bytes(place.key()), session).await {
        return Ok(());
    }
    let (from_client, to_client, early) = client.halves();
    let (from_server, to_server, _) = server.halves();
    let (up, down): (Up, Down) =
        (Direction::new(from_client, to_server, early), Direction::new(from_server, to_client, inbox));
    let mut up = Running::start(up, Side::Client, OfClient(Arc::clone(watch)), session);
    let mut down = Running::start(down, Side::Server, OfServer(Arc::clone(watch)), session);
    let stopper = Stopper { session, vault: &broker.vault, key };
    let over = both_ways(&mut up, &mut down, watch, beside(watch, session, &stopper, wishes)).await;
    let (mut up, mut down) = tokio::join!(up.stop(), down.stop());
    let runs_on = !over.is_servers() && watch.is_waiting();
    let (error, result) = over.told(watch, session);
    // A server does not notice that nobody is there any more before it has something to say.
    let stopping = async {
        if runs_on {
            stopper.at_the_end().await;
        }
    };
    // What was seen when it ended.
    let (mut asked, mut answered) = (up.unwritten(), down.unwritten());
    let writing_down = async {
        session.record_all(&mut asked).await?;
        session.record_all(&mut answered).await
    };
    let (written_down, (), ()) = tokio::join!(writing_down, part(&mut up, &mut down, error), stopping);
    written_down.and(result)
}

/// Tells the client that it is in. One that does not even take its welcome holds nothing up, a withdrawn permit least of all.
async fn let_in(client: &mut ClientLeg, welcome: &[u8], session: &Session) -> bool {
    let welcomed = async {
        client.write_all(welcome).await?;
        client.flush().await
    };
    tokio::select! {
        welcomed = timeout(WELCOME_DEADLINE, welcomed) => matches!(welcomed, Ok(Ok(()))),
        _ = session.ended() => false,
    }
}

/// A direction that carries frames in a task of its own: what comes on one wakes neither the other nor what waits beside them.
struct Running<D> {
    task: AbortOnDropHandle<(D, Option<Result<(), Stopped>>)>,
    stop: AbortHandle,
    /// It carries no more.
    done: Option<D>,
}

impl<R, W> Running<Direction<R, W>>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    /// Has `direction` carry what `side` sends.
    fn start(
        mut direction: Direction<R, W>,
        side: Side,
        mut watcher: impl Watcher + Send + 'static,
        session: &Arc<Session>,
    ) -> Self {
        let (stop, stopping) = AbortHandle::new_pair();
        let session = Arc::clone(session);
        let task = tokio::spawn(async move {
            let run = async {
                let stopped = direction.run(&session, &mut watcher).await;
                // Whatever ends what a client sends, the server hears of it at once: its locks and its place are free again.
                // But nothing more is carried without a recording: not even what a farewell would bring along.
                if matches!(side, Side::Client) && !matches!(stopped, Err(Stopped::Recording(_))) {
                    direction.close().await;
                }
                stopped
            };
            let stopped = Abortable::new(run, stopping).await.ok();
            (direction, stopped)
        });
        Self { task: AbortOnDropHandle::new(task), stop, done: None }
    }

    /// Resolves once it has stopped by itself. Cancel-safe; not to be called again after that.
    async fn stopped(&mut self) -> Result<(), Stopped> {
        let (direction, stopped) = unless_panicked((&mut self.task).await).await;
        self.done = Some(direction);
        stopped.unwrap_or(Ok(()))
    }

    /// The direction, which carries nothing more.
    async fn stop(self) -> Direction<R, W> {
        self.stop.abort();
        match self.done {
            Some(direction) => direction,
            None => unless_panicked(self.task.await).await.0,
        }
    }
}

/// What a task has come to; its panic is its session's.
async fn unless_panicked<T>(task: Result<T, JoinError>) -> T {
    match task.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is going down, and this with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Waits until the session is over.
async fn both_ways(
    up: &mut Running<Up>,
    down: &mut Running<Down>,
    watch: &Watch,
    beside: impl Future<Output = Ending>,
) -> Over {
    let mut beside = pin!(beside);
    let mut client_done = false;
    loop {
        tokio::select! {
            stopped = up.stopped(), if !client_done => match stopped {
                // What the server still has to say is passed on.
                Ok(()) | Err(Stopped::Reading(_)) => client_done = true,
                // Its last words may be on their way, and say more than a broken pipe.
                Err(Stopped::Writing(_)) => client_done = true,
                Err(stopped) => return Over::Stopped(Side::Client, stopped),
            },
            stopped = down.stopped() => return match stopped {
                Ok(()) if watch.is_cut() => Over::Cut,
                Ok(()) => Over::ServerDone,
                Err(stopped) => Over::Stopped(Side::Server, stopped),
            },
            ending = &mut beside => return Over::Ended(ending),
            () = tokio::time::sleep(patience(watch)), if client_done => return Over::ClientGone,
        }
    }
}

/// What goes on beside the two directions, until the gateway wants the session to end. Each part is looked at when something
/// has come for it, and not with every packet.
async fn beside(watch: &Watch, session: &Session, stopper: &Stopper<'_>, wishes: mpsc::Receiver<Wish>) -> Ending {
    let mut parts = FuturesUnordered::from_iter([
        session.ended().boxed(),
        stopper.as_wished(wishes).boxed(),
        stopper.as_limited(watch).boxed(),
    ]);
    parts.next().await.unwrap_or(Ending::Shutdown)
}

/// How long a server may go on with what a client has left to it: one that has said goodbye means it to be done.
fn patience(watch: &Watch) -> Duration {
    if watch.is_over() { HALF_CLOSED } else { ABANDONED }
}

/// Tells the client of the end, with this error where there is room for it.
async fn part(up: &mut Up, down: &mut Down, error: Option<ErrorResponse>) {
    match (error, down.between_frames()) {
        (Some(error), Some(client)) => refuse::tell(client, &error).await,
        _ => down.close().await,
    }
    up.pass_over().await;
}

/// How a session came to its end.
enum Over {
    /// The server has closed its side.
    ServerDone,
    /// The client has closed its side, and the server does not come to an end.
    ClientGone,
    /// One direction failed.
    Stopped(Side, Stopped),
    /// The gateway wants it to.
    Ended(Ending),
    /// The client was told in the stream why it ends.
    Cut,
}

impl Over {
    /// Whether it is the server that has gone.
    fn is_servers(&self) -> bool {
        matches!(self, Self::ServerDone | Self::Stopped(Side::Server, Stopped::Reading(_)))
    }

    /// What the client is told of the end, if it has not heard yet, and what becomes of the session.
    fn told(self, watch: &Watch, session: &Session) -> (Option<ErrorResponse>, Result<(), Failure>) {
        let name = &session.target().name;
        let failure = match self {
            Self::Ended(ending) => return (Some(refuse::ended(&ending)), Ok(())),
            Self::ServerDone if watch.is_over() => return (None, Ok(())),
            Self::ServerDone => Failure::target(name, Stage::Protocol, "the server closed the connection unexpectedly"),
            // A client that is gone is an ordinary ending.
            Self::ClientGone | Self::Cut | Self::Stopped(Side::Server, Stopped::Writing(_)) => return (None, Ok(())),
            Self::Stopped(Side::Server, Stopped::Reading(error)) if watch.is_over() => {
                debug!(%error, "a server broke off after it had said so");
                return (None, Ok(()));
            }
            Self::Stopped(_, Stopped::Recording(failure)) => failure,
            Self::Stopped(Side::Server, stopped) => Failure::target(name, Stage::Protocol, stopped),
            Self::Stopped(Side::Client, stopped) => Failure::Client(stopped.to_string()),
        };
        let fault =
            Fault { code: matches!(failure, Failure::Target { .. }).then_some(SqlState::CONNECTION_FAILURE), failure };
        (Some(fault.response(session.id())), Err(fault.failure))
    }
}

/// Whose frames a direction carries.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// How long a client may take to take what the server greets it with.
const WELCOME_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server may go on after its client has said goodbye.
const HALF_CLOSED: Duration = Duration::from_secs(60);
/// How long it may go on after its client has closed its side without a word.
const ABANDONED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    #[tokio::test]
    async fn a_direction_that_panics_brings_its_session_down_and_not_less() {
        let task = tokio::spawn(async { panic!("hostile bytes") });
        let panicked = AssertUnwindSafe(unless_panicked::<()>(task.await)).catch_unwind().await.unwrap_err();
        assert_eq!(panicked.downcast_ref(), Some(&"hostile bytes"));
    }
}
