//! Roles made just in time: a caller becomes a role of its own, in the groups that the policy names, for as long as it has
//! sessions.
//!
//! A role belongs to one caller with one set of groups, so sessions that share it may do the same, and what one of them
//! makes is there for the next. It can log in only while the gateway does so for a session. It is noted in the state before it
//! is made, and struck out when nothing is left to do about it; [`sweep`] does what a crash or a server that was away
//! has left undone. Every connection of the gateway's own is [`admin`]'s, and each server has few of them.

mod admin;
mod clean;
mod make;
pub(super) mod name;
mod sweep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postgres_protocol::password::scram_sha_256;
use sallyport_recorder::{Event, SessionId};
use tokio::sync::{Mutex as Lock, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::access::PostgresPermit;
use crate::clock::Clock;
use crate::credentials::{PostgresCredential, PostgresVault};
use crate::failure::{Failure, Stage};
use crate::secrets::Secret;
use crate::session::{Session, dial_to_clean_up};
use crate::state::RoleLedger;
use crate::target::{PostgresLogin, Target};

pub(super) use admin::Admin;
use clean::Fate;
use make::Wanted;

/// The roles that this gateway makes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Roles(Arc<Shared>);

struct Shared {
    vault: Arc<PostgresVault>,
    ledger: RoleLedger,
    clock: Clock,
    /// What is hashed into names, so that no two gateways make the same.
    gateway: String,
    /// Connections to each server.
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
    slots: Mutex<HashMap<Key, Slot>>,
    /// Something was left undone.
    undone: Notify,
}

/// A role on a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    target: String,
    role: String,
}

/// A role that sessions have, or that something is done about.
#[derive(Default)]
struct Slot {
    /// Whoever changes the role on the server holds it.
    lock: Arc<Lock<()>>,
    /// The sessions, each with its process on the server, once that is known.
    sessions: HashMap<SessionId, Option<u32>>,
}

/// A role that was made for a session and may log in: until [`Armed::entered`].
pub(super) struct Armed {
    lease: Lease,
    credential: PostgresCredential,
    admin: Admin,
    _turn: OwnedMutexGuard<()>,
    _place: OwnedSemaphorePermit,
}

/// A session's share of its role. Dropped, it leaves the rest to the sweep.
pub(super) struct Lease {
    roles: Roles,
    key: Key,
    target: Arc<Target>,
    groups: Vec<String>,
    session: SessionId,
}

impl Roles {
    /// None so far; `ledger` knows of those that were made earlier.
    pub(super) fn new(vault: Arc<PostgresVault>, ledger: RoleLedger, clock: Clock) -> Self {
        let gateway = vault.identity();
        let (places, slots, undone) = (Mutex::default(), Mutex::default(), Notify::new());
        Self(Arc::new(Shared { vault, ledger, clock, gateway, places, slots, undone }))
    }

    /// Makes the role of the permit's caller for `session`; none where the permit is for a role that the server has.
    ///
    /// # Errors
    /// Why there is none: [`Failure::Denied`] for the caller, with a warning for the operator where that says more.
    pub(super) async fn make(&self, session: &Session, permit: &PostgresPermit) -> Result<Option<Armed>, Failure> {
        if permit.groups().is_empty() {
            return Ok(None);
        }
        let groups = name::groups(permit.groups());
        let key = Key {
            target: permit.target().name.clone(),
            role: name::of(&self.0.gateway, permit.caller().device(), &groups),
        };
        let (lock, lease) = self.enter(key, session, groups);
        match timeout(MAKING, self.arm(session, permit, lock, lease)).await {
            Ok(armed) => armed.map(Some),
            Err(_) => Err(self.refused(session, "it took too long")),
        }
    }

    async fn arm(
        &self,
        session: &Session,
        permit: &PostgresPermit,
        lock: Arc<Lock<()>>,
        lease: Lease,
    ) -> Result<Armed, Failure> {
        let server = permit.target().postgres()?;
        if server.admin.is_none() {
            return Err(self.refused(session, "no admin is configured there that could make roles"));
        }
        let turn = lock.lock_owned().await;
        let place = self.place(&lease.key.target).await?;
        let noted = self.0.ledger.note(&lease.key.target, &lease.key.role, self.0.clock.now()).await;
        noted.map_err(|error| Failure::Ours(format!("the role could not be noted: {error}")))?;
        let entered = Admin::login(session.dial().await?, permit.target(), &self.0.vault).await;
        let mut admin = entered.map_err(|failure| self.no_admin(session, failure))?;
        let password = Secret::random();
        let (credential, verifier) = match &server.login {
            PostgresLogin::Certificate => (self.0.vault.minted(permit, &lease.key.role)?, None),
            _ => {
                let verifier = scram_sha_256(password.expose().as_bytes());
                (PostgresCredential::Drawn(password), Some(verifier))
            }
        };
        let mark = self.mark();
        let wanted =
            Wanted { name: &lease.key.role, groups: &lease.groups, mark: &mark, verifier: verifier.as_deref() };
        let made = make::make(&mut admin.client, &wanted).await;
        made.map_err(|error| self.refused(session, &error.to_string()))?;
        Ok(Armed { lease, credential, admin, _turn: turn, _place: place })
    }

