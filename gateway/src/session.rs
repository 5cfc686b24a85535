//! One brokered connection: a recording opened first, then a transport to the target, then an account.
//!
//! A [`Session`] is what a broker holds. It is made from an [`Approach`] alone, and dialling, recording and asking for an
//! account are its methods, so that a path around the policy or the recording has nothing to call. [`run()`] is what
//! the gateway holds: it alone races the broker against revocation, expiry, a failed recording, an operator and shutdown.

mod dial;
mod inside;
mod limits;
mod live;
mod run;
mod sight;

use std::sync::Arc;

use sallyport_policies::RecordingRule;
use sallyport_recorder::{Event, Recording, SessionId};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::access::{Access, Approach, Held, Permit, PostgresPermit, Rights, SshPermit};
use crate::failure::{Ending, Failure};
use crate::identity::Caller;
use crate::target::Target;

pub(crate) use dial::{dial_to_probe, dial_to_undo};
pub use inside::{InnerCall, Inside};
use limits::Activity;
pub use live::Live;
pub use run::{Runner, run};

/// A connection of one caller to one target, with its recording open.
pub struct Session {
    id: SessionId,
    approach: Approach,
    recording: Option<Recording>,
    access: Access,
    inside: Inside,
    standing: watch::Sender<Standing>,
    activity: Activity,
    ended: watch::Receiver<Option<Ending>>,
    /// What the caller is told while the session goes on.
    notice: watch::Sender<String>,
}

/// How far a session has come.
#[derive(Debug, Clone, PartialEq)]
enum Standing {
    /// The caller may open a transport; the account is not known yet.
    Approaching,
    /// The account that the caller asked for last is not for them.
    Refused { account: String },
    /// The caller is in, with these rights.
    Permitted(Box<Held>),
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

    /// Opens the transport to the target, where it speaks the protocol that the caller came for. No byte of the caller's has to be sent on it before there is a permit.
    ///
    /// # Errors
    /// [`Failure::Recording`] while a required recording is not open, [`Failure::Target`] when the target is not there.
    pub async fn dial(&self) -> Result<TcpStream, Failure> {
        if self.recording.is_none() && self.recording_rule() == RecordingRule::Required {
            return Err(Failure::Recording("it could not be opened".into()));
        }
        dial::dial(&self.approach.target().name, &self.approach.address().to_string()).await
    }

    /// Asks for an account over SSH; by the newest policy, and anew for each name. The last answer holds.
    ///
    /// # Errors
    /// [`Failure::Denied`] with the sentence for the caller, [`Failure::Recording`] when this account has to be recorded
    /// and the recording is not there.
    pub fn authorize_ssh(&self, account: &str) -> Result<SshPermit, Failure> {
        self.authorize(account, || self.access.permit_ssh(&self.approach, account))
    }

    /// Asks for a role in a database of a Postgres server, in the same way.
    ///
    /// # Errors
    /// As for [`Session::authorize_ssh`].
    pub fn authorize_postgres(&self, role: &str, database: &str) -> Result<PostgresPermit, Failure> {
        self.authorize(role, || self.access.permit_postgres(&self.approach, role, database))
    }

    fn authorize<R: Clone + Into<Rights>>(
        &self,
        account: &str,
        decide: impl FnOnce() -> Result<Permit<R>, Failure>,
    ) -> Result<Permit<R>, Failure> {
        let kept: String = account.chars().take(MAX_ACCOUNT).collect();
        self.standing.send_replace(Standing::Refused { account: kept.clone() });
        if kept.len() < account.len() {
            return Err(Failure::Denied(format!("no account has a name of more than {MAX_ACCOUNT} characters")));
        }
        let permit = decide()?;
        if self.recording.is_none() && permit.recording() == RecordingRule::Required {
            return Err(Failure::Recording("it could not be opened".into()));
        }
        self.standing.send_replace(Standing::Permitted(Box::new(permit.held())));
        // A change between the decision and the line above was judged without this account: look again.
        if let Err(ending) = self.access.still_allows(&self.approach, Some(&permit.held())) {
            self.standing.send_replace(Standing::Refused { account: kept });
            return Err(Failure::Denied(ending.to_string()));
        }
        Ok(permit)
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

    /// What the policy asks of the recording, as far as the account is known.
    pub fn recording_rule(&self) -> RecordingRule {
        match &*self.standing.borrow() {
            Standing::Approaching | Standing::Refused { .. } => self.approach.recording(),
            Standing::Permitted(held) => held.recording,
        }
    }

    /// Says that something came from one of the sides, so that the session is not idle.
    pub fn touch(&self) {
        self.activity.touch();
    }

    /// Sentences for a person at a terminal, each as it comes: that a limit of the session is near.
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
            Standing::Permitted(held) => Some((held.account.clone(), Some(held.rule.clone()))),
        }
    }

    /// What was permitted, once something was.
    fn held(&self) -> Option<Held> {
        match &*self.standing.borrow() {
            Standing::Permitted(held) => Some(Held::clone(held)),
            Standing::Approaching | Standing::Refused { .. } => None,
        }
    }
}

/// Longest name of an account that is asked the policy about, in characters: it stands in sentences, in the recording and in the
/// list of sessions. Linux takes 32, Postgres 63, Active Directory 256.
const MAX_ACCOUNT: usize = 256;

#[cfg(test)]
mod tests;
