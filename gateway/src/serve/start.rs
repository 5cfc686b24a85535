//! What is done once, before the gateway is up: it seals what a crash left open, and starts the data plane.

use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use sallyport_recorder::{Signer, Store};
use sallyport_tailnet::{Arrivals, BackendKind, Tailnet};
use tracing::{info, warn};

use super::Stored;
use crate::config::{Backend, Config};
use crate::dns;
use crate::state::{Keys, State};
use crate::target::Protocol;

/// Seals what a crash left open, and closes its rows.
pub(super) async fn recover(store: &Store, state: &State, signer: &Arc<Signer>, now: Timestamp) -> anyhow::Result<()> {
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

/// The data plane, with every device that has not expired by `now`.
pub(super) async fn start_tailnet(
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
