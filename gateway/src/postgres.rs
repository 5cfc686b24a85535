//! The Postgres broker: to the client it is the server, to the server it is a client.
//!
//! Two connections of PostgreSQL's protocol meet here. [`greet`] lets the client say what it wants, [`mod@reach`] logs in to the
//! server as the role that the policy allows, [`mod@carry`] has [`relay`] carry frames both ways while [`watch`] looks at them:
//! what is asked is judged and written down, and so is what comes back. [`cancel`] finds the session of a CancelRequest,
//! [`stop`] has the server stop what runs, and [`refuse`] alone words what the gateway itself says.

mod cancel;
mod carry;
mod greet;
mod judge;
mod leg;
mod limits;
pub mod observe;
mod options;
pub(crate) mod probe;
mod reach;
mod refuse;
mod relay;
mod roles;
mod stop;
mod watch;
pub mod wire;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures::FutureExt;
use sallyport_recorder::{DatabaseSession, Event};
use tokio_util::either::Either;

use crate::access::PostgresPermit;
use crate::clock::Clock;
use crate::credentials::{PostgresVault, identity};
use crate::failure::Failure;
use crate::session::Session;
use crate::state::{Keys, RoleLedger};
use crate::target::Target;

use carry::carry;
use judge::Judge;
use reach::reach;
use refuse::Fault;
use roles::{Lease, Roles};
use watch::Watch;
use wire::Startup;

pub use cancel::Cancels;
pub use greet::{Asked, Client, Greeting};
pub use refuse::decline;

/// What all sessions with databases share.
pub struct Broker {
    vault: Arc<PostgresVault>,
    cancels: Cancels,
    roles: Roles,
}

impl Broker {
    /// With the authorities and logins of `vault`; roles that are made are noted in `ledger`.
    pub fn new(vault: PostgresVault, ledger: RoleLedger, clock: Clock) -> Self {
        let vault = Arc::new(vault);
        Self { roles: Roles::new(Arc::clone(&vault), ledger, clock), vault, cancels: Cancels::default() }
    }

    /// Cleans up roles that sessions have left behind, those of an earlier life among them, for as long as it is polled.
    /// `target` finds targets by their names.
    pub async fn sweep(&self, target: impl Fn(&str) -> Option<Arc<Target>>) {
        self.roles.clone().sweep(target).await;
    }

    /// Drops what is kept of targets that are gone, or are described otherwise than they were. `target` finds targets by their
    /// names.
    pub fn forget(&self, target: impl Fn(&str) -> Option<Arc<Target>>) {
        self.vault.forget(target);
    }

    /// The keys by which statements are cancelled.
    pub fn cancels(&self) -> &Cancels {
        &self.cancels
    }

    /// Lets a client go on until it has asked for something, as the server `target`.
    ///
    /// # Errors
    /// [`Failure::Client`] when it does not, [`Failure::Ours`] when there is no certificate to show.
    pub async fn asked(&self, greeting: Greeting, target: Option<&Target>) -> Result<Asked, Failure> {
        greeting.asked(target.map(|target| self.vault.serving(target)).transpose()?).await
    }
}

/// What the role is called that the gateway of `keys` makes for a user in these groups.
pub(crate) fn made_role(keys: &Keys, login: &str, groups: &[String]) -> String {
    roles::name::of_user(&identity(&keys.database_ca), login, &roles::name::groups(groups))
}

