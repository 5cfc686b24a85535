//! The flows of one device: which connections are alive, and their records when they end.
//!
//! INVARIANT: no packet passes without a flow: where a device's table is full, the packet that would begin another flow
//! is dropped. So the records are complete, whatever a device does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::flow::{FlowSink, VerdictCell};
use crate::packet::{ACK, FIN, Outline, RST, SYN};
use crate::{FlowHandle, FlowRecord, Protocol, PublicKey};

/// One device's flows.
pub(super) struct Flows {
    device: PublicKey,
    live: HashMap<Ends, Flow>,
    room: Arc<Room>,
    sink: FlowSink,
    refused: u64,
}

/// What all devices' tables may hold together.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    FromDevice,
    ToDevice,
}

/// A packet, or several joined into one, as the records see it.
pub(super) struct Sighting {
    pub(super) protocol: Protocol,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) tcp_flags: Option<u8>,
    pub(super) packets: u32,
    pub(super) bytes: usize,
}

impl Sighting {
    /// Reads the headers of a packet that is `whole` bytes long and stands for `packets` on the wire, of `bytes` together.
    pub(super) fn read(head: &[u8], whole: usize, packets: u32, bytes: usize) -> Option<Self> {
        let outline = Outline::read_head(head, whole)?;
        let (source, destination) = outline.ends(head);
        let tcp_flags = outline.tcp_flags(head);
        Some(Self { protocol: outline.protocol.into(), source, destination, tcp_flags, packets, bytes })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    protocol: Protocol,
    device: SocketAddr,
    far: SocketAddr,
}

struct Flow {
    begun_by: Direction,
    started: Instant,
    last: Instant,
    rx: Count,
    tx: Count,
    stage: Stage,
    verdict: Option<Arc<VerdictCell>>,
}

#[derive(Default)]
struct Count {
    bytes: u64,
    packets: u64,
    finished: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One side has spoken.
    Unanswered,
    /// Both have.
    Alive,
    /// TCP said goodbye; its last packets may still be under way.
    Over,
}

impl Flows {
    pub(super) fn new(device: PublicKey, room: Arc<Room>, sink: FlowSink) -> Self {
        Self { device, live: HashMap::new(), room, sink, refused: 0 }
    }

    /// Counts a packet. False: there is no room for another flow, drop it.
    pub(super) fn see(&mut self, now: Instant, direction: Direction, seen: &Sighting) -> bool {
        let (device, far) = match direction {
            Direction::FromDevice => (seen.source, seen.destination),
            Direction::ToDevice => (seen.destination, seen.source),
        };
        let ends = Ends { protocol: seen.protocol, device, far };
        let begins = seen.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN);
        if begins && self.live.get(&ends).is_some_and(|flow| flow.stage == Stage::Over) {
            // The same ports again, before the old connection's last packets were waited for.
            self.end(&ends);
        }
        if !self.live.contains_key(&ends) {
            if !self.room.take(self.live.len()) {
                self.refused += 1;
                return false;
            }
            self.live.insert(ends, Flow::new(now, direction));
        }
        if let Some(flow) = self.live.get_mut(&ends) {
            flow.see(now, direction, seen);
        }
        true
    }

    /// The record of a connection that was just accepted. `None`: this device's packets did not make it.
    pub(super) fn arrival(&mut self, source: SocketAddr, destination: SocketAddr) -> Option<FlowHandle> {
        let flow = self.live.get_mut(&Ends { protocol: Protocol::Tcp, device: source, far: destination })?;
        let cell = flow.verdict.get_or_insert_default();
        Some(FlowHandle::new(Arc::clone(cell), None))
    }

    /// Emits what is over or has been silent for too long. How many flows were refused since the last call.
    pub(super) fn sweep(&mut self, now: Instant) -> u64 {
        let (device, sink, before) = (self.device, &self.sink, self.live.len());
        self.live.retain(|ends, flow| {
            let ended = flow.is_over(ends.protocol, now);
            if ended {
                sink.emit(flow.record(device, ends));
            }
            !ended
        });
        self.room.give_back(before - self.live.len());
        std::mem::take(&mut self.refused)
    }

    /// Emits everything: the device is gone, or we are.
    pub(super) fn close(&mut self) {
        self.room.give_back(self.live.len());
        for (ends, flow) in self.live.drain() {
            self.sink.emit(flow.record(self.device, &ends));
        }
    }

    fn end(&mut self, ends: &Ends) {
        if let Some(flow) = self.live.remove(ends) {
            self.room.give_back(1);
            self.sink.emit(flow.record(self.device, ends));
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.close();
    }
}

impl Flow {
    fn new(now: Instant, begun_by: Direction) -> Self {
        let (rx, tx) = Default::default();
        Self { begun_by, started: now, last: now, rx, tx, stage: Stage::Unanswered, verdict: None }
    }