    /// Tells the caller and the operator why there is no role.
    fn refused(&self, session: &Session, why: &str) -> Failure {
        let (target, caller) = (&session.target().name, session.caller());
        warn!(session = %session.id(), %target, %caller, %why, "no role was made");
        Failure::Denied(format!("{target} makes no role for {caller}: {why}; ask whoever runs the gateway"))
    }

    /// The admin's login is not the caller's business: the operator reads what is wrong with it.
    fn no_admin(&self, session: &Session, failure: Failure) -> Failure {
        match failure {
            Failure::Target { stage: Stage::AdminLogin, .. } | Failure::Ours(_) => {
                warn!(session = %session.id(), %failure, "no role was made: the admin's login failed");
                self.refused(session, "the gateway's admin login there failed")
            }
            failure => failure,
        }
    }

    fn enter(&self, key: Key, session: &Session, groups: Vec<String>) -> (Arc<Lock<()>>, Lease) {
        let mut slots = self.0.slots.lock();
        let slot = slots.entry(key.clone()).or_default();
        slot.sessions.insert(session.id(), None);
        let lease =
            Lease { roles: self.clone(), key, target: Arc::clone(session.target()), groups, session: session.id() };
        (Arc::clone(&slot.lock), lease)
    }

    /// A place for one connection to a server.
    async fn place(&self, target: &str) -> Result<OwnedSemaphorePermit, Failure> {
        let places = {
            let mut places = self.0.places.lock();
            Arc::clone(places.entry(target.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(PLACES))))
        };
        places.acquire_owned().await.map_err(|error| Failure::Ours(error.to_string()))
    }

    /// The comment on every role of this gateway's.
    fn mark(&self) -> String {
        format!("made by sallyport {} for as long as its caller has sessions", self.0.gateway)
    }

    /// The turn to change a role on its server; whoever wants a place as well asks for that afterwards.
    fn turn(&self, key: &Key) -> Arc<Lock<()>> {
        Arc::clone(&self.0.slots.lock().entry(key.clone()).or_default().lock)
    }

    fn has_sessions(&self, key: &Key) -> bool {
        self.0.slots.lock().get(key).is_some_and(|slot| !slot.sessions.is_empty())
    }

    /// Cleans up one role whose turn the caller has, unless sessions have it.
    async fn clean(&self, admin: &mut Admin, key: &Key) -> Result<Fate, String> {
        if self.has_sessions(key) {
            return Ok(Fate::InUse);
        }
        let cleaned = clean::clean(&mut admin.client, &key.role, &self.mark()).await;
        let fate = cleaned.map_err(|error| error.to_string())?;
        if let Fate::Dropped | Fate::Foreign | Fate::Disabled(_) = fate {
            self.strike(key).await?;
        }
        tell(key, &fate);
        Ok(fate)
    }

    async fn strike(&self, key: &Key) -> Result<(), String> {
        let struck = self.0.ledger.strike(&key.target, &key.role).await;
        struck.map_err(|error| format!("it could not be struck out: {error}"))
    }

    /// A slot that nobody has any use for goes.
    fn forget_slot(&self, key: &Key) {
        let mut slots = self.0.slots.lock();
        if slots.get(key).is_some_and(|slot| slot.sessions.is_empty() && Arc::strong_count(&slot.lock) == 1) {
            slots.remove(key);
        }
    }
}

impl Armed {
    /// The role.
    pub(super) fn role(&self) -> &str {
        &self.lease.key.role
    }

    /// What it logs in with.
    pub(super) fn credential(&self) -> &PostgresCredential {
        &self.credential
    }

    /// That it was made, for the recording.
    pub(super) fn event(&self) -> Event {
        Event::RoleMade { role: self.role().to_owned(), groups: self.lease.groups.clone() }
    }

    /// The session has logged in, as this process on the server, or has not: nobody else does by the same means.
    ///
    /// # Errors
    /// [`Failure::Target`] when the server does not take them away.
    pub(super) async fn entered(self, process: Option<u32>) -> Result<Lease, (Lease, Failure)> {
        let Self { lease, admin, .. } = self;
        if let Some(slot) = lease.roles.0.slots.lock().get_mut(&lease.key) {
            slot.sessions.insert(lease.session, process);
        }
        let failed = |detail: String| Failure::target(&lease.key.target, Stage::AdminLogin, detail);
        match timeout(DISARMING, make::disarm(&admin.client, &lease.key.role)).await {
            Ok(Ok(())) => Ok(lease),
            Ok(Err(error)) => {
                let failure = failed(admin::told(&error));
                Err((lease, failure))
            }
            Err(_) => {
                let failure = failed("it did not answer in time".to_owned());
                Err((lease, failure))
            }
        }
    }
}

