//! The record of a connection that is a pipe in this process and has no packets: one of the memory backend, or one inside
//! another connection. Each write, or read, counts as a packet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{FlowSink, VerdictCell};
use crate::{FlowHandle, FlowRecord, Protocol, PublicKey};

/// Who sent bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Device,
    Gateway,
}

/// The record of a pipe in the making, emitted when both ends and the gateway's handle are gone.
#[derive(Debug)]
pub(crate) struct PipeFlow {
    device: PublicKey,
    source: SocketAddr,
    destination: SocketAddr,
    started: Instant,
    rx: Counter,
    tx: Counter,
    verdict: Arc<VerdictCell>,
    sink: FlowSink,
}

#[derive(Debug, Default)]
struct Counter {
    bytes: AtomicU64,
    writes: AtomicU64,
}

impl PipeFlow {
    pub(crate) fn new(device: PublicKey, source: SocketAddr, destination: SocketAddr, sink: FlowSink) -> Self {
        let (rx, tx, verdict) = Default::default();
        Self { device, source, destination, started: Instant::now(), rx, tx, verdict, sink }
    }

    /// For whoever decides about the connection.
    pub(crate) fn handle(self: &Arc<Self>) -> FlowHandle {
        FlowHandle::new(Arc::clone(&self.verdict), Some(Arc::clone(self)))
    }

    /// Counts bytes that were written or read at once; none are the end.
    pub(crate) fn count(&self, side: Side, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let counter = match side {
            Side::Device => &self.rx,
            Side::Gateway => &self.tx,
        };
        counter.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        counter.writes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for PipeFlow {
    fn drop(&mut self) {
        self.sink.emit(FlowRecord {
            device: self.device,
            protocol: Protocol::Tcp,
            source: self.source,
            destination: self.destination,
            started: self.started,
            ended: Instant::now(),
            rx_bytes: self.rx.bytes.load(Ordering::Relaxed),
            tx_bytes: self.tx.bytes.load(Ordering::Relaxed),
            rx_packets: self.rx.writes.load(Ordering::Relaxed),
            tx_packets: self.tx.writes.load(Ordering::Relaxed),
            verdict: self.verdict.read(),
        });
    }
}
