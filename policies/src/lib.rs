//! Sallyport's policy language: text in, decisions out.
//!
//! The language is Tailscale's policy file, read faithfully (<https://tailscale.com/kb/1337/policy-syntax>), with
//! capabilities of our own, `sallyport.dev/cap/ssh` and `sallyport.dev/cap/postgres`. This crate does no I/O, reads no clock
//! and knows no network: it turns a text into a [`Policy`], and a [`Policy`] answers for a [`Caller`] and a [`Target`].
//!
//! * Deny by default: rules only ever allow. A text with any mistake is refused whole, and all its mistakes are told.
//! * `acls` and `grants` add up. SSH needs a rule of `ssh` as well; `check` rules come before `accept` rules, and of each
//!   kind the first that matches holds.
//! * PostgreSQL needs a capability that names the role and the database.
//! * A posture is an AND of conditions, a `srcPosture` list an OR of postures. What is not set fails every comparison.
//! * Every decision names the rules that made it, by line and column.
//!
//! What differs from Tailscale: targets run nothing of ours and belong to no user, so `autogroup:self` and users in `dst`
//! match nothing (a note says so); a bare name in `dst` is a host, or else a target; and every session is recorded, so
//! `enforceRecorder` counts as `true` where it is missing.

mod account;
mod address;
mod capability;
mod check;
mod decide;
mod decision;
mod denial;
mod duration;
mod error;
mod forward;
mod pattern;
mod postgres;
mod posture;
mod read;
mod reader;
mod rights;
mod role;
mod rules;
mod selector;
pub mod sql;
mod statements;
mod traffic;

pub use capability::{ExecRule, SftpRule, SshCapability};
pub use check::{Inventory, TestFailure};
pub use decision::{
    Approach, Caller, Considered, Decision, Denial, Location, Missing, PostgresGrant, RecordingRule, SshAction,
    SshGrant, Target, Value,
};
pub use error::{Errors, Note, PolicyError};
pub use forward::Endpoint;
pub use pattern::matches as wildcard_matches;
pub use postgres::{FunctionRule, ParameterRule, PostgresCapability};
pub use rights::Right;
pub use statements::{StatementKind, StatementRule};
pub use traffic::{Port, Protocol};

use rules::{Rules, Subject};
use sha2::{Digest, Sha256};

/// A policy without mistakes. It never changes: a new text is a new policy.
#[derive(Debug)]
pub struct Policy {
    revision: String,
    rules: Rules,
}

/// What came of a text.
#[derive(Debug)]
pub struct Parsed {
    /// The policy.
    pub policy: Policy,
    /// What is in the text and has no meaning here.
    pub notes: Vec<Note>,
}

impl Policy {
    /// Reads a policy file. Its own tests are not run: see [`Policy::run_tests`].
    ///
    /// # Errors
    /// Every mistake in the text, in its order.
    pub fn parse(text: &str) -> Result<Parsed, Errors> {
        let (rules, notes) = read::read(text)?;
        let digest = Sha256::digest(text.as_bytes());
        let revision = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Ok(Parsed { policy: Policy { revision, rules }, notes })
    }

    /// The policy that `sallyport init` writes: commented, sensible, and with tests that pass.
    pub fn starter() -> &'static str {
        include_str!("starter.hujson")
    }

    /// The first twelve hexadecimal digits of the text's SHA-256.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Runs the policy's `tests` and `sshTests`; an empty list means that all hold.
    ///
    /// A test's attributes are those of its `srcPostureAttrs`. Without them, a test of `tests` is about a device with no
    /// attributes, as in Tailscale, and one of `sshTests`, where Tailscale has no such key, about one that meets every
    /// posture.
    pub fn run_tests(&self, inventory: &Inventory) -> Vec<TestFailure> {
        self.rules.run_tests(inventory)
    }

    /// Rules that name a target which is not in the inventory: most often a slip, and never a way in.
    pub fn unknown_targets(&self, inventory: &Inventory) -> Vec<Note> {
        self.rules.unknown_targets(inventory)
    }

    /// Whether the caller may open a transport to this port of the target. For SSH, some `ssh` rule has to be for this
    /// caller and target as well, whatever the account; for PostgreSQL, some capability, whatever the role and database.
    pub fn approach(&self, caller: &Caller, target: &Target, port: Port) -> Decision<Approach> {
        self.rules.approach(Subject::of(caller), target, port)
    }

    /// Whether the caller may log in to the target as this account, and what may be done there.
    pub fn ssh(&self, caller: &Caller, target: &Target, account: &str) -> Decision<SshGrant> {
        self.rules.ssh(Subject::of(caller), target, account)
    }

    /// Everything that a login may do, and what it may not, each with the rules that give it.
    pub fn ssh_rights(&self, caller: &Caller, target: &Target, grant: &SshGrant) -> Vec<Right> {
        self.rules.ssh_rights(Subject::of(caller), target, grant)
    }

    /// The accounts that the caller may ask for at the target, as the rules write them: names, `autogroup:nonroot`,
    /// `localpart:*@example.com`. Empty without a network rule.
    pub fn ssh_accounts(&self, caller: &Caller, target: &Target) -> Vec<String> {
        self.rules.ssh_accounts(Subject::of(caller), target)
    }

    /// Whether the caller may log in to the target's database as this role, and what may be done there.
    pub fn postgres(&self, caller: &Caller, target: &Target, role: &str, database: &str) -> Decision<PostgresGrant> {
        self.rules.postgres(Subject::of(caller), target, role, database)
    }

    /// The roles that the caller may ask for at the target, and the databases for each, as the rules write them. Empty
    /// without a network rule.
    pub fn postgres_roles(&self, caller: &Caller, target: &Target) -> Vec<(String, Vec<String>)> {
        self.rules.postgres_roles(Subject::of(caller), target)
    }
}
