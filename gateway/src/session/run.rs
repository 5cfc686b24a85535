//! Runs one session from its approach to its seal, and alone logs how it ended.
//!
//! The broker runs in a task of its own, so that its panic ends this session alone. When the gateway wants the session to
//! end, the broker is told why through [`Session::ended`] and has [`FAREWELL`] to tell its caller; then it is stopped.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sallyport_policies::RecordingRule;
use sallyport_recorder::{Checkpoint, End, Outcome, Recording, SessionId, Signer, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::entry::{header, row};
use super::live::{Live, Place};
use super::sight::Sight;
use super::{Activity, Budgets, Inside, Session, Standing, limits};
use crate::access::{Access, Approach};
use crate::failure::{Ending, Failure, harmless};
use crate::state::State;

/// What all sessions of a gateway share.
pub struct Runner {
    /// Decides.
    pub access: Access,
    /// Where recordings go.
    pub store: Store,
    /// Seals recordings.
    pub signer: Arc<Signer>,
    /// The sessions that are going on.
    pub live: Live,
    /// Where sessions are listed for later.
    pub state: State,
    /// The gateway's name in recordings.
    pub gateway: String,
    /// Where calls inside sessions go.
    pub inside: Inside,
    /// What the peers of each device's SSH channels may send ahead.
    pub budgets: Budgets,
}

/// Opens a session on `approach`, hands it to `broker`, and sees it to its end.
pub async fn run<B, F>(runner: &Runner, approach: Approach, id: SessionId, broker: B)
where
    B: FnOnce(Arc<Session>) -> F,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let started = runner.access.clock().now();
    let header = header(&approach, id, started, &runner.gateway);
    let row = row(&approach, &header, runner.store.folder(&header));
    // Side by side: each waits for the disk.
    let (listed, created) =
        tokio::join!(runner.state.session_opened(&row), runner.store.create(header, Arc::clone(&runner.signer)));
    let (recording, unrecorded) = match created {
        Ok(recording) => (Some(recording), None),
        Err(error) => {
            warn!(session = %id, %error, "the recording could not be opened");
            (None, Some(error.to_string()))
        }
    };
    if let Err(error) = listed {
        // Without a row nobody would ever find this session again, so it does not begin.
        warn!(session = %id, %error, "the session could not be listed and was refused");
        discard(recording, &runner.access).await;
        return;
    }
    let checkpoints = recording.as_ref().map(|recording| keep_checkpoints(runner, id, recording));
    let (standing, stands) = watch::channel(Standing::Approaching);
    let sight = Sight::new(recording.as_ref(), stands);
    let (place, ended) = runner.live.enter(id, sight);
    let session = Arc::new(Session {
        id,
        budget: runner.budgets.of(approach.caller().device().key),
        approach,
        recording,
        access: runner.access.clone(),
        inside: runner.inside.clone(),
        standing,
        activity: Activity::new(),
        ended,
        notice: watch::Sender::new(String::new()),
    });
    let task = tokio::spawn(broker(Arc::clone(&session)));
    let mut end = supervise(runner, &session, &place, task).await;
    end.gap = end.gap.or(unrecorded);
    seal(runner, &session, end).await;
    if let Some(task) = checkpoints {
        let _ = task.await;
    }
}

/// How a session ended.
struct Ended {
    outcome: Outcome,
    reason: String,
    /// Why part of the session is not in its recording.
    gap: Option<String>,
}

/// Races the broker against everything that may end it from outside.
async fn supervise(
    runner: &Runner,
    session: &Session,
    place: &Place,
    mut broker: JoinHandle<Result<(), Failure>>,
) -> Ended {
    let (mut access, mut gap) = (runner.access.clone(), None);
    let mut warned = limits::Warned::default();
    let mut failure = std::pin::pin!(recorder_failure(session.recording()));
    let mut listed = std::pin::pin!(list_account(runner, session));
    let ending = loop {
        tokio::select! {
            // The broker comes last: where a right is taken away, the broken connection may be what it notices first.
            biased;
            ending = session.ended() => break ending,
            () = expiry(session) => place.end(Ending::Expired),
            () = access.changed() => match session.ask_again() {
                Ok(revision) => place.judged(revision),
                Err(ending) => place.end(ending),
            },
            ending = limits::reached(session) => place.end(ending),
            sentence = limits::nearing(session, &mut warned) => session.notify(sentence),
            never = &mut listed => match never {},
            error = &mut failure, if gap.is_none() => {
                gap = Some(error.clone());
                warn!(session = %session.id, %error, "the recording failed");
                if session.recording_rule() == RecordingRule::Required {
                    place.end(Ending::RecordingFailed);
                }
            }
            result = &mut broker => {
                let ended = finished(result);
                return Ended { gap: gap.or(ended.gap), ..ended };
            }
        }
    };
    if timeout(FAREWELL, &mut broker).await.is_err() {
        broker.abort();
        let _ = broker.await;
    }
    Ended { outcome: outcome_of(&ending), reason: ending.to_string(), gap }
}

