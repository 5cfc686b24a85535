//! Turns what is stored into what holds: reads devices, targets and policy, and makes the world that decisions are made by.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sallyport_policies::{Inventory, Policy};
use sallyport_tailnet::{PublicKey, Tailnet};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::access;
use crate::admin::Applied;
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Zone;
use crate::identity::Directory;
use crate::session::Live;
use crate::state::{Enrolled, Known, State};
use crate::world::World;

/// Owns the world. One task holds it, so that changes come one after the other.
pub(super) struct Keeper {
    pub(super) config: Arc<Config>,
    pub(super) state: State,
    pub(super) tailnet: Tailnet,
    pub(super) live: Live,
    pub(super) clock: Clock,
    pub(super) world: watch::Sender<Arc<World>>,
    pub(super) zone: watch::Sender<Arc<Zone>>,
    /// The keys that the data plane lets in, and the devices that they were of.
    pub(super) admitted: HashMap<PublicKey, i64>,
}

/// What is stored, read at one moment.
pub(crate) struct Stored {
    pub(crate) devices: Vec<Enrolled>,
    pub(crate) targets: Vec<Known>,
}

impl Stored {
    /// Reads devices and targets.
    pub(crate) async fn read(config: &Config, state: &State, clock: &Clock) -> anyhow::Result<Self> {
        let devices = state.devices().await.context("the devices could not be read")?;
        let targets = state.targets(&config.targets, clock.now()).await.context("the targets could not be read")?;
        Ok(Self { devices, targets })
    }

    /// What the policy's own tests are about.
    pub(crate) fn inventory(&self) -> Inventory {
        Inventory {
            devices: self.devices.iter().map(|enrolled| access::subject(&enrolled.device)).collect(),
            targets: self.targets.iter().map(|known| access::object(&known.target)).collect(),
        }
    }

    /// The zone with a name for every target.
    pub(super) fn zone(&self, config: &Config, state: &State) -> Arc<Zone> {
        let hosts = self.targets.iter().map(|known| (known.target.name.as_str(), known.target.addresses.as_slice()));
        Arc::new(Zone::new(&config.tailnet.domain, state.plan(), hosts))
    }

    /// The devices that `tailnet` lets in, by their keys.
    pub(super) fn admitted(&self, tailnet: &Tailnet) -> HashMap<PublicKey, i64> {
        let keys: HashSet<_> = tailnet.peers().into_iter().map(|peer| peer.key).collect();
        let devices = self.devices.iter().map(|enrolled| &enrolled.device);
        devices.filter(|device| keys.contains(&device.key)).map(|device| (device.key, device.id)).collect()
    }

    /// The world in which `policy` holds.
    pub(super) fn world(self, revision: u64, policy: Arc<Policy>, domain: &str) -> Arc<World> {
        let directory = Directory::new(self.devices.into_iter().map(|enrolled| enrolled.device));
        let targets = self.targets.into_iter().map(|known| known.target).collect();
        Arc::new(World::new(revision, policy, directory, targets).named(domain))
    }
}

impl Keeper {
    /// Reads everything anew and returns once it holds: the sessions that are not allowed any more have ended, or have had
    /// their time to. What cannot be read leaves what was there in its place, and is said.
    pub(super) async fn refresh(&mut self) -> Applied {
        let before = self.live.count();
        let mut problems = Vec::new();
        match Stored::read(&self.config, &self.state, &self.clock).await {
            Ok(stored) => {
                if let Err(error) = self.state.release_gone(&stored.targets, self.clock.now()).await {
                    problems.push(format!("the addresses of removed targets could not be released: {error}"));
                }
                let policy = self.newest_policy(&stored, &mut problems).await;
                problems.extend(self.apply(stored, policy).await);
            }
            Err(problem) => {
                error!("{problem:#}");
                problems.push(format!("{problem:#}"));
            }
        }
        let holds = self.world.borrow().policy.revision().to_owned();
        Applied { policy: holds, problems, ended_sessions: before.saturating_sub(self.live.count()) }
    }

    async fn newest_policy(&self, stored: &Stored, problems: &mut Vec<String>) -> Arc<Policy> {
        match super::policy::read(&self.config.policy, &self.state, &stored.inventory(), &self.clock).await {
            Ok(policy) => Arc::new(policy),
            Err(refusal) => {
                let stays = Arc::clone(&self.world.borrow().policy);
                refusal.log(stays.revision());
                problems.push(format!("the policy was not accepted, and the last good one stays:\n{refusal}"));
                stays
            }
        }
    }

