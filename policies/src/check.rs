//! The policy's own tests: what `tests` and `sshTests` expect, held against the decision itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::rules::{Device, Rules, Subject};
use crate::selector::{Destination, Source, What, Who};
use crate::traffic::Port;
use crate::{Caller, Decision, Location, Note, SshAction, Target, Value};

/// What is known beside the policy: the tests look names and tags up here.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The devices that could call.
    pub devices: Vec<Caller>,
    /// The targets that could be called.
    pub targets: Vec<Target>,
}

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFailure {
    /// The expectation.
    pub location: Location,
    /// What was expected, and what happens instead.
    pub message: String,
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { line, column, rule } = &self.location;
        write!(f, "{line}:{column}: {rule}: {}", self.message)
    }
}

#[derive(Debug)]
pub(crate) struct TestCaller {
    pub(crate) source: Source,
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Debug)]
pub(crate) struct NetworkTest {
    pub(crate) caller: TestCaller,
    pub(crate) expectations: Vec<NetworkExpectation>,
}

#[derive(Debug)]
pub(crate) struct NetworkExpectation {
    pub(crate) location: Location,
    pub(crate) destination: Destination,
    pub(crate) port: Port,
    pub(crate) allowed: bool,
}

#[derive(Debug)]
pub(crate) struct SshTest {
    pub(crate) caller: TestCaller,
    /// Whether the test says what the device is like. Tailscale's cannot; one that does not is about everything else.
    pub(crate) speaks_of_device: bool,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) expectations: Vec<SshExpectation>,
}

#[derive(Debug)]
pub(crate) struct SshExpectation {
    pub(crate) location: Location,
    pub(crate) account: String,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accept,
    Check,
    Deny,
}

impl Rules {
    pub(crate) fn run_tests(&self, inventory: &Inventory) -> Vec<TestFailure> {
        let network = self.tests.iter().flat_map(|test| self.run_network_test(test, inventory));
        let ssh = self.ssh_tests.iter().flat_map(|test| self.run_ssh_test(test, inventory));
        network.chain(ssh).collect()
    }

