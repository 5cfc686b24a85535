//! What a decision hands out: a permit for one connection, and what a live session remembers of it.
//!
//! The part that every permit has is here once; what a protocol grants is its parameter. A permit has private fields and
//! is made by [`Access`](super::Access) alone.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sallyport_policies::{PostgresCapability, RecordingRule, SshCapability};

use crate::failure::Failure;
use crate::identity::Caller;
use crate::target::Target;

/// This caller may use this target as this account, and do there what `R` says.
#[derive(Debug)]
#[must_use]
pub struct Permit<R> {
    pub(super) caller: Caller,
    pub(super) target: Arc<Target>,
    pub(super) account: String,
    pub(super) rule: String,
    pub(super) revision: String,
    pub(super) recording: RecordingRule,
    pub(super) expires: Option<Timestamp>,
    pub(super) rights: R,
}

/// A permit for SSH.
pub type SshPermit = Permit<SshRights>;

/// A permit for Postgres; its account is the role.
pub type PostgresPermit = Permit<PostgresRights>;

/// What may be done over SSH.
#[derive(Debug, Clone, PartialEq)]
pub struct SshRights {
    pub(super) accept_env: Vec<String>,
    pub(super) capability: SshCapability,
}

/// What may be done in a database.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresRights {
    pub(super) database: String,
    pub(super) rules: Vec<String>,
    pub(super) capability: PostgresCapability,
}

/// What a session was let in with. It holds until a newer world is asked: that one's answer takes its place.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// Over SSH.
    Ssh(Arc<SshPermit>),
    /// In a database.
    Postgres(Arc<PostgresPermit>),
}

/// What a permit says about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// How long the session may last.
    pub(crate) longest: Option<Duration>,
    /// How long it may stay silent.
    pub(crate) idle: Option<Duration>,
}

impl<R> Permit<R> {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Where to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Who the caller becomes there.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The rule that allowed it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The revision of the policy that allowed it.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the session must be recorded.
    pub fn recording(&self) -> RecordingRule {
        self.recording
    }

    /// When the device's enrolment ends, and the session with it.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// The permit that takes the place of `held` in a session that goes on. The recording cannot become stricter in the middle,
    /// nor end there; one that is kept because it had to be loses nothing when it would not have to be any more.
    ///
    /// # Errors
    /// [`Failure::Denied`] where the recording would have to be another one.
    pub(super) fn in_place_of<H>(self, held: &Permit<H>) -> Result<Self, Failure> {
        let kept = self.recording == held.recording
            || (held.recording, self.recording) == (RecordingRule::Required, RecordingRule::BestEffort);
        match kept {
            true => Ok(Self { recording: held.recording, ..self }),
            false => Err(Failure::Denied(
                "the policy records what is done here in another way than before: connect again".into(),
            )),
        }
    }
}

impl SshPermit {
    /// Patterns of environment variables that may pass.
    pub fn accept_env(&self) -> &[String] {
        &self.rights.accept_env
    }

    /// What may be done over the connection.
    pub fn capability(&self) -> &SshCapability {
        &self.rights.capability
    }
}

impl PostgresPermit {
    /// The database that may be used.
    pub fn database(&self) -> &str {
        &self.rights.database
    }

    /// The rules that say what may be done there, each as `grants[3] (line 12, column 5)`.
    pub fn rules(&self) -> &[String] {
        &self.rights.rules
    }

    /// What may be done there.
    pub fn capability(&self) -> &PostgresCapability {
        &self.rights.capability
    }

    /// The groups of the role that the caller is to have made for it; none where it becomes the account that the server has.
    pub fn groups(&self) -> &[String] {
        &self.rights.capability.member_of
    }
}

impl PostgresRights {
    /// Whether these are at least `held`.
    pub(super) fn cover(&self, held: &Self) -> bool {
        let Self { database, rules: _, capability } = held;
        self.database == *database && self.capability.covers(capability)
    }
}

impl Given {
    /// Who the caller is on the target.
    pub(crate) fn account(&self) -> &str {
        match self {
            Self::Ssh(permit) => permit.account(),
            Self::Postgres(permit) => permit.account(),
        }
    }

    /// The rule that allowed it.
    pub(crate) fn rule(&self) -> &str {
        match self {
            Self::Ssh(permit) => permit.rule(),
            Self::Postgres(permit) => permit.rule(),
        }
    }

    /// Whether the session must be recorded.
    pub(crate) fn recording(&self) -> RecordingRule {
        match self {
            Self::Ssh(permit) => permit.recording(),
            Self::Postgres(permit) => permit.recording(),
        }
    }

    /// How long the session may last, in all and without activity.
    pub(crate) fn limits(&self) -> Limits {
        let (longest, idle) = match self {
            Self::Ssh(permit) => (permit.capability().max_duration, permit.capability().idle_timeout),
            Self::Postgres(permit) => (permit.capability().max_duration, permit.capability().idle_timeout),
        };
        Limits { longest, idle }
    }
}