    async fn apply(&mut self, stored: Stored, policy: Arc<Policy>) -> Vec<String> {
        let mut problems = Vec::new();
        let now = self.clock.now();
        let valid: HashMap<PublicKey, _> = stored
            .devices
            .iter()
            .filter(|enrolled| !enrolled.has_expired(now))
            .map(|enrolled| (enrolled.device.key, (enrolled.device.id, enrolled.peer())))
            .collect();
        let revision = self.world.borrow().revision + 1;
        self.zone.send_replace(stored.zone(&self.config, &self.state));
        self.world.send_replace(stored.world(revision, policy, &self.config.tailnet.domain));
        // From here on a key that is gone is denied whatever it asks for. Its connections break after that, so that its
        // sessions know why they end.
        let is_gone = |key, id| valid.get(key).is_none_or(|(now, _)| *now != id);
        let gone: Vec<_> = self.admitted.iter().filter(|(key, id)| is_gone(key, **id)).map(|(key, _)| *key).collect();
        for key in gone {
            self.admitted.remove(&key);
            self.tailnet.remove(&key).await;
        }
        for (key, (id, peer)) in valid {
            if !self.admitted.contains_key(&key) {
                match self.tailnet.upsert(peer) {
                    Ok(()) => drop(self.admitted.insert(key, id)),
                    Err(error) => problems.push(format!("{key} was not admitted to the tailnet: {error}")),
                }
            }
        }
        if !self.live.settled(revision, SETTLING).await {
            warn!("some sessions take long to end after a change");
        }
        let policy = self.world.borrow().policy.revision().to_owned();
        info!(revision, policy, devices = self.admitted.len(), "the change holds");
        problems
    }

    /// Waits until the next device expires, or for an hour at most. Cancel-safe.
    pub(super) async fn next_expiry(&self) {
        let now = self.clock.now();
        let next = {
            let world = self.world.borrow();
            let expiries = world.directory.devices().filter_map(|device| device.expires);
            expiries.filter(|at| *at > now).min()
        };
        let wait = next.and_then(|at| Duration::try_from(now.duration_until(at)).ok()).unwrap_or(LONGEST_WAIT);
        tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
    }
}

/// How long a change waits for the sessions that it ends.
const SETTLING: Duration = Duration::from_secs(5);
/// The longest single wait for an expiry.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use sallyport_tailnet::{Memory, PresharedKey, PrivateKey};

    use super::*;
    use crate::identity::{Device, Owner};
    use crate::state::Folder;

    #[tokio::test]
    async fn a_key_that_was_enrolled_anew_is_let_in_as_the_new_device() {
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(Config::parse("", "test", folder.path(), Some(&folder.path().join("state"))).unwrap());
        let _made = Folder::open(&config.state.folder).unwrap();
        let state = State::open(&config).await.unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Clock::from_fn(|| Timestamp::from_second(1_800_000_000).unwrap());
        let policy = Arc::new(Policy::parse("{}").unwrap().policy);
        let key = PrivateKey::generate().public();
        let stored = |id, address: &str| {
            let device = Device {
                id,
                name: "laptop".into(),
                key,
                owner: Owner::User("alice@example.com".into()),
                addresses: vec![address.parse().unwrap()],
                expires: None,
                attributes: Default::default(),
            };
            let preshared = PresharedKey::generate();
            let enrolled = Enrolled { device, preshared, created: now, endpoint: None, handshake: None };
            Stored { devices: vec![enrolled], targets: Vec::new() }
        };
        let (tailnet, _arrivals, dialer) = Memory::new();
        let first = stored(1, "100.64.0.2");
        let zone = watch::Sender::new(first.zone(&config, &state));
        let world = watch::Sender::new(first.world(1, Arc::clone(&policy), &config.tailnet.domain));
        let live = Live::default();
        let admitted = HashMap::new();
        let mut keeper = Keeper { config, state, tailnet, live, clock, world, zone, admitted };
        for (id, address, other) in [(1, "100.64.0.2", "100.64.0.3"), (2, "100.64.0.3", "100.64.0.2")] {
            let problems = keeper.apply(stored(id, address), Arc::clone(&policy)).await;
            assert!(problems.is_empty(), "{problems:?}");
            let call = |from: &str| dialer.connect(key, from.parse().unwrap(), "100.100.0.1:22".parse().unwrap());
            assert!(call(address).await.is_ok() && call(other).await.is_err(), "{id}");
        }
    }
}