    /// A bare name in `dst` is a target's, and a policy by itself cannot tell whether there is such a target.
    pub(crate) fn unknown_targets(&self, inventory: &Inventory) -> Vec<Note> {
        let network = self
            .network
            .iter()
            .flat_map(|rule| rule.reach.iter().map(move |reach| (&rule.location, reach.destinations.as_ref())));
        let ssh = self.ssh.iter().map(|rule| (&rule.location, rule.destinations.as_slice()));
        let capabilities = self.capabilities.iter().map(|rule| (&rule.location, rule.destinations.as_ref()));
        let postgres = self.postgres.iter().map(|rule| (&rule.location, rule.destinations.as_ref()));
        let places = network.chain(ssh).chain(capabilities).chain(postgres);
        let mut notes: Vec<Note> = Vec::new();
        for (location, destination) in places.flat_map(|(at, list)| list.iter().map(move |one| (at, one))) {
            if let What::Target(name) = &destination.what
                && !inventory.targets.iter().any(|target| target.name == *name)
            {
                let message =
                    format!("{}: there is no target {name:?}, so that its dst matches nothing", location.rule);
                let note = Note { line: location.line, column: location.column, message };
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }

    fn run_network_test(&self, test: &NetworkTest, inventory: &Inventory) -> Vec<TestFailure> {
        let callers = test.caller.callers(inventory);
        let mut failures = Vec::new();
        for expectation in &test.expectations {
            match targets(&expectation.destination, inventory) {
                Ok(targets) => failures.extend(
                    pairs(&callers, &targets)
                        .find_map(|(caller, target)| self.network_failure(expectation, caller, target)),
                ),
                Err(message) => failures.push(TestFailure { location: expectation.location.clone(), message }),
            }
        }
        failures
    }

    /// Asks for the network rule alone: Tailscale's `tests` know nothing of `ssh`.
    fn network_failure(&self, wanted: &NetworkExpectation, caller: &Caller, target: &Target) -> Option<TestFailure> {
        let message = match (self.network(Subject::of(caller), target, wanted.port), wanted.allowed) {
            (Ok(rule), false) => format!(
                "{caller} should not reach {} on {}, but {} allows it",
                wanted.destination.written, wanted.port, rule.location
            ),
            (Err(denial), true) => format!(
                "{caller} should reach {} on {}, but does not: {}",
                wanted.destination.written, wanted.port, denial.sentence
            ),
            _ => return None,
        };
        Some(TestFailure { location: wanted.location.clone(), message })
    }

    fn run_ssh_test(&self, test: &SshTest, inventory: &Inventory) -> Vec<TestFailure> {
        let callers = test.caller.callers(inventory);
        let device = if test.speaks_of_device { Device::AsReported } else { Device::AsWanted };
        let mut failures = Vec::new();
        for wanted in &test.expectations {
            for destination in &test.destinations {
                match targets(destination, inventory) {
                    Ok(targets) => failures.extend(pairs(&callers, &targets).find_map(|(caller, target)| {
                        self.ssh_failure(wanted, Subject { caller, device }, destination, target)
                    })),
                    Err(message) => failures.push(TestFailure { location: wanted.location.clone(), message }),
                }
            }
        }
        failures
    }

    fn ssh_failure(
        &self,
        wanted: &SshExpectation,
        subject: Subject<'_>,
        destination: &Destination,
        target: &Target,
    ) -> Option<TestFailure> {
        let (outcome, why) = match self.ssh(subject, target, &wanted.account) {
            Decision::Allow(grant) => {
                let outcome = if grant.action == SshAction::Accept { Outcome::Accept } else { Outcome::Check };
                (outcome, format!("by {}", grant.ssh_rule))
            }
            Decision::Deny(denial) => (Outcome::Deny, format!("as {}", denial.sentence)),
        };
        (outcome != wanted.outcome).then(|| {
            let (caller, account, to) = (subject.caller, &wanted.account, &destination.written);
            let message = format!("{caller} to {to} as {account} should be {}, but is {outcome} {why}", wanted.outcome);
            TestFailure { location: wanted.location.clone(), message }
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Accept => "accepted",
            Outcome::Check => "checked",
            Outcome::Deny => "denied",
        })
    }
}

impl TestCaller {
    /// Everyone that the test is about. Users and tags have the addresses of their devices, as far as these are known.
    fn callers(&self, inventory: &Inventory) -> Vec<Caller> {
        let addresses = |is_theirs: &dyn Fn(&Caller) -> bool| {
            let devices = inventory.devices.iter().filter(|device| is_theirs(device));
            devices.flat_map(|device| device.addresses.iter().copied()).collect::<Vec<_>>()
        };
        let user = |name: &String| Caller {
            user: Some(name.clone()),
            addresses: addresses(&|device| device.user() == Some(name)),
            attributes: self.attributes.clone(),
            ..Caller::default()
        };
        match &self.source.who {
            Who::User(name) => vec![user(name)],
            Who::Group(members) => members.iter().map(user).collect(),
            Who::Tag(tag) => vec![Caller {
                tags: vec![tag.clone()],
                device: self.source.written.clone(),
                addresses: addresses(&|device| device.tags.contains(tag)),
                attributes: self.attributes.clone(),
                ..Caller::default()
            }],
            Who::Addresses(set) => {
                let known = inventory.devices.iter().filter(|device| device.addresses.iter().any(|a| set.contains(*a)));
                let mut callers: Vec<Caller> =
                    known.map(|device| Caller { attributes: self.attributes.clone(), ..device.clone() }).collect();
                if callers.is_empty() {
                    callers.extend(set.first().map(|address| Caller {
                        device: self.source.written.clone(),
                        addresses: vec![address],
                        attributes: self.attributes.clone(),
                        ..Caller::default()
                    }));
                }
                callers
            }
            Who::Anyone | Who::Domain(_) | Who::Member | Who::Tagged | Who::Nobody => Vec::new(),
        }
    }
}

/// The targets that a test's destination stands for: those that are known, or else one made up with that tag or address.
fn targets(destination: &Destination, inventory: &Inventory) -> Result<Vec<Target>, String> {
    let known: Vec<Target> = inventory.targets.iter().filter(|target| destination.covers(target)).cloned().collect();
    if !known.is_empty() {
        return Ok(known);
    }
    let name = destination.written.clone();
    match &destination.what {
        What::Tag(tag) => Ok(vec![Target { name, tags: vec![tag.clone()], addresses: Vec::new() }]),
        What::Addresses(set) => Ok(set
            .first()
            .map(|address| Target { name, tags: Vec::new(), addresses: vec![address] })
            .into_iter()
            .collect()),
        _ => Err(format!("there is no target {name}: add it, or test by tag")),
    }
}

fn pairs<'a>(callers: &'a [Caller], targets: &'a [Target]) -> impl Iterator<Item = (&'a Caller, &'a Target)> {
    callers.iter().flat_map(move |caller| targets.iter().map(move |target| (caller, target)))
}
