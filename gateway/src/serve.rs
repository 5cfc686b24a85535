//! The running gateway: builds every part, connects them, and stops them in order. It alone sees everything.

mod door;
mod edits;
mod keeper;
pub(crate) mod policy;
mod upkeep;

use std::collections::HashSet;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use sallyport_recorder::{SessionId, Signer, Store};
use sallyport_tailnet::{Arrivals, BackendKind, Tailnet};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::access::Access;
use crate::admin::{self, Killed, Request, Status, Watched};
use crate::clock::Clock;
use crate::config::{Backend, Config};
use crate::credentials::PostgresVault;
use crate::failure::Ending;
use crate::session::{Inside, Live, Runner};
use crate::state::{Folder, Keys, Lock, State};
use crate::target::Protocol;
use crate::workers::Workers;
use crate::{dns, postgres, ssh};

pub(crate) use keeper::Stored;

use edits::Watch;
use keeper::Keeper;

/// How long live sessions have to say goodbye at shutdown.
const GOODBYE: Duration = Duration::from_secs(5);
/// Requests on the control socket that may wait for each other.
const REQUESTS: usize = 16;

/// What every connection's task needs.
struct Gateway {
    runner: Runner,
    vault: Arc<ssh::Vault>,
    databases: Arc<postgres::Broker>,
    resolver: dns::Resolver,
    addresses: [IpAddr; 2],
    workers: Workers,
}

/// Runs the gateway until it is told to stop (SIGINT or SIGTERM). The policy file is read anew whenever it was edited, and
/// policy and state at SIGHUP.
///
/// # Errors
/// When it cannot start; the error says what to do.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let clock = Clock::system();
    let folder = Folder::open(&config.state.folder)?;
    let _lock: Lock = folder.lock()?;
    config.check_secrets().await?;
    let keys = Keys::open(&folder)?;
    let state = State::open(&config).await?;
    let signer = Arc::new(Signer::new(keys.recording.clone()));
    let store = Store::open(&config.state.recordings)?;
    recover(&store, &state, &signer, clock.now()).await?;

    let stored = Stored::read(&config, &state, &clock).await?;
    state.release_gone(&stored.targets, clock.now()).await?;
    let watch = Watch::begin(&config.policy);
    let policy = Arc::new(policy::at_start(&config.policy, &state, &stored.inventory(), &clock).await?);
    let (tailnet, arrivals) = start_tailnet(&config, &state, &keys, &stored, clock.now()).await?;
    let admitted = tailnet.peers().into_iter().map(|peer| peer.key).collect::<HashSet<_>>();
    let (zone, zones) = watch::channel(stored.zone(&config, &state));
    let (world, worlds) = watch::channel(stored.world(1, policy, &config.tailnet.domain));

    let live = Live::default();
    let (inside, inner) = Inside::new();
    let (v4, v6) = state.plan().gateway();
    let gateway = Arc::new(Gateway {
        databases: Arc::new(postgres::Broker::new(
            PostgresVault::new(&keys, &config.tailnet.domain, clock.clone()),
            state.roles(),
            clock.clone(),
        )),
        vault: Arc::new(ssh::Vault::new(&keys, &config.tailnet.domain, clock.clone())),
        runner: Runner {
            access: Access::new(worlds, clock.clone()),
            store,
            signer,
            live: live.clone(),
            state: state.clone(),
            gateway: config.tailnet.endpoint(),
            inside,
        },
        resolver: dns::Resolver::new(zones, &config.dns.forward),
        addresses: [v4.into(), v6.into()],
        workers: Workers::start().context("the gateway could not start its threads")?,
    });
    let callers = door::Callers { arrivals, inner, tailnet: tailnet.clone() };
    let keeper = Keeper { config, state: state.clone(), tailnet, live, clock, world, zone, admitted };
    let outcome = attend(gateway, keeper, callers, watch, &folder).await;
    state.close().await;
    outcome
}

