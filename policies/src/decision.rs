//! Who asks, for what, and what the answer carries.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::{PostgresCapability, SshCapability};

/// Who is calling: a user on a device, or a tagged machine.
///
/// A device with tags acts as its tags and never as a user, as in Tailscale: where both are given, the user is ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Caller {
    /// The login name, such as `alice@example.com`.
    pub user: Option<String>,
    /// The device's tags, each with its `tag:`.
    pub tags: Vec<String>,
    /// The device's name.
    pub device: String,
    /// The device's tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// Posture attributes with their namespace, such as `node:os` or `custom:diskEncrypted`.
    pub attributes: BTreeMap<String, Value>,
}

impl Caller {
    /// The user, unless the device is tagged.
    pub(crate) fn user(&self) -> Option<&str> {
        if self.tags.is_empty() { self.user.as_deref() } else { None }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.user() {
            Some(user) => f.write_str(user),
            None if self.tags.is_empty() => write!(f, "device {}", self.device),
            None => write!(f, "{} ({})", self.device, self.tags.join(", ")),
        }
    }
}

/// The value of a posture attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text, a version among them.
    String(String),
    /// A number.
    Number(f64),
    /// True or false.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Number(value)
    }
}

/// What is called: a registered SSH host, database or cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Its name, such as `web1`.
    pub name: String,
    /// Its tags, each with its `tag:`.
    pub tags: Vec<String>,
    /// The addresses it is known by.
    pub addresses: Vec<IpAddr>,
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Decision<T> {
    /// Yes, and this is what is granted.
    Allow(T),
    /// No, and this is why.
    Deny(Denial),
}

impl<T> Decision<T> {
    /// The grant, or the denial as an error.
    ///
    /// # Errors
    /// The denial.
    pub fn into_result(self) -> Result<T, Denial> {
        match self {
            Decision::Allow(grant) => Ok(grant),
            Decision::Deny(denial) => Err(denial),
        }
    }

    /// Whether the answer is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }
}

/// Where a rule stands in the policy's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The rule's place in its section, such as `ssh[2]` or `grants[0]`, counted from 0.
    pub rule: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}, column {})", self.rule, self.line, self.column)
    }
}

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Denial {
    /// One sentence for the caller: who, what, as whom, which rule is missing and whom to ask.
    pub sentence: String,
    /// The kind of rule that is missing.
    pub missing: Missing,
    /// Every rule that was looked at, in the order of the looking, with the reason why it does not apply.
    pub considered: Vec<Considered>,
}

/// The first thing that was missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No `acls` or `grants` rule opens the port.
    NetworkRule,
    /// No `ssh` rule is for this caller at this target.
    SshRule,
    /// The caller may use ssh there, but not as this account.
    Account,
    /// No `sallyport.dev/cap/postgres` is for this caller at this target.
    PostgresCapability,
    /// The caller may use databases there, but not as this role.
    Role,
    /// The caller may use databases there as this role, but not this one.
    Database,
    /// A rule would apply, were the device in the state that its `srcPosture` asks for.
    Posture,
}

/// A rule that did not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The rule.
    pub location: Location,
    /// Why it does not apply.
    pub why_not: String,
}

/// Leave to open a transport to a target. It lets nobody log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approach {
    /// The rule that opens the port.
    pub network_rule: Location,
    /// The strictest recording rule of all accounts that this caller could ask for.
    pub recording: RecordingRule,
}

/// Leave to log in by SSH as one account.
#[derive(Debug, Clone, PartialEq)]
pub struct SshGrant {
    /// The account on the target.
    pub account: String,
    /// The rule that opens the port.
    pub network_rule: Location,
    /// The `ssh` rule that allows the account.
    pub ssh_rule: Location,
    /// The grants whose `sallyport.dev/cap/ssh` made up `capability`; none where the default holds.
    pub capability_rules: Vec<Location>,
    /// Whether the caller has to log in afresh first.
    pub action: SshAction,
    /// Names of environment variables to pass on, with `*` and `?` as wildcards.
    pub accept_env: Vec<String>,
    /// What the recording has to be.
    pub recording: RecordingRule,
    /// What may be done in the session.
    pub capability: SshCapability,
}

/// The `action` of an `ssh` rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshAction {
    /// Let in.
    Accept,
    /// Let in a caller who logged in no longer ago than `period`; zero asks every time (`"always"`).
    Check {
        /// How long a login counts.
        period: Duration,
    },
}

/// Leave to log in to one database as one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresGrant {
    /// The role on the target.
    pub role: String,
    /// The database.
    pub database: String,
    /// The rule that opens the port.
    pub network_rule: Location,
    /// The grants whose `sallyport.dev/cap/postgres` made up `capability`; at least one.
    pub capability_rules: Vec<Location>,
    /// What the recording has to be.
    pub recording: RecordingRule,
    /// What may be done in the session.
    pub capability: PostgresCapability,
}

/// What has to be recorded, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordingRule {
    /// Nothing is recorded.
    Off,
    /// Recorded, and the session goes on where the recording fails; the gap is written down.
    BestEffort,
    /// No recording, no session.
    Required,
}

impl RecordingRule {
    pub(crate) const ALL: [Self; 3] = [Self::Required, Self::BestEffort, Self::Off];

    /// The word in the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordingRule::Required => "required",
            RecordingRule::BestEffort => "bestEffort",
            RecordingRule::Off => "off",
        }
    }
}