/// Carries one client's session with its database, until both are done or the gateway ends it.
///
/// # Errors
/// What broke it, for the session's record; the client was told already.
pub async fn serve(mut client: Client, session: Arc<Session>, broker: Arc<Broker>) -> Result<(), Failure> {
    let Entered { permit, judge, target, lease } = match enter(&client, &session, &broker).await {
        Ok(entered) => entered,
        Err(fault) => {
            client.dismiss(&fault.response(session.id())).await;
            return Err(fault.failure);
        }
    };
    let watch = Arc::new(Watch::new(&permit, target.welcome.heard_by(judge)));
    let carried = AssertUnwindSafe(carry(client, target, &watch, &session, &broker)).catch_unwind().await;
    // After a panic as well: what runs was asked for.
    for event in watch.finish() {
        session.record(event).await?;
    }
    if let Some(lease) = lease {
        session.record(lease.release().await).await?;
    }
    carried.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A session that its server has let in.
struct Entered {
    permit: Arc<PostgresPermit>,
    judge: Judge,
    target: reach::Target,
    /// The role that was made for it.
    lease: Option<Lease>,
}

/// Everything from the permit to the server's being ready, unless the gateway ends the session meanwhile.
async fn enter(client: &Client, session: &Session, broker: &Broker) -> Result<Entered, Fault> {
    let (permit, mut startup, judge) = authorize(client, session).await?;
    let made = tokio::select! {
        made = broker.roles.make(session, &permit) => made?,
        ending = session.ended() => return Err(Failure::Denied(ending.to_string()).into()),
    };
    if let Some(made) = &made {
        session.record(made.event()).await?;
        startup.set("user", made.role());
    }
    let reached = tokio::select! {
        reached = reach(session, &broker.vault, &permit, &startup, made.as_ref()) => reached,
        ending = session.ended() => Err(Failure::Denied(ending.to_string()).into()),
    };
    let process = reached.as_ref().ok().and_then(|target| target.key.as_ref()).map(|key| key.process);
    let (lease, reached) = match made.map(|made| made.entered(process)) {
        None => (None, reached),
        Some(disarming) => match disarming.await {
            Ok(lease) => (Some(lease), reached),
            Err((lease, failure)) => (Some(lease), reached.and(Err(failure.into()))),
        },
    };
    let target = match reached {
        Ok(target) => target,
        Err(fault) => {
            if let Some(lease) = lease {
                session.record(lease.release().await).await?;
            }
            return Err(fault);
        }
    };
    let connected = Event::TargetConnected {
        address: session.target().postgres()?.address.to_string(),
        host_key: target.fingerprint.clone(),
        login: target.login.to_owned(),
    };
    session.record(connected).await?;
    let role = startup.parameter("user").unwrap_or_default();
    session.record(Event::DatabaseSession(Box::new(described(client, &permit, role, &target.welcome)))).await?;
    Ok(Entered { permit, judge, target, lease })
}

/// Asks for the role and the database that the client named, and says how the session is to be started.
async fn authorize(client: &Client, session: &Session) -> Result<(Arc<PostgresPermit>, Startup, Judge), Failure> {
    let asked = &client.startup;
    let Some(role) = asked.parameter("user").filter(|role| !role.is_empty()) else {
        return Err(Failure::Client("no PostgreSQL user name specified in startup packet".to_owned()));
    };
    // libpq names the user's own database when it was told none.
    let named = asked.parameter("database").filter(|database| !database.is_empty() && *database != role);
    let usual = session.target().postgres()?.database.as_deref();
    let replicates = !matches!(asked.parameter("replication"), None | Some("false" | "off" | "no" | "0"));
    let database = match asked.parameter("replication") {
        // It is of the whole server, and the server passes over the name; rules know it by the word of pg_hba.conf.
        Some(kind) if replicates && kind != "database" => REPLICATION,
        _ => named.or(usual).unwrap_or(role),
    };
    let permit = session.authorize_postgres(role, database)?;
    if replicates && !permit.capability().replication {
        let name = &session.target().name;
        return Err(Failure::Denied(format!(
            "replication from {name} as {role} is not allowed: {} does not give it",
            permit.rule()
        )));
    }
    let authorized = Event::Authorized {
        account: permit.account().to_owned(),
        rules: vec![permit.rule().to_owned()],
        client: asked.parameter("application_name").unwrap_or_default().to_owned(),
    };
    session.record(authorized).await?;
    let mut startup = asked.clone();
    startup.set("user", permit.account());
    startup.set("database", permit.database());
    let judge = Judge::new(&permit, replicates);
    check_settings(&permit, &judge, &startup)?;
    if permit.capability().is_read_only() {
        startup.set("default_transaction_read_only", "on");
    }
    Ok((permit, startup, judge))
}

/// May the session begin with the settings that its client asks for?
fn check_settings(permit: &PostgresPermit, judge: &Judge, startup: &Startup) -> Result<(), Failure> {
    if permit.capability().allows_everything() {
        return Ok(());
    }
    let Some(settings) = options::settings(startup.parameters()) else {
        let denied = "only settings may stand in the options of a session whose statements are judged: -c name=value";
        return Err(Failure::Denied(denied.to_owned()));
    };
    settings.iter().try_for_each(|(name, value)| judge.setting(name, value))
}

/// The session that the client has got, for the recording.
fn described(client: &Client, permit: &PostgresPermit, role: &str, welcome: &reach::Welcome) -> DatabaseSession {
    let asked = &client.startup;
    let named = ["user", "database", "application_name"];
    let others = asked.parameters().iter().filter(|(name, _)| !named.contains(&name.as_str()));
    DatabaseSession {
        role: role.to_owned(),
        database: permit.database().to_owned(),
        application_name: asked.parameter("application_name").unwrap_or_default().to_owned(),
        parameters: others.cloned().collect(),
        tls: matches!(client.leg, Either::Right(_)),
        server_version: welcome.parameter(b"server_version").unwrap_or_default(),
    }
}

/// The database of physical replication, in rules.
const REPLICATION: &str = "replication";
