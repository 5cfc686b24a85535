//! Flow records: who spoke with whom, when and how much, for each connection, allowed or not.
//!
//! A record is complete when it is emitted; it is emitted once, when its connection is over. What a record looks
//! like is here; how packets become records is in `engine/flows.rs`, and pipes in [`pipe`].

mod pipe;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::PublicKey;

pub(crate) use pipe::{PipeFlow, Side};

/// One connection or exchange, after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// The device it was with. Its packets proved this key.
    pub device: PublicKey,
    /// What was spoken.
    pub protocol: Protocol,
    /// Who began. The port is 0 where the protocol has none.
    pub source: SocketAddr,
    /// Who was called.
    pub destination: SocketAddr,
    /// When the first packet passed.
    pub started: Instant,
    /// When the last packet passed.
    pub ended: Instant,
    /// IP bytes from the device.
    pub rx_bytes: u64,
    /// IP bytes to the device.
    pub tx_bytes: u64,
    /// Packets from the device.
    pub rx_packets: u64,
    /// Packets to the device.
    pub tx_packets: u64,
    /// What the gateway decided. `None`: it was never asked, for nobody listened there.
    pub verdict: Option<Verdict>,
}

impl FlowRecord {
    /// From the first packet to the last.
    pub fn duration(&self) -> Duration {
        self.ended.saturating_duration_since(self.started)
    }
}

/// The protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Exchanges of datagrams between two ports; one ends when it has been silent for a while.
    Udp,
    /// Any other, by its number (1 and 58 are ICMP).
    Other(u8),
}

impl From<u8> for Protocol {
    fn from(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Other(1 | 58) => f.write_str("icmp"),
            Self::Other(number) => write!(f, "ip-{number}"),
        }
    }
}

/// What the gateway decided about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It became this session.
    Allowed {
        /// The session's id.
        session: String,
    },
    /// It was turned away.
    Denied {
        /// Why, in a sentence.
        reason: String,
    },
}

/// The gateway's hold on the record of one arrival.
///
/// The record is emitted after the connection has ended *and* this handle was dropped (or a minute later), so that a
/// verdict is never too late: keep the handle as long as the connection is being decided on or served.
#[derive(Debug)]
pub struct FlowHandle {
    cell: Arc<VerdictCell>,
    /// Keeps an in-process connection's record from being written.
    _held: Option<Arc<PipeFlow>>,
}

impl FlowHandle {
    pub(crate) fn new(cell: Arc<VerdictCell>, held: Option<Arc<PipeFlow>>) -> Self {
        Self { cell, _held: held }
    }

    /// Writes the decision into the record. The last one stands.
    pub fn verdict(&self, verdict: Verdict) {
        *self.cell.0.lock() = Some(verdict);
    }
}

/// What [`FlowRecords`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// A connection is over.
    Ended(FlowRecord),
    /// So many records were lost, because the reader was slower than the tailnet.
    Lost(u64),
}

/// The records of every connection that ends from now on.
///
/// The queue is bounded and never slows packets down: a reader that falls behind by more than [`FLOW_QUEUE`] records
/// loses the oldest and is told how many.
#[derive(Debug)]
pub struct FlowRecords(broadcast::Receiver<FlowRecord>);

impl FlowRecords {
    /// The next record, or `None` when the data plane has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<FlowEvent> {
        match self.0.recv().await {
            Ok(record) => Some(FlowEvent::Ended(record)),
            Err(RecvError::Lagged(lost)) => Some(FlowEvent::Lost(lost)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Where finished records go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FlowSink(broadcast::Sender<FlowRecord>);

impl FlowSink {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(FLOW_QUEUE).0)
    }

    pub(crate) fn emit(&self, record: FlowRecord) {
        // No subscriber is no loss: nobody wants records yet.
        let _ = self.0.send(record);
    }

    pub(crate) fn subscribe(&self) -> FlowRecords {
        FlowRecords(self.0.subscribe())
    }
}

/// Where a handle leaves its verdict and the flow's table finds it.
#[derive(Debug, Default)]
pub(crate) struct VerdictCell(Mutex<Option<Verdict>>);

impl VerdictCell {
    pub(crate) fn read(&self) -> Option<Verdict> {
        self.0.lock().clone()
    }

    /// Whether a handle is still out.
    pub(crate) fn is_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// Records that wait for a slow reader before the oldest are lost: about a megabyte.
pub const FLOW_QUEUE: usize = 4096;
