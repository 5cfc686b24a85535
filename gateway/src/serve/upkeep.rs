//! What goes on beside the sessions: flow records to the database, devices' endpoints remembered, and forgotten what was of
//! targets that are gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sallyport_tailnet::{FlowEvent, FlowRecord, FlowRecords, PublicKey, Tailnet, Verdict};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::clock::Clock;
use crate::postgres::Broker;
use crate::state::{Flow, State};
use crate::world::World;

/// Has nothing kept of targets that are gone, or are described otherwise than they were.
pub(super) async fn forget_targets(databases: Arc<Broker>, mut world: watch::Receiver<Arc<World>>) {
    while world.changed().await.is_ok() {
        databases.forget(|name| world.borrow().target_named(name).cloned());
    }
}

/// Writes flow records down until the data plane stops.
pub(super) async fn keep_flows(mut flows: FlowRecords, state: State, clock: Clock) {
    let mut batch = Vec::new();
    loop {
        let wait = if batch.is_empty() { Duration::MAX } else { FLOW_WAIT };
        match tokio::time::timeout(wait, flows.next()).await {
            Ok(Some(FlowEvent::Ended(record))) => {
                batch.push(row(record, &clock));
                if batch.len() < FLOW_BATCH {
                    continue;
                }
            }
            Ok(Some(FlowEvent::Lost(count))) => warn!(count, "flow records were lost: the database is too slow"),
            Ok(None) => break,
            Err(_elapsed) => {}
        }
        write(&state, &mut batch).await;
    }
    write(&state, &mut batch).await;
}

async fn write(state: &State, batch: &mut Vec<Flow>) {
    if !batch.is_empty()
        && let Err(error) = state.add_flows(batch, FLOWS_KEPT).await
    {
        warn!(count = batch.len(), %error, "flow records could not be kept");
    }
    batch.clear();
}

fn row(record: FlowRecord, clock: &Clock) -> Flow {
    let (session, denied) = match record.verdict {
        Some(Verdict::Allowed { session }) => (Some(session), None),
        Some(Verdict::Denied { reason }) => (None, Some(reason)),
        None => (None, Some("nobody listens there".to_owned())),
    };
    Flow {
        device: record.device.to_string(),
        protocol: record.protocol.to_string(),
        source: record.source.to_string(),
        destination: record.destination.to_string(),
        started: wall(record.started, clock),
        ended: wall(record.ended, clock),
        rx_bytes: record.rx_bytes,
        tx_bytes: record.tx_bytes,
        rx_packets: record.rx_packets,
        tx_packets: record.tx_packets,
        session,
        denied,
    }
}

/// The wall-clock time of a moment in this process's life.
fn wall(moment: Instant, clock: &Clock) -> Timestamp {
    let ago = SignedDuration::try_from(moment.elapsed()).unwrap_or_default();
    clock.now().checked_sub(ago).unwrap_or_else(|_| clock.now())
}

/// Remembers where devices' packets come from, so that they are greeted after a restart. Never ends.
pub(super) async fn keep_endpoints(tailnet: Tailnet, state: State, clock: Clock) {
    let mut known = HashMap::new();
    let mut ticks = interval(ENDPOINT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        note_endpoints(&tailnet, &state, &clock, &mut known).await;
    }
}

/// Writes down each endpoint and handshake that is not what is `known`.
async fn note_endpoints(
    tailnet: &Tailnet,
    state: &State,
    clock: &Clock,
    known: &mut HashMap<PublicKey, (Option<SocketAddr>, Option<Instant>)>,
) {
    for peer in tailnet.peers() {
        let seen = (peer.endpoint, peer.last_handshake);
        if known.insert(peer.key, seen) == Some(seen) {
            continue;
        }
        let handshake = peer.last_handshake.map(|moment| wall(moment, clock));
        if let Err(error) = state.device_seen(&peer.key, peer.endpoint, handshake).await {
            warn!(%error, "a device's endpoint could not be kept");
        }
    }
}

/// How long a flow record may wait for others to be written with it.
const FLOW_WAIT: Duration = Duration::from_secs(1);
/// Flow records that are written at once.
const FLOW_BATCH: usize = 512;
/// Flow records that are kept; older ones go.
const FLOWS_KEPT: u32 = 1_000_000;
/// How often endpoints are looked at.
const ENDPOINT_INTERVAL: Duration = Duration::from_secs(1);
