//! May this caller reach this target, and as whom: the one place where a connection is permitted.
//!
//! A permit comes in two steps, because SSH learns the account late and a target's leg wants to start early:
//! an [`Approach`] lets a session be opened and a transport be dialled, a [`Permit`] lets credentials be issued and
//! channels be opened as one account. Both have private fields and are made here alone.

mod permit;

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use sallyport_policies::{self as policies, Decision, Port, RecordingRule, SshAction};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::failure::{Ending, Failure};
use crate::identity::{Caller, Device, Origin};
use crate::target::{Address, Protocol, Target};
use crate::world::World;

pub(crate) use permit::{Given, Limits};
pub use permit::{Permit, PostgresPermit, PostgresRights, SshPermit, SshRights};

/// Decides, each time by the newest world.
#[derive(Debug, Clone)]
pub struct Access {
    world: watch::Receiver<Arc<World>>,
    clock: Clock,
}

/// This caller may open a transport to this target: a network rule allows it, and some account could be allowed.
#[derive(Debug)]
#[must_use]
pub struct Approach {
    caller: Caller,
    target: Arc<Target>,
    protocol: Protocol,
    address: Address,
    network_rule: String,
    recording: RecordingRule,
    revision: String,
}

/// A connection that was refused: what to tell the caller, and who it was, where that is known.
#[derive(Debug)]
pub struct Refusal {
    /// Why, for the caller to read.
    pub failure: Failure,
    /// The caller, once its key was known.
    pub caller: Option<Caller>,
    /// The target, once its address was known.
    pub target: Option<Arc<Target>>,
}

impl Access {
    /// Decides by what `world` holds at the time of each question.
    pub fn new(world: watch::Receiver<Arc<World>>, clock: Clock) -> Self {
        Self { world, clock }
    }

    /// May whoever calls open a transport to where it wants to go?
    ///
    /// # Errors
    /// A [`Refusal`] that says what is missing.
    pub fn approach(&self, origin: &Origin) -> Result<Approach, Refusal> {
        let world = self.world();
        let caller = world.directory.identify(origin, self.clock.now()).map_err(Refusal::of_stranger)?;
        let address = origin.destination().ip();
        let Some(target) = world.target_at(address) else {
            let failure = Failure::Denied(format!("no target is registered at {address}: see 'sallyport ls'"));
            return Err(Refusal { failure, caller: Some(caller), target: None });
        };
        let refused = |failure| Refusal { failure, caller: Some(caller.clone()), target: Some(Arc::clone(target)) };
        let port = origin.destination().port();
        let Some(protocol) = Protocol::of_port(port) else {
            return Err(refused(Failure::Denied(format!("nothing is brokered on port {port}"))));
        };
        let decision = world.policy.approach(&subject(caller.device()), &object(target), Port::tcp(port));
        let allowed = granted(decision).map_err(refused)?;
        Ok(Approach {
            address: target.address(protocol).map_err(refused)?.clone(),
            caller,
            target: Arc::clone(target),
            protocol,
            network_rule: allowed.network_rule.to_string(),
            recording: allowed.recording,
            revision: world.policy.revision().to_owned(),
        })
    }

    /// May the caller of `approach` use its target over SSH as `account`?
    ///
    /// # Errors
    /// [`Failure::Denied`] with the sentence for the caller.
    pub(crate) fn permit_ssh(&self, approach: &Approach, account: &str) -> Result<SshPermit, Failure> {
        let world = self.world();
        let device = self.unchanged(&world, approach, Protocol::Ssh)?;
        let grant = granted(world.policy.ssh(&subject(&device), &object(&approach.target), account))?;
        if let SshAction::Check { .. } = grant.action {
            return Err(Failure::Denied(format!(
                "{} as {account} needs a fresh login ({}), and this gateway has no login provider configured",
                approach.target.name, grant.ssh_rule
            )));
        }
        Ok(Permit {
            caller: approach.caller.clone(),
            target: Arc::clone(&approach.target),
            account: grant.account,
            rule: grant.ssh_rule.to_string(),
            revision: world.policy.revision().to_owned(),
            recording: grant.recording,
            expires: device.expires,
            rights: SshRights { accept_env: grant.accept_env, capability: grant.capability },
        })
    }

    /// May the caller of `approach` use `database` of its target as `role`?
    ///
    /// # Errors
    /// [`Failure::Denied`] with the sentence for the caller.
    pub(crate) fn permit_postgres(
        &self,
        approach: &Approach,
        role: &str,
        database: &str,
    ) -> Result<PostgresPermit, Failure> {
        let world = self.world();
        let device = self.unchanged(&world, approach, Protocol::Postgres)?;
        let grant = granted(world.policy.postgres(&subject(&device), &object(&approach.target), role, database))?;
        let rules: Vec<_> = grant.capability_rules.iter().map(ToString::to_string).collect();
        Ok(Permit {
            caller: approach.caller.clone(),
            target: Arc::clone(&approach.target),
            account: grant.role,
            rule: rules.join(", "),
            revision: world.policy.revision().to_owned(),
            recording: grant.recording,
            expires: device.expires,
            rights: PostgresRights { database: grant.database, rules, capability: grant.capability },
        })
    }