/// Lists as which account a session goes on, for whoever looks meanwhile and after a crash. A short one is listed with it at
/// its end alone, which takes one wait for the disk less.
async fn list_account(runner: &Runner, session: &Session) -> Infallible {
    let mut stands = session.standing.subscribe();
    // The session holds the other end itself.
    let _ = stands.wait_for(|standing| matches!(standing, Standing::Permitted(_))).await;
    sleep(SHORT).await;
    if let Some(asked) = session.asked()
        && let Err(error) = runner.state.session_goes_on(session.id, asked).await
    {
        warn!(session = %session.id, %error, "the session's account could not be listed");
    }
    std::future::pending().await
}

/// Seals the recording and closes the session's row.
async fn seal(runner: &Runner, session: &Session, end: Ended) {
    let at = runner.access.clock().now();
    // It may name what the client asked for.
    let end = Ended { reason: harmless(&end.reason), ..end };
    let mut gap = end.gap;
    if let Some(recording) = session.recording().cloned() {
        let sealed = recording.close(End { outcome: end.outcome, reason: end.reason.clone(), at }).await;
        if let Err(error) = sealed {
            gap.get_or_insert_with(|| error.to_string());
        }
    }
    let reason = match &gap {
        Some(gap) => format!("{} (not all of it is recorded: {gap})", end.reason),
        None => end.reason,
    };
    info!(
        session = %session.id,
        caller = %session.caller(),
        target = %session.target().name,
        account = session.asked().map_or_else(|| "-".to_owned(), |(account, _)| account),
        outcome = end.outcome.as_str(),
        %reason,
        "session ended"
    );
    let end = (end.outcome.as_str(), reason.as_str());
    if let Err(error) = runner.state.session_ended(session.id, at, end, session.asked()).await {
        warn!(session = %session.id, %error, "the session's end could not be listed");
    }
}

fn finished(result: Result<Result<(), Failure>, tokio::task::JoinError>) -> Ended {
    let (outcome, reason) = match result {
        Ok(Ok(())) => (Outcome::Completed, "both sides were done".to_owned()),
        Ok(Err(failure)) => (
            match failure {
                Failure::Denied(_) => Outcome::Denied,
                Failure::Client(_) => Outcome::Client,
                Failure::Target { .. } => Outcome::Target,
                Failure::Recording(_) => Outcome::Recording,
                Failure::Ours(_) => Outcome::Failed,
            },
            failure.to_string(),
        ),
        Err(_) => {
            let reason = "internal error: the broker stopped unexpectedly".to_owned();
            let gap = Some("what it had seen last".to_owned());
            return Ended { outcome: Outcome::Failed, reason, gap };
        }
    };
    Ended { outcome, reason, gap: None }
}

fn outcome_of(ending: &Ending) -> Outcome {
    match ending {
        Ending::Revoked(_) => Outcome::Revoked,
        Ending::Expired | Ending::Overran(_) | Ending::Idle(_) => Outcome::Expired,
        Ending::RecordingFailed => Outcome::Recording,
        Ending::Killed(_) => Outcome::Killed,
        Ending::Shutdown => Outcome::Shutdown,
    }
}

/// Resolves when the device's enrolment ends, as it is known now; a change of it is asked for anew.
async fn expiry(session: &Session) {
    let Some(expires) = session.access.expiry(&session.approach) else { return std::future::pending().await };
    loop {
        let left = session.access.clock().now().duration_until(expires);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LONGEST_WAIT)).await,
            _ => return,
        }
    }
}

/// Resolves with what is wrong when `recording` fails.
async fn recorder_failure(recording: Option<&Recording>) -> String {
    match recording {
        Some(recording) => recording.failure().await.to_string(),
        None => std::future::pending().await,
    }
}

/// Copies the heads of the recording's chain to the ledger, so that cutting off its tail shows.
fn keep_checkpoints(runner: &Runner, id: SessionId, recording: &Recording) -> JoinHandle<()> {
    let mut heads: watch::Receiver<Option<Checkpoint>> = recording.checkpoints();
    let state = runner.state.clone();
    tokio::spawn(async move {
        while heads.changed().await.is_ok() {
            let head = heads.borrow_and_update().clone();
            if let Some(head) = head
                && let Err(error) = state.keep_checkpoint(id, &head).await
            {
                warn!(session = %id, %error, "the head of the recording's chain could not be kept");
            }
        }
    })
}

async fn discard(recording: Option<Recording>, access: &Access) {
    if let Some(recording) = recording {
        let reason = "the session could not be listed in the database".to_owned();
        let _ = recording.close(End { outcome: Outcome::Failed, reason, at: access.clock().now() }).await;
    }
}

/// A session that ends sooner than this after its permit is listed with its account at its end alone.
const SHORT: Duration = Duration::from_secs(1);
/// How long a broker may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);
/// The longest single wait for an expiry; a later one is waited for again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