    fn see(&mut self, now: Instant, direction: Direction, seen: &Sighting) {
        self.last = now;
        let (own, other) = match direction {
            Direction::FromDevice => (&mut self.rx, &self.tx),
            Direction::ToDevice => (&mut self.tx, &self.rx),
        };
        own.packets += u64::from(seen.packets);
        own.bytes += seen.bytes as u64;
        if let Some(flags) = seen.tcp_flags {
            own.finished |= flags & FIN != 0;
            if flags & RST != 0 || own.finished && other.finished {
                self.stage = Stage::Over;
            }
        }
        if self.stage == Stage::Unanswered && direction != self.begun_by {
            self.stage = Stage::Alive;
        }
    }

    fn is_over(&self, protocol: Protocol, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.last);
        let held = self.verdict.as_ref().is_some_and(VerdictCell::is_held);
        let patience = match (self.stage, protocol) {
            (Stage::Over, _) if held => HELD,
            (Stage::Over, _) => LINGER,
            (Stage::Unanswered, Protocol::Tcp) => UNANSWERED,
            (Stage::Alive, Protocol::Tcp) => TCP_SILENCE,
            (_, Protocol::Udp | Protocol::Other(_)) => EXCHANGE_SILENCE,
        };
        silent >= patience
    }

    fn record(&self, device: PublicKey, ends: &Ends) -> FlowRecord {
        let (source, destination) = match self.begun_by {
            Direction::FromDevice => (ends.device, ends.far),
            Direction::ToDevice => (ends.far, ends.device),
        };
        FlowRecord {
            device,
            protocol: ends.protocol,
            source,
            destination,
            started: self.started,
            ended: self.last,
            rx_bytes: self.rx.bytes,
            tx_bytes: self.tx.bytes,
            rx_packets: self.rx.packets,
            tx_packets: self.tx.packets,
            verdict: self.verdict.as_ref().and_then(|cell| cell.read()),
        }
    }
}

impl Room {
    /// Takes room for one more flow of a device that has `own`.
    fn take(&self, own: usize) -> bool {
        let all = self.0.fetch_add(1, Ordering::Relaxed);
        let fits = own < PER_DEVICE && (all < IN_TOTAL || own < GUARANTEED);
        if !fits {
            self.give_back(1);
        }
        fits
    }

    fn give_back(&self, flows: usize) {
        self.0.fetch_sub(flows, Ordering::Relaxed);
    }
}