    /// What the newest world gives on `approach` in the place of `given`, and the revision of that world. Over SSH what was
    /// taken away ends the channels that need it, and the session lives on with the rest; in a database it ends the session.
    ///
    /// # Errors
    /// How the session has to end.
    pub(crate) fn anew(&self, approach: &Approach, given: Option<&Given>) -> Result<(u64, Option<Given>), Ending> {
        let world = self.world();
        let judged = match given {
            Some(given) => self.in_place_of(approach, given).map(Some),
            None => self.unchanged(&world, approach, approach.protocol).and_then(|device| {
                let port = Port::tcp(approach.protocol.port());
                granted(world.policy.approach(&subject(&device), &object(&approach.target), port)).map(|_| None)
            }),
        };
        judged.map(|given| (world.revision, given)).map_err(|failure| Ending::Revoked(failure.to_string()))
    }

    fn in_place_of(&self, approach: &Approach, given: &Given) -> Result<Given, Failure> {
        match given {
            Given::Ssh(held) => {
                let now = self.permit_ssh(approach, held.account())?.in_place_of(held)?;
                Ok(Given::Ssh(Arc::new(now)))
            }
            Given::Postgres(held) => {
                let now = self.permit_postgres(approach, held.account(), held.database())?.in_place_of(held)?;
                match now.rights.cover(&held.rights) {
                    true => Ok(given.clone()),
                    false => Err(Failure::Denied("the policy allows less here than before: connect again".to_owned())),
                }
            }
        }
    }

    /// When the device of `approach` expires, by the newest world; `None` where it does not, or is not enrolled any more.
    pub(crate) fn expiry(&self, approach: &Approach) -> Option<Timestamp> {
        self.world().directory.expiry(&approach.caller.device().key)
    }

    /// The place on the tailnet that `host` and `port` mean to a caller: a registered target, and something that it speaks.
    pub(crate) fn on_tailnet(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let world = self.world();
        let target = world.target_named(host)?;
        let protocol = Protocol::of_port(port)?;
        target.address(protocol).ok()?;
        target.addresses.first().map(|address| SocketAddr::new(*address, port))
    }

    /// Waits until there is a newer world than the last one that this handle waited for; never, once there will be none.
    pub(crate) async fn changed(&mut self) {
        if self.world.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The revision of the policy that holds now.
    pub(crate) fn revision(&self) -> String {
        self.world().policy.revision().to_owned()
    }

    /// The clock that decisions are made by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn world(&self) -> Arc<World> {
        Arc::clone(&self.world.borrow())
    }

    /// The approach's device as it is now, provided that it came for `protocol`, and that neither it nor the target is
    /// another one than it was.
    fn unchanged(&self, world: &World, approach: &Approach, protocol: Protocol) -> Result<Arc<Device>, Failure> {
        if approach.protocol != protocol {
            return Err(Failure::Ours(format!("a connection for {} asked for {protocol}", approach.protocol)));
        }
        let was = approach.caller.device();
        let device = world.directory.current(&was.key, self.clock.now())?;
        if device.id != was.id || device.owner != was.owner || device.addresses != was.addresses {
            return Err(Failure::Denied(format!("{} was enrolled anew: connect again", was.name)));
        }
        let same_target = approach
            .target
            .addresses
            .iter()
            .all(|address| world.target_at(*address).is_some_and(|target| **target == *approach.target));
        if !same_target {
            return Err(Failure::Denied(format!("{} was changed or removed: connect again", approach.target.name)));
        }
        Ok(device)
    }
}

impl Approach {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Where to.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// What will be spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Where the target is dialled.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The strictest recording rule of the accounts that could follow.
    pub fn recording(&self) -> RecordingRule {
        self.recording
    }

    /// The rule that lets the caller reach the target, as `file position rule`.
    pub fn network_rule(&self) -> &str {
        &self.network_rule
    }

    /// The policy's revision.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl Refusal {
    fn of_stranger(failure: Failure) -> Self {
        Self { failure, caller: None, target: None }
    }
}

/// What the policy grants, or its denial as a failure.
fn granted<T>(decision: Decision<T>) -> Result<T, Failure> {
    decision.into_result().map_err(|denial| Failure::Denied(denial.sentence))
}

/// The policy's view of a device.
pub fn subject(device: &Device) -> policies::Caller {
    policies::Caller {
        user: device.owner.user().map(str::to_owned),
        tags: device.owner.tags().to_vec(),
        device: device.name.clone(),
        addresses: device.addresses.clone(),
        attributes: device.attributes.clone(),
    }
}

/// The policy's view of a target.
pub fn object(target: &Target) -> policies::Target {
    policies::Target { name: target.name.clone(), tags: target.tags.clone(), addresses: target.addresses.clone() }
}
