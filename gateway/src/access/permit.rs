//! What a decision hands out: a permit for one connection, and what a live session remembers of it.
//!
//! The part that every permit has is here once; what a protocol grants is its parameter. A permit has private fields and
//! is made by [`Access`](super::Access) alone.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sallyport_policies::{PostgresCapability, RecordingRule, SshCapability};

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

/// What a permit gives, as a live session remembers it. It permits nothing itself: it is what the newest policy has to
/// give still for the session to go on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) account: String,
    pub(crate) rule: String,
    pub(crate) recording: RecordingRule,
    pub(crate) rights: Rights,
}

/// The rights of any protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Rights {
    /// Over SSH.
    Ssh(SshRights),
    /// In a database.
    Postgres(PostgresRights),
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
}

impl<R: Clone + Into<Rights>> Permit<R> {
    /// What it gives, for the session to remember.
    pub(crate) fn held(&self) -> Held {
        Held {
            account: self.account.clone(),
            rule: self.rule.clone(),
            recording: self.recording,
            rights: self.rights.clone().into(),
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

impl Held {
    /// Whether a session that holds `held` may go on under these. The rule may stand on another line now; what it gives is
    /// what counts.
    pub(super) fn covers(&self, held: &Self) -> bool {
        let Self { account, rule: _, recording, rights } = held;
        // A session that is recorded because it had to be loses nothing when it would not have to be any more.
        let recorded = self.recording == *recording
            || (*recording, self.recording) == (RecordingRule::Required, RecordingRule::BestEffort);
        self.account == *account && recorded && self.rights.cover(rights)
    }
}

impl Rights {
    fn cover(&self, held: &Self) -> bool {
        match (self, held) {
            (Self::Ssh(now), Self::Ssh(SshRights { accept_env, capability })) => {
                accept_env.iter().all(|pattern| now.accept_env.contains(pattern)) && now.capability.covers(capability)
            }
            (Self::Postgres(now), Self::Postgres(PostgresRights { database, rules: _, capability })) => {
                now.database == *database && now.capability.covers(capability)
            }
            (Self::Ssh(_), Self::Postgres(_)) | (Self::Postgres(_), Self::Ssh(_)) => false,
        }
    }

    /// How long a session with them may last, in all and without activity.
    pub(crate) fn limits(&self) -> Limits {
        match self {
            Self::Ssh(SshRights { capability, .. }) => {
                Limits { longest: capability.max_duration, idle: capability.idle_timeout }
            }
            Self::Postgres(PostgresRights { capability, .. }) => {
                Limits { longest: capability.max_duration, idle: capability.idle_timeout }
            }
        }
    }
}

impl From<SshRights> for Rights {
    fn from(rights: SshRights) -> Self {
        Self::Ssh(rights)
    }
}

impl From<PostgresRights> for Rights {
    fn from(rights: PostgresRights) -> Self {
        Self::Postgres(rights)
    }
}