impl Lease {
    /// The session is over: takes the role away, as far as that is done in a moment. Gives what became of it, for the
    /// recording; what is not done yet is done later.
    pub(super) async fn release(self) -> Event {
        let role = self.key.role.clone();
        // In a task of its own, so that it goes on when the session does not wait any longer.
        let releasing = tokio::spawn(async move { self.give_back().await });
        let fate = match timeout(RELEASING, releasing).await {
            Ok(Ok(Ok(fate))) => said(&fate),
            Ok(Ok(Err(why))) => format!("left to the sweep: {why}"),
            Ok(Err(_)) | Err(_) => "left to the sweep".to_owned(),
        };
        Event::RoleEnded { role, fate }
    }

    async fn give_back(self) -> Result<Fate, String> {
        let (roles, key, target) = (self.roles.clone(), self.key.clone(), Arc::clone(&self.target));
        let process = self.leave();
        let cleaning = async {
            let _turn = roles.turn(&key).lock_owned().await;
            if process.is_none() && roles.has_sessions(&key) {
                return Ok(Fate::InUse);
            }
            let _place = roles.place(&key.target).await.map_err(|failure| failure.to_string())?;
            let mut admin = roles.cleaner(&target).await.map_err(|failure| failure.to_string())?;
            if let Some(process) = process {
                let ended = clean::end_session(&admin.client, &key.role, process).await;
                ended.map_err(|error| admin::told(&error))?;
            }
            roles.clean(&mut admin, &key).await
        };
        let cleaned = timeout(CLEANING, cleaning).await.unwrap_or_else(|_| Err("it took too long".to_owned()));
        roles.forget_slot(&key);
        if let Err(why) = &cleaned {
            debug!(target = %key.target, role = %key.role, %why, "a role is left to the sweep");
            roles.0.undone.notify_one();
        }
        cleaned
    }

    /// Gives the share up; the process on the server that no other session has, where others go on.
    fn leave(&self) -> Option<u32> {
        let mut slots = self.roles.0.slots.lock();
        let slot = slots.get_mut(&self.key)?;
        let process = slot.sessions.remove(&self.session).flatten()?;
        let shared = !slot.sessions.is_empty() && !slot.sessions.values().any(|other| *other == Some(process));
        shared.then_some(process)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let had = {
            let mut slots = self.roles.0.slots.lock();
            slots.get_mut(&self.key).and_then(|slot| slot.sessions.remove(&self.session)).is_some()
        };
        if had {
            self.roles.0.undone.notify_one();
        }
    }
}

impl Roles {
    /// A connection to take back what sessions have left behind: it needs no permit, and carries nothing of anybody's.
    async fn cleaner(&self, target: &Target) -> Result<Admin, Failure> {
        let stream = dial_to_clean_up(&target.name, &target.postgres()?.address).await?;
        Admin::login(stream, target, &self.0.vault).await
    }
}

/// Tells the operator what became of a role.
fn tell(key: &Key, fate: &Fate) {
    let (target, role) = (&key.target, &key.role);
    match fate {
        Fate::Disabled(owned) => {
            info!(%target, %role, %owned, "a role was disabled and not dropped: it owns something there");
        }
        Fate::Foreign => warn!(%target, %role, "a role is there that this gateway has not made, and was left alone"),
        Fate::Dropped | Fate::Absent | Fate::InUse => debug!(%target, %role, ?fate, "a role was cleaned up"),
    }
}

/// What became of a role, in a recording's words.
fn said(fate: &Fate) -> String {
    match fate {
        Fate::Dropped | Fate::Absent => "dropped".to_owned(),
        Fate::Disabled(owned) => format!("disabled: {owned}"),
        Fate::Foreign => "left alone".to_owned(),
        Fate::InUse => "kept for other sessions".to_owned(),
    }
}

/// Connections to one server at the same time, to make roles and to clean up.
const PLACES: usize = 4;
/// How long a role may take to be made; a caller who opens many connections waits for its own.
const MAKING: Duration = Duration::from_secs(60);
/// How long the server may take to take the means of logging in away.
const DISARMING: Duration = Duration::from_secs(10);
/// How long a session waits for the end of its role.
const RELEASING: Duration = Duration::from_secs(2);
/// How long cleaning up may take.
const CLEANING: Duration = Duration::from_secs(60);
