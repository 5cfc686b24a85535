//! The running gateway: builds every part, connects them, and stops them in order. It alone sees everything.

mod answer;
mod descriptors;
mod door;
mod edits;
mod keeper;
pub(crate) mod policy;
mod start;
mod upkeep;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sallyport_recorder::{Signer, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::access::Access;
use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::credentials::PostgresVault;
use crate::failure::Ending;
use crate::session::{Budgets, Inside, Live, Runner};
use crate::state::{Folder, Keys, Lock, State};
use crate::workers::Workers;
use crate::{dns, postgres, ssh};

pub(crate) use keeper::Stored;

use answer::answer;
use edits::Watch;
use keeper::Keeper;

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
    start::recover(&store, &state, &signer, clock.now()).await?;

    let stored = Stored::read(&config, &state, &clock).await?;
    state.release_gone(&stored.targets, clock.now()).await?;
    let watch = Watch::begin(&config.policy);
    let policy = Arc::new(policy::at_start(&config.policy, &state, &stored.inventory(), &clock).await?);
    let (tailnet, arrivals) = start::start_tailnet(&config, &state, &keys, &stored, clock.now()).await?;
    let admitted = stored.admitted(&tailnet);
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
            budgets: Budgets::default(),
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
    let started = keeper.clock.now();
    let listener = admin::bind(folder).context("the control socket cannot be made")?;
    let mut tasks = beside(&gateway, &keeper).await?;
    let (edited, mut edits) = mpsc::channel(1);
    tasks.spawn(watch.run(edited));
    tasks.spawn(async move {
        if let Err(error) = admin::serve(listener, requests).await {
            warn!(%error, "the control socket has stopped");
        }
    });
    let mut door = tokio::spawn(door::attend(gateway, callers));

    let backend = keeper.tailnet.backend();
    for note in &backend.notes {
        info!("{note}");
    }
    info!(backend = %backend.kind, listen = ?keeper.tailnet.local_addr(), "the gateway is up");

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

/// Starts what goes on beside the connections, until the tasks are dropped.
async fn beside(gateway: &Gateway, keeper: &Keeper) -> anyhow::Result<JoinSet<()>> {
    let (state, clock, tailnet) = (&keeper.state, &keeper.clock, &keeper.tailnet);
    let names = tailnet.udp(dns::PORT).await.context("DNS cannot listen on the tailnet")?;
    let mut tasks = JoinSet::new();
    tasks.spawn(upkeep::keep_flows(tailnet.flows(), state.clone(), clock.clone()));
    tasks.spawn(upkeep::keep_endpoints(tailnet.clone(), state.clone(), clock.clone()));
    tasks.spawn(upkeep::forget_targets(Arc::clone(&gateway.databases), keeper.world.subscribe()));
    let (databases, world) = (Arc::clone(&gateway.databases), keeper.world.subscribe());
    tasks.spawn(async move { databases.sweep(|name| world.borrow().target_named(name).cloned()).await });
    let resolver = gateway.resolver.clone();
    tasks.spawn(async move {
        if let Err(error) = dns::serve_datagrams(names, &resolver).await {
            warn!(%error, "DNS over UDP has stopped");
        }
    });
    Ok(tasks)
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

/// How long live sessions have to say goodbye at shutdown.
const GOODBYE: Duration = Duration::from_secs(5);
/// Requests on the control socket that may wait for each other.
const REQUESTS: usize = 16;
