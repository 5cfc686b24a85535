//! A policy's rules as they are decided by: every name resolved, every value checked, each with its place in the text.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::account::Account;
use crate::check::{NetworkTest, SshTest};
use crate::posture::Posture;
use crate::role::{Role, is_database};
use crate::selector::{Destination, Source};
use crate::traffic::{Port, Traffic};
use crate::{Caller, Location, PostgresCapability, RecordingRule, SshAction, SshCapability, Target, pattern};

#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) tag_owners: BTreeMap<String, Vec<String>>,
    /// ACLs and grants in the order of the text: the first that matches is the one a decision names.
    pub(crate) network: Vec<NetworkRule>,
    /// INVARIANT: every `check` before every `accept`, each kind in the order of the text.
    pub(crate) ssh: Vec<SshRule>,
    pub(crate) capabilities: Vec<CapabilityRule>,
    pub(crate) postgres: Vec<PostgresRule>,
    pub(crate) tests: Vec<NetworkTest>,
    pub(crate) ssh_tests: Vec<SshTest>,
}

/// Which callers a rule is for.
#[derive(Debug, Clone)]
pub(crate) struct Callers {
    pub(crate) sources: Vec<Source>,
    /// One of them has to be met; none asks for nothing.
    pub(crate) postures: Vec<Arc<Posture>>,
}

/// An ACL, or the `ip` part of a grant.
#[derive(Debug)]
pub(crate) struct NetworkRule {
    pub(crate) location: Location,
    pub(crate) from: Arc<Callers>,
    pub(crate) reach: Vec<Reach>,
}

/// Destinations and what may go there.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) destinations: Arc<[Destination]>,
    pub(crate) traffic: Vec<Traffic>,
}

/// An entry of `ssh`.
#[derive(Debug)]
pub(crate) struct SshRule {
    pub(crate) location: Location,
    pub(crate) action: SshAction,
    pub(crate) from: Callers,
    pub(crate) destinations: Vec<Destination>,
    /// As written, and as meant.
    pub(crate) accounts: Vec<(String, Account)>,
    pub(crate) accept_env: Vec<String>,
    pub(crate) recording: RecordingRule,
}

/// One value of a grant's `sallyport.dev/cap/ssh`.
#[derive(Debug)]
pub(crate) struct CapabilityRule {
    pub(crate) location: Location,
    pub(crate) from: Arc<Callers>,
    pub(crate) destinations: Arc<[Destination]>,
    /// For which accounts; none stands for all.
    pub(crate) accounts: Vec<Account>,
    pub(crate) recording: Option<RecordingRule>,
    pub(crate) capability: SshCapability,
}

/// One value of a grant's `sallyport.dev/cap/postgres`.
#[derive(Debug)]
pub(crate) struct PostgresRule {
    pub(crate) location: Location,
    pub(crate) from: Arc<Callers>,
    pub(crate) destinations: Arc<[Destination]>,
    /// As written, and as meant.
    pub(crate) roles: Vec<(String, Role)>,
    /// Names, with wildcards.
    pub(crate) databases: Vec<String>,
    pub(crate) recording: Option<RecordingRule>,
    pub(crate) capability: PostgresCapability,
}

/// A caller as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) device: Device,
}

/// What is taken for the state of the caller's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// Its attributes.
    AsReported,
    /// Such that every posture is met: for tests that speak of no device.
    AsWanted,
}

/// Why a rule does not apply. The order of the variants is the order of the looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Source,
    Destination,
    Traffic,
    /// Or role.
    Account,
    Database,
    Posture(String),
}

impl Callers {
    fn includes(&self, caller: &Caller) -> bool {
        self.sources.iter().any(|source| source.covers(caller))
    }

    /// Why none of the postures is met, if none is.
    fn unmet(&self, subject: Subject<'_>) -> Option<String> {
        if self.postures.is_empty() || subject.device == Device::AsWanted {
            return None;
        }
        let mut reasons = Vec::new();
        for posture in &self.postures {
            reasons.push(format!("{}: {}", posture.name, posture.unmet(&subject.caller.attributes)?));
        }
        Some(reasons.join("; "))
    }
}

impl NetworkRule {
    pub(crate) fn mismatch(&self, subject: Subject<'_>, target: &Target, port: Port) -> Option<Mismatch> {
        if !self.from.includes(subject.caller) {
            return Some(Mismatch::Source);
        }
        let mut reaches = self.reach.iter().filter(|reach| covers(&reach.destinations, target)).peekable();
        if reaches.peek().is_none() {
            return Some(Mismatch::Destination);
        }
        if !reaches.any(|reach| reach.traffic.iter().any(|traffic| traffic.covers(port))) {
            return Some(Mismatch::Traffic);
        }
        self.from.unmet(subject).map(Mismatch::Posture)
    }
}

impl SshRule {
    /// With no account, whether the rule is for this caller at this target at all.
    pub(crate) fn mismatch(&self, subject: Subject<'_>, target: &Target, account: Option<&str>) -> Option<Mismatch> {
        if !self.from.includes(subject.caller) {
            return Some(Mismatch::Source);
        }
        if !covers(&self.destinations, target) {
            return Some(Mismatch::Destination);
        }
        let user = subject.caller.user();
        if account.is_some_and(|account| !self.accounts.iter().any(|(_, one)| one.allows(user, account))) {
            return Some(Mismatch::Account);
        }
        self.from.unmet(subject).map(Mismatch::Posture)
    }
}

impl CapabilityRule {
    /// With no account, whether some account at this target could have the capability.
    pub(crate) fn applies(&self, subject: Subject<'_>, target: &Target, account: Option<&str>) -> bool {
        let user = subject.caller.user();
        let for_account = account.is_none_or(|account| {
            self.accounts.is_empty() || self.accounts.iter().any(|one| one.allows(user, account))
        });
        for_account
            && self.from.includes(subject.caller)
            && covers(&self.destinations, target)
            && self.from.unmet(subject).is_none()
    }
}

impl PostgresRule {
    /// With no role or database, whether the rule could be for some.
    pub(crate) fn mismatch(
        &self,
        subject: Subject<'_>,
        target: &Target,
        role: Option<&str>,
        database: Option<&str>,
    ) -> Option<Mismatch> {
        if !self.from.includes(subject.caller) {
            return Some(Mismatch::Source);
        }
        if !covers(&self.destinations, target) {
            return Some(Mismatch::Destination);
        }
        let user = subject.caller.user();
        if role.is_some_and(|role| !self.roles.iter().any(|(_, one)| one.allows(user, role))) {
            return Some(Mismatch::Account);
        }
        let holds = |name: &str| is_database(name) && self.databases.iter().any(|one| pattern::matches(one, name));
        if database.is_some_and(|database| !holds(database)) {
            return Some(Mismatch::Database);
        }
        self.from.unmet(subject).map(Mismatch::Posture)
    }
}

fn covers(destinations: &[Destination], target: &Target) -> bool {
    destinations.iter().any(|destination| destination.covers(target))
}