/// Flows that one device may have at a time.
const PER_DEVICE: usize = 4096;
/// Flows that all devices may have at a time, but for [`GUARANTEED`]: some twenty megabytes.
const IN_TOTAL: usize = 65_536;
/// Flows that a device may have even when others have filled the table.
const GUARANTEED: usize = 64;
/// How long we count the last packets of a TCP connection that is over.
const LINGER: Duration = Duration::from_secs(1);
/// How long the record of a connection that is over waits for the gateway's verdict.
const HELD: Duration = Duration::from_secs(60);
/// How long a SYN may go unanswered: a little more than Linux's retries up to the sixth.
const UNANSWERED: Duration = Duration::from_secs(75);
/// How long an established connection may be silent: the least that RFC 5382 (REQ-5) allows a NAT.
const TCP_SILENCE: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
/// How long two UDP ports may be silent before the exchange counts as over: RFC 4787 (REQ-5) recommends five minutes to
/// a NAT, which has something to lose; a record only becomes two.
const EXCHANGE_SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FlowEvent, FlowRecords, PrivateKey, Verdict};

    fn flows() -> (Flows, FlowRecords, Instant) {
        let sink = FlowSink::new();
        let records = sink.subscribe();
        (Flows::new(PrivateKey::generate().public(), Arc::default(), sink), records, Instant::now())
    }

    fn packet(from: u16, to: u16, flags: Option<u8>) -> Sighting {
        let protocol = if flags.is_some() { Protocol::Tcp } else { Protocol::Udp };
        let end = |port| SocketAddr::from(([100, 64, 0, 1], port));
        Sighting { protocol, source: end(from), destination: end(to), tcp_flags: flags, packets: 1, bytes: 40 }
    }

    /// Ends all and gathers the records.
    fn gather(flows: Flows, mut records: FlowRecords) -> Vec<FlowRecord> {
        drop(flows);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut all = Vec::new();
        while let Some(event) = runtime.block_on(records.next()) {
            match event {
                FlowEvent::Ended(record) => all.push(record),
                FlowEvent::Lost(lost) => panic!("{lost} records lost"),
            }
        }
        all
    }

    #[test]
    fn a_connection_becomes_one_record_after_both_fins() {
        let (mut flows, records, start) = flows();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, direction, seen) in [
            (0, Direction::FromDevice, packet(1000, 22, Some(SYN))),
            (0, Direction::ToDevice, packet(22, 1000, Some(SYN | ACK))),
            (5, Direction::FromDevice, packet(1000, 22, Some(ACK))),
            (6, Direction::ToDevice, packet(22, 1000, Some(FIN | ACK))),
            (7, Direction::FromDevice, packet(1000, 22, Some(FIN | ACK))),
            (7, Direction::ToDevice, packet(22, 1000, Some(ACK))),
        ] {
            flows.sweep(at(second));
            assert!(flows.see(at(second), direction, &seen));
        }
        flows.sweep(at(8));
        assert!(flows.live.is_empty(), "the record is out a second after the last packet");
        let records = gather(flows, records);
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((record.source.port(), record.destination.port()), (1000, 22));
        assert_eq!((record.rx_packets, record.tx_packets, record.rx_bytes, record.tx_bytes), (3, 3, 120, 120));
        assert_eq!(record.duration(), Duration::from_secs(7));
        assert_eq!(record.verdict, None);
    }

    #[test]
    fn a_closed_port_leaves_a_record_too() {
        let (mut flows, records, start) = flows();
        flows.see(start, Direction::FromDevice, &packet(1000, 23, Some(SYN)));
        flows.see(start, Direction::ToDevice, &packet(23, 1000, Some(RST | ACK)));
        flows.sweep(start + LINGER);
        assert!(flows.live.is_empty());
        assert_eq!(gather(flows, records)[0].destination.port(), 23);
    }

    #[test]
    fn ports_used_again_make_a_new_record() {
        let (mut flows, records, start) = flows();
        for _ in 0..3 {
            flows.see(start, Direction::FromDevice, &packet(1000, 23, Some(SYN)));
            flows.see(start, Direction::ToDevice, &packet(23, 1000, Some(RST | ACK)));
        }
        assert_eq!(gather(flows, records).len(), 3);
    }

    #[test]
    fn a_record_waits_for_the_verdict_but_not_forever() {
        let (mut flows, records, start) = flows();
        let seen = packet(1000, 22, Some(SYN));
        flows.see(start, Direction::FromDevice, &seen);
        let handle = flows.arrival(seen.source, seen.destination).unwrap();
        flows.see(start, Direction::ToDevice, &packet(22, 1000, Some(RST)));
        flows.sweep(start + Duration::from_secs(30));
        assert_eq!(flows.live.len(), 1, "the gateway has not decided yet");
        handle.verdict(Verdict::Denied { reason: "no rule".to_owned() });
        flows.sweep(start + HELD);
        assert!(flows.live.is_empty());
        assert_eq!(gather(flows, records)[0].verdict, Some(Verdict::Denied { reason: "no rule".to_owned() }));
    }

    #[test]
    fn an_arrival_must_have_come_through_this_device() {
        let (mut flows, _records, start) = flows();
        let seen = packet(1000, 22, Some(SYN));
        assert!(flows.arrival(seen.source, seen.destination).is_none());
        flows.see(start, Direction::FromDevice, &seen);
        assert!(flows.arrival(seen.source, seen.destination).is_some());
        assert!(flows.arrival(seen.destination, seen.source).is_none());
    }

    #[test]
    fn what_gateways_begin_has_the_gateway_as_its_source() {
        let (mut flows, records, start) = flows();
        flows.see(start, Direction::ToDevice, &packet(5000, 8080, Some(SYN)));
        let record = &gather(flows, records)[0];
        assert_eq!((record.source.port(), record.destination.port()), (5000, 8080));
    }

    #[test]
    fn silence_ends_each_kind_of_flow_in_its_time() {
        for (name, answered, flags, patience) in [
            ("an unanswered SYN", false, Some(SYN), UNANSWERED),
            ("an idle connection", true, Some(ACK), TCP_SILENCE),
            ("an exchange of datagrams", true, None, EXCHANGE_SILENCE),
        ] {
            let (mut flows, _records, start) = flows();
            flows.see(start, Direction::FromDevice, &packet(1, 2, flags));
            if answered {
                flows.see(start, Direction::ToDevice, &packet(2, 1, flags));
            }
            flows.sweep(start + patience - Duration::from_millis(1));
            assert_eq!(flows.live.len(), 1, "{name}");
            flows.sweep(start + patience);
            assert_eq!(flows.live.len(), 0, "{name}");
        }
    }

    #[test]
    fn a_full_table_refuses_packets_and_says_how_many() {
        let (mut flows, _records, start) = flows();
        for port in 0..u16::try_from(PER_DEVICE).unwrap() {
            assert!(flows.see(start, Direction::FromDevice, &packet(port, 22, Some(SYN))));
        }
        assert!(!flows.see(start, Direction::FromDevice, &packet(60_000, 22, Some(SYN))));
        assert!(flows.see(start, Direction::FromDevice, &packet(1, 22, Some(ACK))), "a known flow goes on");
        assert_eq!(flows.sweep(start), 1);
        flows.sweep(start + UNANSWERED);
        assert!(flows.see(start, Direction::FromDevice, &packet(60_000, 22, Some(SYN))), "room again");
        assert_eq!(flows.room.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_device_has_some_flows_even_when_others_took_all() {
        let (mut flows, _records, start) = flows();
        flows.room.0.store(IN_TOTAL, Ordering::Relaxed);
        let fits = (0..100).filter(|port| flows.see(start, Direction::FromDevice, &packet(*port, 22, Some(SYN))));
        assert_eq!(fits.count(), GUARANTEED);
    }
}
