//! One brokered connection: a recording opened first, then a transport to the target, then an account.
//!
//! A [`Session`] is what a broker holds. It is made from an [`Approach`] alone, and dialling, recording and asking for an
//! account are its methods, so that a path around the policy or the recording has nothing to call. [`run()`] is what
//! the gateway holds: it alone races the broker against revocation, expiry, a failed recording, an operator and shutdown.

mod budget;
mod dial;
mod entry;
mod inside;
mod limits;
mod live;
mod run;
mod sight;
mod standing;

use std::sync::Arc;

use sallyport_policies::RecordingRule;
use sallyport_recorder::{Event, Recording, SessionId};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::{Access, Approach, Given, Permit, PostgresPermit, SshPermit};
use crate::failure::{Ending, Failure};
use crate::identity::Caller;
use crate::target::Target;

pub use budget::Budgets;
pub(crate) use budget::{Budget, SMALL, Share};
pub(crate) use dial::{dial_to_clean_up, dial_to_probe};
pub use inside::{InnerCall, Inside};
use limits::Activity;
pub use live::Live;
pub use run::{Runner, run};
pub use standing::SshPermits;
use standing::Standing;

/// A connection of one caller to one target, with its recording open.
pub struct Session {
    id: SessionId,
    approach: Approach,
    recording: Option<Recording>,
    access: Access,
    inside: Inside,
    budget: Arc<Budget>,
    standing: watch::Sender<Standing>,
    activity: Activity,
    ended: watch::Receiver<Option<Ending>>,
    /// What the caller is told while the session goes on.
    notice: watch::Sender<String>,
}

