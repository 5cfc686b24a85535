//! Takes each connection that arrives on the tailnet to the broker of its port.
//!
//! Accepting never waits: every connection has a task of its own on one of the workers and a deadline for its greeting, and
//! nobody holds more than a share of the places.

use std::sync::Arc;

use sallyport_recorder::SessionId;
use sallyport_tailnet::{Arrival, Arrivals, FlowHandle, Stream, Tailnet, Verdict};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::Gateway;
use super::descriptors;
use crate::access::Refusal;
use crate::failure::Failure;
use crate::identity::Origin;
use crate::session::InnerCall;
use crate::target::Protocol;
use crate::{dns, postgres, session, ssh};

/// Where connections come from.
pub(super) struct Callers {
    /// Over the tailnet.
    pub(super) arrivals: Arrivals,
    /// Inside sessions, from a device that a session has proved.
    pub(super) inner: mpsc::Receiver<InnerCall>,
    /// Keeps the records of both.
    pub(super) tailnet: Tailnet,
}

impl Callers {
    /// The next connection; `None` once the data plane has stopped.
    async fn next(&mut self) -> Option<Call> {
        tokio::select! {
            arrival = self.arrivals.next() => arrival.map(Call::from),
            Some(InnerCall { origin, mut stream }) = self.inner.recv() => {
                let flow = self.tailnet.keep_inner(&mut stream, origin.ends());
                Some(Call { origin, stream, flow })
            }
        }
    }
}

/// One connection, and its record.
struct Call {
    origin: Origin,
    stream: Stream,
    flow: Option<FlowHandle>,
}

impl From<Arrival> for Call {
    fn from(arrival: Arrival) -> Self {
        Self { origin: Origin::from(&arrival), stream: arrival.stream, flow: Some(arrival.flow) }
    }
}

/// Notes in the flow of a connection what became of it.
fn verdict(flow: Option<&FlowHandle>, verdict: Verdict) {
    if let Some(flow) = flow {
        flow.verdict(verdict);
    }
}

/// Takes connections until the data plane stops.
pub(super) async fn attend(gateway: Arc<Gateway>, mut callers: Callers) {
    let places = descriptors::places();
    while let Some(call) = callers.next().await {
        let Some(place) = places.take(call.origin.device()) else {
            verdict(call.flow.as_ref(), Verdict::Denied { reason: "too many connections at the same time".into() });
            continue;
        };
        let Call { origin, stream, flow } = call;
        let carried = Arc::clone(&gateway);
        let carry = move |stream| async move {
            let _place = place;
            serve(&carried, Call { origin, stream, flow }).await;
        };
        if let Err(error) = gateway.workers.carry(stream, carry) {
            warn!(%error, "a connection could not be taken");
        }
    }
}

async fn serve(gateway: &Gateway, call: Call) {
    let port = call.origin.destination().port();
    match (Protocol::of_port(port), port) {
        (Some(Protocol::Ssh), _) => ssh(gateway, call).await,
        (Some(Protocol::Postgres), _) => postgres(gateway, call).await,
        (None, dns::PORT) => resolve(gateway, call).await,
        _ => verdict(call.flow.as_ref(), Verdict::Denied { reason: "no broker for this port".into() }),
    }
}

/// An SSH connection: silent ones and those that are not SSH cost a task and a buffer, and are never decided on.
async fn ssh(gateway: &Gateway, call: Call) {
    let Call { origin, stream, flow } = call;
    let flow = flow.as_ref();
    let greeting = match ssh::Greeting::read(stream).await {
        Ok(greeting) => greeting,
        Err(failure) => {
            debug!(source = ?origin, %failure, "no SSH greeting");
            return verdict(flow, Verdict::Denied { reason: failure.to_string() });
        }
    };
    match gateway.runner.access.approach(&origin) {
        Ok(approach) => {
            let id = admitted(gateway, flow);
            let vault = Arc::clone(&gateway.vault);
            session::run(&gateway.runner, approach, id, |session| ssh::serve(greeting, session, vault)).await;
        }
        Err(refusal) => {
            refused(gateway, Protocol::Ssh, &origin, flow, &refusal).await;
            // A stranger learns nothing; a caller reads why.
            if refusal.caller.is_some() {
                ssh::decline(greeting, &gateway.vault, refusal.target.as_deref(), &refusal.failure).await;
            }
        }
    }
}

/// A connection to a database. A client that only wants to cancel what another of its connections does gets no session.
async fn postgres(gateway: &Gateway, call: Call) {
    let Call { origin, stream, flow } = call;
    let flow = flow.as_ref();
    let greeting = match postgres::Greeting::read(stream).await {
        Ok(greeting) => greeting,
        Err(failure) => {
            debug!(source = ?origin, %failure, "no Postgres greeting");
            return verdict(flow, Verdict::Denied { reason: failure.to_string() });
        }
    };
    let decision = gateway.runner.access.approach(&origin);
    let target = match &decision {
        Ok(approach) => Some(Arc::clone(approach.target())),
        Err(refusal) => refusal.target.clone(),
    };
    let broker = &gateway.databases;
    // A stranger learns nothing; a caller may say what it has come for, and reads why it goes no further.
    let stranger = matches!(&decision, Err(refusal) if refusal.caller.is_none());
    let asked = match stranger {
        true => Err(Failure::Client("it is not enrolled".into())),
        false => broker.asked(greeting, target.as_deref()).await,
    };
    match (decision, asked) {
        (Ok(approach), Ok(postgres::Asked::Session(client))) => {
            let id = admitted(gateway, flow);
            let broker = Arc::clone(broker);
            session::run(&gateway.runner, approach, id, |session| postgres::serve(client, session, broker)).await;
        }
        (Ok(_), Ok(postgres::Asked::Cancel(canceller))) => {
            verdict(flow, Verdict::Allowed { session: "cancel".into() });
            broker.cancels().deliver(origin.device(), canceller).await;
        }
        (Ok(_), Err(failure)) => {
            debug!(source = ?origin, %failure, "no Postgres start-up");
            verdict(flow, Verdict::Denied { reason: failure.to_string() });
        }
        (Err(refusal), asked) => {
            refused(gateway, Protocol::Postgres, &origin, flow, &refusal).await;
            if let Ok(asked) = asked {
                postgres::decline(asked, &refusal.failure).await;
            }
        }
    }
}

/// Names the session that a connection becomes, and notes it in the connection's flow.
fn admitted(gateway: &Gateway, flow: Option<&FlowHandle>) -> SessionId {
    let id = SessionId::new(gateway.runner.access.clock().now());
    verdict(flow, Verdict::Allowed { session: id.to_string() });
    id
}

/// Writes down everywhere that a connection was refused.
async fn refused(gateway: &Gateway, protocol: Protocol, origin: &Origin, flow: Option<&FlowHandle>, refusal: &Refusal) {
    info!(caller = ?refusal.caller.as_ref().map(ToString::to_string), reason = %refusal.failure, "refused");
    verdict(flow, Verdict::Denied { reason: refusal.failure.to_string() });
    gateway.runner.refused(protocol, origin, refusal).await;
}

/// A connection to the resolver.
async fn resolve(gateway: &Gateway, call: Call) {
    let flow = call.flow.as_ref();
    if !gateway.addresses.contains(&call.origin.destination().ip()) {
        return verdict(flow, Verdict::Denied { reason: "DNS is at the gateway's own address".into() });
    }
    verdict(flow, Verdict::Allowed { session: "dns".into() });
    dns::serve_stream(call.stream, call.origin.ends().source.ip(), &gateway.resolver).await;
}
