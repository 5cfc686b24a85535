//! The Postgres broker: to the client it is the server, to the server it is a client.
//!
//! Two connections of PostgreSQL's protocol meet here. [`greet`] lets the client say what it wants, [`mod@reach`] logs in to the
//! server as the role that the policy allows, [`relay`] carries frames both ways while [`watch`] looks at them: what is asked
//! is judged and written down, and so is what comes back. [`cancel`] finds the session of a CancelRequest, and [`refuse`]
//! alone words what the gateway itself says.

mod cancel;
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
mod watch;
pub mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use sallyport_recorder::{DatabaseSession, Event};
use tokio::io::{AsyncWriteExt, split};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::either::Either;
use tracing::debug;

use crate::access::PostgresPermit;
use crate::clock::Clock;
use crate::credentials::{PostgresVault, identity};
use crate::failure::{Ending, Failure, Stage};
use crate::session::Session;
use crate::state::{Keys, RoleLedger};
use crate::target::Target;

use judge::Judge;
use reach::reach;
use refuse::Fault;
use relay::{Direction, Stopped};
use roles::{Lease, Roles};
use watch::Watch;
use wire::{CancelKey, Startup};

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
    let watch = Watch::new(&permit, target.welcome.heard_by(judge));
    let carried = carry(client, target, &watch, &session, &broker).await;
    for event in watch.finish() {
        session.record(event).await?;
    }
    if let Some(lease) = lease {
        session.record(lease.release().await).await?;
    }
    carried
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

/// Lets the client in, and carries frames both ways.
async fn carry(
    client: Client,
    target: reach::Target,
    watch: &Watch,
    session: &Session,
    broker: &Broker,
) -> Result<(), Failure> {
    let device = session.caller().device().key;
    let (place, wishes) =
        broker.cancels.enter(device, target.welcome.version, target.key.as_ref().map(|key| key.process));
    let mut leg = client.leg;
    let welcomed = async {
        leg.write_all(&target.welcome.bytes(place.key())).await?;
        leg.flush().await
    };
    // A client that does not even take its welcome holds nothing up, a withdrawn permit least of all.
    let welcomed = tokio::select! {
        welcomed = timeout(WELCOME_DEADLINE, welcomed) => matches!(welcomed, Ok(Ok(()))),
        _ = session.ended() => false,
    };
    if !welcomed {
        return Ok(());
    }
    let (from_client, to_client) = split(leg);
    let (from_target, to_target) = split(target.leg);
    let mut up = Direction::new(from_client, to_target, bytes::BytesMut::new());
    let mut down = Direction::new(from_target, to_client, target.inbox);
    let (mut client_watch, mut server_watch) = (watch.of_client(), watch.of_server());
    let ended = {
        // Whatever ends a client, the server hears of it at once: its locks and its place are free again.
        let mut up = pin!(async {
            let stopped = up.run(session, &mut client_watch).await;
            // Nothing more is carried without a recording: not even what a farewell would bring along.
            if !matches!(stopped, Err(Stopped::Recording(_))) {
                up.close().await;
            }
            stopped
        });
        let mut down = pin!(down.run(session, &mut server_watch));
        let mut beside = pin!(beside(watch, session, broker, target.key.as_ref(), wishes));
        let mut client_done = false;
        loop {
            tokio::select! {
                stopped = &mut up, if !client_done => match stopped {
                    // What the server still has to say is passed on.
                    Ok(()) | Err(Stopped::Reading(_)) => client_done = true,
                    // Its last words may be on their way, and say more than a broken pipe.
                    Err(Stopped::Writing(_)) => client_done = true,
                    Err(stopped) => break Over::Stopped(Side::Client, stopped),
                },
                stopped = &mut down => break match stopped {
                    Ok(()) if watch.is_cut() => Over::Cut,
                    Ok(()) => Over::ServerDone,
                    Err(stopped) => Over::Stopped(Side::Server, stopped),
                },
                ending = &mut beside => break Over::Ended(ending),
                () = tokio::time::sleep(patience(watch)), if client_done => break Over::ClientGone,
            }
        }
    };
    let runs_on = !ended.is_servers() && watch.is_waiting();
    let (error, result) = over(ended, watch, session);
    let parting = async {
        match (error, down.between_frames()) {
            (Some(error), Some(to_client)) => refuse::tell(to_client, &error).await,
            _ => down.close().await,
        }
        up.pass_over().await;
    };
    // A server does not notice that nobody is there any more before it has something to say.
    let stopping = async {
        if runs_on {
            let _ = timeout(STOPPING, stop(session, broker, target.key.as_ref())).await;
        }
    };
    tokio::join!(parting, stopping);
    // What was seen when it ended.
    up.write_down(session).await?;
    down.write_down(session).await?;
    result
}