impl Session {
    /// Its id, also the name of its recording.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        self.approach.caller()
    }

    /// Where to.
    pub fn target(&self) -> &Arc<Target> {
        self.approach.target()
    }

    /// What the peers of this session and of all others of its device may send ahead.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Opens the transport to the target, where it speaks the protocol that the caller came for. No byte of the caller's may
    /// be sent on it before there is a permit.
    ///
    /// # Errors
    /// [`Failure::Recording`] while a required recording is not open, [`Failure::Target`] when the target is not there.
    pub async fn dial(&self) -> Result<TcpStream, Failure> {
        if self.recording.is_none() && self.recording_rule() == RecordingRule::Required {
            return Err(Failure::Recording("it could not be opened".into()));
        }
        dial::dial(&self.approach.target().name, &self.approach.address().to_string()).await
    }

    /// Asks for an account over SSH; by the newest policy, and anew for each name. The last answer holds, until the policy
    /// changes: see [`Session::ssh_permits`].
    ///
    /// # Errors
    /// [`Failure::Denied`] with the sentence for the caller, [`Failure::Recording`] when this account has to be recorded
    /// and the recording is not there.
    pub fn authorize_ssh(&self, account: &str) -> Result<Arc<SshPermit>, Failure> {
        self.authorize(account, || self.access.permit_ssh(&self.approach, account), Given::Ssh)
    }

    /// Asks for a role in a database of a Postgres server, in the same way.
    ///
    /// # Errors
    /// As for [`Session::authorize_ssh`].
    pub fn authorize_postgres(&self, role: &str, database: &str) -> Result<Arc<PostgresPermit>, Failure> {
        self.authorize(role, || self.access.permit_postgres(&self.approach, role, database), Given::Postgres)
    }

    fn authorize<R>(
        &self,
        account: &str,
        decide: impl FnOnce() -> Result<Permit<R>, Failure>,
        given: fn(Arc<Permit<R>>) -> Given,
    ) -> Result<Arc<Permit<R>>, Failure> {
        let kept: String = account.chars().take(MAX_ACCOUNT).collect();
        let too_long = || Failure::Denied(format!("no account has a name of more than {MAX_ACCOUNT} characters"));
        let mut answer = Err(Failure::Ours("nothing was decided".into()));
        // Decided where it is kept, so that no change of the world comes between: it would be judged without this account.
        self.standing.send_modify(|standing| {
            let decided = if kept.len() < account.len() { Err(too_long()) } else { decide() };
            answer = decided.and_then(|permit| match (permit.recording(), &self.recording) {
                (RecordingRule::Required, None) => Err(Failure::Recording("it could not be opened".into())),
                _ => Ok(Arc::new(permit)),
            });
            *standing = match &answer {
                Ok(permit) => Standing::Permitted(given(Arc::clone(permit))),
                Err(_) => Standing::Refused { account: kept },
            };
        });
        answer
    }

    /// Asks again, by the newest world: what it gives takes the place of what was given. Says which world that is.
    ///
    /// # Errors
    /// How the session has to end.
    fn ask_again(&self) -> Result<u64, Ending> {
        let mut judged = Err(Ending::Revoked("nothing was decided".to_owned()));
        self.standing.send_if_modified(|standing| {
            let given = match &*standing {
                Standing::Permitted(given) => Some(given),
                Standing::Approaching | Standing::Refused { .. } => None,
            };
            let (revision, now) = match self.access.anew(&self.approach, given) {
                Ok((revision, now)) => (Ok(revision), now),
                Err(ending) => (Err(ending), None),
            };
            judged = revision;
            let renewed = now.is_some();
            if let Some(now) = now {
                *standing = Standing::Permitted(now);
            }
            renewed
        });
        judged
    }

    /// The recording; `None` when it could not be opened and the policy lets the session go on without.
    pub fn recording(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }

    /// Writes `event` down, waiting for room. Where the policy lets the session go on without its recording, a failure
    /// is left to [`run()`] to note.
    ///
    /// # Errors
    /// [`Failure::Recording`] when the recording is required and could not be written.
    pub async fn record(&self, event: Event) -> Result<(), Failure> {
        let Some(recording) = &self.recording else { return Ok(()) };
        match recording.event(event).await {
            Err(error) if self.recording_rule() == RecordingRule::Required => {
                Err(Failure::Recording(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The same of several, taking each out of `events` once it is written down. Cancel-safe: what is left there is not.
    ///
    /// # Errors
    /// As for [`Session::record`].
    pub(crate) async fn record_all(&self, events: &mut Vec<Event>) -> Result<(), Failure> {
        let written = match &self.recording {
            Some(recording) if !events.is_empty() => recording.events(events).await,
            _ => Ok(()),
        };
        match written {
            Err(error) if self.recording_rule() == RecordingRule::Required => {
                Err(Failure::Recording(error.to_string()))
            }
            _ => {
                events.clear();
                Ok(())
            }
        }
    }

    /// Whether the session may go on, as far as its recording goes: asked before each write of a relay, and so a look at one
    /// word in memory while all is well.
    ///
    /// # Errors
    /// [`Failure::Recording`] once a recording that is required has failed.
    pub(crate) fn recording_holds(&self) -> Result<(), Failure> {
        match self.recording.as_ref().and_then(Recording::failed) {
            Some(error) if self.recording_rule() == RecordingRule::Required => {
                Err(Failure::Recording(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What the policy asks of the recording, as far as the account is known.
    pub fn recording_rule(&self) -> RecordingRule {
        match &*self.standing.borrow() {
            Standing::Approaching | Standing::Refused { .. } => self.approach.recording(),
            Standing::Permitted(given) => given.recording(),
        }
    }

    /// Says that something came from one of the sides, so that the session is not idle.
    pub fn touch(&self) {
        self.touch_at(Instant::now());
    }

    /// The same, where the time is known.
    pub(crate) fn touch_at(&self, now: Instant) {
        self.activity.touch_at(now);
    }

    /// Tells a person at a terminal something in passing.
    pub fn notify(&self, sentence: String) {
        self.notice.send_replace(sentence);
    }

    /// Sentences for a person at a terminal, each as it comes: that a limit of the session is near, or a right was taken away.
    pub fn notices(&self) -> watch::Receiver<String> {
        self.notice.subscribe()
    }

    /// Waits until the gateway wants the session to end, and says why; the broker then has a moment to tell the caller.
    pub async fn ended(&self) -> Ending {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or(Ending::Shutdown),
            Err(_) => Ending::Shutdown,
        }
    }

    /// The account that was asked for last and, where it was permitted, the rule, for the list of sessions.
    fn asked(&self) -> Option<(String, Option<String>)> {
        match &*self.standing.borrow() {
            Standing::Approaching => None,
            Standing::Refused { account } => Some((account.clone(), None)),
            Standing::Permitted(given) => Some((given.account().to_owned(), Some(given.rule().to_owned()))),
        }
    }
}

/// Longest name of an account that is asked the policy about, in characters: it stands in sentences, in the recording and in the
/// list of sessions. Linux takes 32, Postgres 63, Active Directory 256.
const MAX_ACCOUNT: usize = 256;

#[cfg(test)]
mod tests;