/// Starts every task, answers requests until the gateway is told to stop, and ends the live sessions.
async fn attend(
    gateway: Arc<Gateway>,
    mut keeper: Keeper,
    callers: door::Callers,
    watch: Watch,
    folder: &Folder,
) -> anyhow::Result<()> {
    let mut stop = stop_signals()?;
    let mut hangup = listen(SignalKind::hangup())?;
    let (requests, mut asked) = mpsc::channel(REQUESTS);
    let (state, clock, tailnet) = (keeper.state.clone(), keeper.clock.clone(), keeper.tailnet.clone());
    let started = clock.now();
    let names = tailnet.udp(dns::PORT).await.context("DNS cannot listen on the tailnet")?;
    let listener = admin::bind(folder).context("the control socket cannot be made")?;

    let mut tasks = JoinSet::new();
    let (edited, mut edits) = mpsc::channel(1);
    tasks.spawn(watch.run(edited));
    tasks.spawn(upkeep::keep_flows(tailnet.flows(), state.clone(), clock.clone()));
    tasks.spawn(upkeep::keep_endpoints(tailnet.clone(), state, clock));
    let (databases, world) = (Arc::clone(&gateway.databases), keeper.world.subscribe());
    tasks.spawn(async move { databases.sweep(|name| world.borrow().target_named(name).cloned()).await });
    let resolver = gateway.resolver.clone();
    tasks.spawn(async move {
        if let Err(error) = dns::serve_datagrams(names, &resolver).await {
            warn!(%error, "DNS over UDP has stopped");
        }
    });
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, requests).await {
            warn!(%error, "the control socket has stopped");
        }
    });
    let mut door = tokio::spawn(door::attend(gateway, callers));

    let backend = tailnet.backend();
    for note in &backend.notes {
        info!("{note}");
    }
    info!(backend = %backend.kind, listen = ?tailnet.local_addr(), "the gateway is up");

    let outcome = loop {
        tokio::select! {
            _ = &mut door => break Err(anyhow::anyhow!("the data plane has stopped")),
            () = &mut stop => break Ok(()),
            _ = hangup.recv() => drop(keeper.refresh().await),
            Some(()) = edits.recv() => drop(keeper.refresh().await),
            () = keeper.next_expiry() => drop(keeper.refresh().await),
            Some(request) = asked.recv() => answer(request, &mut keeper, started).await,
        }
    };
    info!(sessions = keeper.live.count(), "stopping");
    door.abort();
    keeper.live.end_all(&Ending::Shutdown);
    if !keeper.live.empty(GOODBYE).await {
        warn!("some sessions did not end in time; their recordings are sealed at the next start");
    }
    outcome
}

/// Answers one request of the control socket. An asker who has gone away is no failure.
async fn answer(request: Request, keeper: &mut Keeper, started: Timestamp) {
    match request {
        Request::Changed(reply) => {
            let _ = reply.send(keeper.refresh().await);
        }
        Request::Status(reply) => {
            let _ = reply.send(status(keeper, started));
        }
        Request::Kill(id, how, reply) => {
            let (id, live) = (id.parse::<SessionId>(), keeper.live.clone());
            // Apart, because its caller is given a moment to hear of it.
            tokio::spawn(async move {
                let found = id.clone().is_ok_and(|id| live.end(id, Ending::killed(how.reason.as_deref())));
                let ended = match id {
                    Ok(id) => live.gone(id, GOODBYE).await,
                    Err(_) => true,
                };
                let _ = reply.send(Killed { found, ended });
            });
        }
        Request::Watch(id, reply) => {
            let seen = id.parse().ok().and_then(|id| keeper.live.look(id));
            let _ = reply.send(Watched { live: seen.is_some(), unseen: seen.flatten() });
        }
    }
}

fn status(keeper: &Keeper, started: Timestamp) -> Status {
    let world = Arc::clone(&keeper.world.borrow());
    Status {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        backend: keeper.tailnet.backend().kind.to_string(),
        listen: keeper.tailnet.local_addr().map_or_else(String::new, |address| address.to_string()),
        policy: world.policy.revision().to_owned(),
        devices: keeper.admitted.len(),
        targets: world.targets().count(),
        sessions: keeper.live.count(),
    }
}

/// Seals what a crash left open, and closes its rows.
async fn recover(store: &Store, state: &State, signer: &Arc<Signer>, now: Timestamp) -> anyhow::Result<()> {
    let (recovering, signer) = (store.clone(), Arc::clone(signer));
    let recovered = tokio::task::spawn_blocking(move || recovering.recover(&signer)).await??;
    for one in recovered {
        match one.result {
            Ok(_) => info!(session = %one.id, "the recording of an interrupted session was sealed"),
            Err(error) => {
                warn!(session = %one.id, %error, "the recording of an interrupted session could not be sealed")
            }
        }
    }
    let ended = state.end_interrupted_sessions(now).await?;
    if ended > 0 {
        info!(ended, "sessions were interrupted when the gateway last stopped");
    }
    Ok(())
}

async fn start_tailnet(
    config: &Config,
    state: &State,
    keys: &Keys,
    stored: &Stored,
    now: Timestamp,
) -> anyhow::Result<(Tailnet, Arrivals)> {
    let plan = state.plan();
    let tailnet = sallyport_tailnet::Config {
        private_key: keys.wireguard.clone(),
        listen: config.tailnet.listen,
        gateway: plan.gateway(),
        prefix: plan.prefix(),
        service: plan.services(),
        ports: Protocol::ALL.into_iter().map(Protocol::port).chain([dns::PORT]).collect(),
        mtu: config.tailnet.mtu,
        backend: match config.tailnet.backend {
            Backend::Auto => None,
            Backend::Tun => Some(BackendKind::Tun),
            Backend::Packet => Some(BackendKind::Packet),
            Backend::Userspace => Some(BackendKind::Userspace),
        },
    };
    let valid = stored.devices.iter().filter(|enrolled| !enrolled.has_expired(now));
    let peers = valid.map(|enrolled| enrolled.peer()).collect();
    Tailnet::start(tailnet, peers).await.context("the tailnet could not be started")
}

/// Resolves at the first SIGINT or SIGTERM.
fn stop_signals() -> anyhow::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }))
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("signals cannot be listened to")
}