/// What goes on beside the two directions, until the gateway wants the session to end. Each part is looked at when something
/// has come for it, and not with every packet.
async fn beside(
    watch: &Watch,
    session: &Session,
    broker: &Broker,
    key: Option<&CancelKey>,
    wishes: mpsc::Receiver<cancel::Wish>,
) -> Ending {
    let mut parts = FuturesUnordered::from_iter([
        session.ended().boxed(),
        cancelling(session, broker, key, wishes).boxed(),
        stopping(watch, session, broker, key).boxed(),
    ]);
    parts.next().await.unwrap_or(Ending::Shutdown)
}

/// How long a server may go on with what a client has left to it: one that has said goodbye means it to be done.
fn patience(watch: &Watch) -> Duration {
    if watch.is_over() { HALF_CLOSED } else { ABANDONED }
}

/// How a session came to its end.
enum Over {
    /// The server has closed its side.
    ServerDone,
    /// The client has closed its side, and the server does not come to an end.
    ClientGone,
    /// One direction failed.
    Stopped(Side, Stopped),
    /// The gateway wants it to.
    Ended(Ending),
    /// The client was told in the stream why it ends.
    Cut,
}

impl Over {
    /// Whether it is the server that has gone.
    fn is_servers(&self) -> bool {
        matches!(self, Self::ServerDone | Self::Stopped(Side::Server, Stopped::Reading(_)))
    }
}

/// Whose frames a direction carries.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// What the client is told of the end, if it has not heard yet, and what becomes of the session.
fn over(over: Over, watch: &Watch, session: &Session) -> (Option<wire::ErrorResponse>, Result<(), Failure>) {
    let name = &session.target().name;
    let failure = match over {
        Over::Ended(ending) => return (Some(refuse::ended(&ending)), Ok(())),
        Over::ServerDone if watch.is_over() => return (None, Ok(())),
        Over::ServerDone => Failure::target(name, Stage::Protocol, "the server closed the connection unexpectedly"),
        // A client that is gone is an ordinary ending.
        Over::ClientGone | Over::Cut | Over::Stopped(Side::Server, Stopped::Writing(_)) => return (None, Ok(())),
        Over::Stopped(Side::Server, Stopped::Reading(error)) if watch.is_over() => {
            debug!(%error, "a server broke off after it had said so");
            return (None, Ok(()));
        }
        Over::Stopped(_, Stopped::Recording(failure)) => failure,
        Over::Stopped(Side::Server, stopped) => Failure::target(name, Stage::Protocol, stopped),
        Over::Stopped(Side::Client, stopped) => Failure::Client(stopped.to_string()),
    };
    let fault = Fault {
        code: matches!(failure, Failure::Target { .. }).then_some(wire::SqlState::CONNECTION_FAILURE),
        failure,
    };
    (Some(fault.response(session.id())), Err(fault.failure))
}

/// Passes cancellations on to the server, one after the other.
async fn cancelling(
    session: &Session,
    broker: &Broker,
    key: Option<&CancelKey>,
    mut wishes: mpsc::Receiver<cancel::Wish>,
) -> Ending {
    while let Some(done) = wishes.recv().await {
        let _ = session.record(Event::DatabaseCancel).await;
        stop(session, broker, key).await;
        let _ = done.send(());
    }
    std::future::pending().await
}

/// Stops each statement that has brought back too much.
async fn stopping(watch: &Watch, session: &Session, broker: &Broker, key: Option<&CancelKey>) -> Ending {
    loop {
        watch.to_be_stopped().await;
        stop(session, broker, key).await;
    }
}

/// Has the server stop what runs on the session's connection.
async fn stop(session: &Session, broker: &Broker, key: Option<&CancelKey>) {
    let Some(key) = key else { return };
    if let Err(failure) = reach::cancel(session, &broker.vault, key).await {
        debug!(session = %session.id(), %failure, "a cancellation was not passed on");
    }
}

/// The database of physical replication, in rules.
const REPLICATION: &str = "replication";
/// How long a client may take to take what the server greets it with.
const WELCOME_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server may go on after its client has said goodbye.
const HALF_CLOSED: Duration = Duration::from_secs(60);
/// How long it may go on after its client has closed its side without a word.
const ABANDONED: Duration = Duration::from_secs(5);
/// How long the end of a session may wait for its statement to be stopped: less than the broker is given for its farewell.
const STOPPING: Duration = Duration::from_secs(2);
