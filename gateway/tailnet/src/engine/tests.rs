//! Two engines back to back: what one sends, the other receives, without sockets, devices or sleeps.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::*;
use crate::offload::VirtioHeader;
use crate::{FlowEvent, FlowRecords, Protocol};

/// One side: an engine, its peer's view of it, and what came out of it.
struct Side {
    core: Core,
    inbound: Inbound,
    outbound: Outbound,
    key: PublicKey,
    /// Where its packets come from.
    at: Endpoint,
    records: FlowRecords,
    /// IP packets that reached its device.
    delivered: Vec<Vec<u8>>,
}

impl Side {
    fn new(at: &str) -> Self {
        let (private, sink) = (PrivateKey::generate(), FlowSink::new());
        let records = sink.subscribe();
        let key = private.public();
        let core = Core::new(private, sink);
        let (inbound, outbound) = (Inbound::new(512 * 1024), Outbound::new());
        let at = at.parse::<SocketAddr>().unwrap().into();
        Self { core, inbound, outbound, key, at, records, delivered: Vec::new() }
    }

    fn knows(&self, other: &Self, allowed: &[&str], endpoint: Option<SocketAddr>) {
        let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
        let config = PeerConfig { key: other.key, preshared: None, allowed, endpoint, keepalive: None };
        self.core.upsert(config).unwrap();
    }

    /// Its device sends a packet: the datagrams that go out, each run with its size, and any ICMP answer.
    fn sends(&mut self, packet: &[u8]) -> (Vec<Run>, Option<Vec<u8>>) {
        let answer = self.outbound.take(&self.core, Instant::now(), VirtioHeader::default(), &mut packet.to_vec());
        let runs =
            self.outbound.transmits().map(|(run, bytes)| Run { bytes: bytes.to_vec(), size: run.size }).collect();
        self.outbound.clear();
        (runs, answer)
    }

    /// Takes a run of datagrams from `from`; what it answers.
    fn receives(&mut self, from: Endpoint, run: &Run) -> Vec<Run> {
        let mut answers = Vec::new();
        let send = &mut |_, packet: &[u8]| answers.push(Run { bytes: packet.to_vec(), size: packet.len() });
        self.inbound.take(&self.core, from, &run.bytes, run.size, send);
        let delivered = &mut self.delivered;
        self.inbound.deliver(Instant::now(), &mut |_, arena, pieces| {
            delivered.push(pieces.iter().flat_map(|piece| arena[piece.clone()].to_vec()).collect());
        });
        answers
    }

    fn ticks(&self) -> Vec<Run> {
        let mut sent = Vec::new();
        self.core.tick(Instant::now(), &mut |_, packet: &[u8]| {
            sent.push(Run { bytes: packet.to_vec(), size: packet.len() });
        });
        sent
    }

    fn endpoint_of(&self, other: &Self) -> Option<SocketAddr> {
        self.core.peers(Instant::now()).into_iter().find(|peer| peer.key == other.key).and_then(|peer| peer.endpoint)
    }

    async fn next_record(&mut self) -> crate::FlowRecord {
        match self.records.next().await {
            Some(FlowEvent::Ended(record)) => record,
            other => panic!("{other:?}"),
        }
    }
}

/// Datagrams of one size but for the last, as GSO and GRO carry them.
#[derive(Clone, Debug)]
struct Run {
    bytes: Vec<u8>,
    size: usize,
}

/// Carries datagrams to and fro until both are quiet.
fn settle(one: &mut Side, other: &mut Side, mut to_other: Vec<Run>) {
    let mut to_one = Vec::new();
    while !(to_other.is_empty() && to_one.is_empty()) {
        for run in std::mem::take(&mut to_other) {
            to_one.extend(other.receives(one.at, &run));
        }
        for run in std::mem::take(&mut to_one) {
            to_other.extend(one.receives(other.at, &run));
        }
    }
}

/// A device and a gateway that have shaken hands.
fn pair() -> (Side, Side) {
    let (mut device, mut gateway) = (Side::new("192.0.2.7:1000"), Side::new("192.0.2.1:51820"));
    device.knows(&gateway, &["0.0.0.0/0", "::/0"], Some(gateway.at.remote));
    gateway.knows(&device, &["100.64.0.2/32", "fd00::2/128"], None);
    let hello = udp("100.64.0.2:5000", "100.64.0.1:53", b"hello");
    let (first, _) = device.sends(&hello);
    settle(&mut device, &mut gateway, first);
    assert_eq!(gateway.delivered, [hello], "what waited for the handshake arrives after it");
    gateway.delivered.clear();
    (device, gateway)
}

fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let length = u16::try_from(payload.len() + 8).unwrap();
    let mut packet = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let whole = (length + 20).to_be_bytes();
            let mut header = vec![0x45, 0, whole[0], whole[1], 0, 0, 0, 0, 64, 17, 0, 0];
            header.extend([source.octets(), destination.octets()].concat());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = length.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], 17, 64];
            header.extend([source.octets(), destination.octets()].concat());
            header
        }
        _ => panic!("one family"),
    };
    packet.extend([source.port(), destination.port(), length, 0].map(u16::to_be_bytes).concat());
    packet.extend(payload);
    packet
}

#[test]
fn packets_of_both_families_go_both_ways() {
    let (mut device, mut gateway) = pair();
    for (device_end, gateway_end) in [("100.64.0.2:9", "100.64.0.1:7"), ("[fd00::2]:9", "[fd00::1]:7")] {
        let (there, back) = (udp(device_end, gateway_end, b"there"), udp(gateway_end, device_end, b"back"));
        let (runs, _) = device.sends(&there);
        settle(&mut device, &mut gateway, runs);
        let (runs, _) = gateway.sends(&back);
        settle(&mut gateway, &mut device, runs);
        assert_eq!((gateway.delivered.pop(), device.delivered.pop()), (Some(there), Some(back)));
    }
}

#[test]
fn a_device_sends_from_its_own_addresses_only() {
    let (mut device, mut gateway) = pair();
    for source in ["100.64.0.3:9", "100.64.0.1:9"] {
        let (runs, _) = device.sends(&udp(source, "100.64.0.1:7", b"forged"));
        settle(&mut device, &mut gateway, runs);
    }
    let (runs, _) = device.sends(&udp("[fd00::3]:9", "[fd00::1]:7", b"forged"));
    settle(&mut device, &mut gateway, runs);
    assert_eq!(gateway.delivered, Vec::<Vec<u8>>::new());
}

#[test]
fn a_stranger_gets_no_answer() {
    let (_, mut gateway) = pair();
    let mut stranger = Side::new("192.0.2.66:1000");
    stranger.knows(&gateway, &["0.0.0.0/0"], Some(gateway.at.remote));
    let (runs, _) = stranger.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"let me in"));
    assert_eq!(runs.len(), 1, "a handshake begins");
    assert!(gateway.receives(stranger.at, &runs[0]).is_empty());
}

#[test]
fn replayed_and_damaged_packets_are_dropped() {
    let (mut device, mut gateway) = pair();
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"once"));
    let mut damaged = runs[0].clone();
    *damaged.bytes.last_mut().unwrap() ^= 1;
    gateway.receives(device.at, &damaged);
    assert_eq!(gateway.delivered.len(), 0);
    gateway.receives(device.at, &runs[0]);
    gateway.receives(device.at, &runs[0]);
    assert_eq!(gateway.delivered.len(), 1);
}

#[test]
fn a_device_may_roam_but_nobody_can_move_it() {
    let (mut device, mut gateway) = pair();
    let home = device.at;
    device.at = "[2001:db8::7]:2000".parse::<SocketAddr>().unwrap().into();
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"moved"));
    let elsewhere = "203.0.113.9:9".parse::<SocketAddr>().unwrap().into();
    let mut damaged = runs[0].clone();
    *damaged.bytes.last_mut().unwrap() ^= 1;
    gateway.receives(elsewhere, &damaged);
    assert_eq!(gateway.endpoint_of(&device), Some(home.remote), "a packet that is not authentic moves nobody");
    gateway.receives(device.at, &runs[0]);
    assert_eq!(gateway.endpoint_of(&device), Some(device.at.remote));
    gateway.receives(elsewhere, &runs[0]);
    assert_eq!(gateway.endpoint_of(&device), Some(device.at.remote), "nor does a replayed one");
}

#[test]
fn a_removed_device_is_deaf_and_mute_and_may_come_back() {
    let (mut device, mut gateway) = pair();
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"late"));
    assert!(gateway.core.remove(&device.key).is_some());
    assert!(gateway.core.remove(&device.key).is_none());
    gateway.receives(device.at, &runs[0]);
    assert!(gateway.delivered.is_empty());
    let (runs, answer) = gateway.sends(&udp("100.64.0.1:7", "100.64.0.2:9", b"hello?"));
    assert!(runs.is_empty());
    assert!(answer.is_some(), "the kernel hears that nobody is there");

    gateway.knows(&device, &["100.64.0.2/32"], Some(device.at.remote));
    let hello = gateway.ticks();
    assert_eq!(hello.len(), 1, "with an endpoint, the handshake begins at once");
    settle(&mut gateway, &mut device, hello);
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"back"));
    settle(&mut device, &mut gateway, runs);
    assert_eq!(gateway.delivered.len(), 1);
}

#[test]
fn a_restarted_gateway_wakes_the_devices_that_it_remembers() {
    let (mut device, gateway) = pair();
    let mut restarted = Side::new("192.0.2.1:51820");
    let private = gateway.core.private.clone();
    restarted.key = private.public();
    restarted.core = Core::new(private, FlowSink::new());
    restarted.knows(&device, &["100.64.0.2/32"], gateway.endpoint_of(&device));
    // The device still uses its old session, and is not heard.
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"anybody?"));
    settle(&mut device, &mut restarted, runs);
    assert!(restarted.delivered.is_empty());
    let wake = restarted.ticks();
    settle(&mut restarted, &mut device, wake);
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"again"));
    settle(&mut device, &mut restarted, runs);
    assert_eq!(restarted.delivered.len(), 1);
}

#[test]
fn under_a_flood_of_handshakes_an_initiator_must_prove_its_address() {
    let mut gateway = Side::new("192.0.2.1:51820");
    let mut device = Side::new("192.0.2.7:1000");
    device.knows(&gateway, &["0.0.0.0/0"], Some(gateway.at.remote));
    gateway.knows(&device, &["100.64.0.2/32"], None);
    let mut flood = Side::new("192.0.2.66:1000");
    flood.knows(&gateway, &["0.0.0.0/0"], Some(gateway.at.remote));
    let (runs, _) = flood.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"flood"));
    for _ in 0..HANDSHAKES_PER_SECOND {
        assert!(gateway.receives(flood.at, &runs[0]).is_empty());
    }
    let (runs, _) = device.sends(&udp("100.64.0.2:9", "100.64.0.1:7", b"me too"));
    let answers = gateway.receives(device.at, &runs[0]);
    assert_eq!(answers[0].bytes[0], 3, "a cookie reply");
    // The device shows the cookie with its next try, and is let in although the flood goes on.
    device.receives(gateway.at, &answers[0]);
    let peer = device.core.table.read().by_key(&gateway.key).cloned().unwrap();
    let mut scratch = [0; SCRATCH];
    let again = match peer.live.lock().tunnel.format_handshake_initiation(&mut scratch, true) {
        TunnResult::WriteToNetwork(packet) => Run { bytes: packet.to_vec(), size: packet.len() },
        other => panic!("{other:?}"),
    };
    settle(&mut device, &mut gateway, vec![again]);
    assert_eq!(gateway.delivered.len(), 1);
}

#[test]
fn an_address_belongs_to_one_peer() {
    let (device, gateway) = pair();
    let other = Side::new("192.0.2.8:1000");
    let config = |allowed: &str| PeerConfig {
        key: other.key,
        preshared: None,
        allowed: vec![allowed.parse().unwrap()],
        endpoint: None,
        keepalive: None,
    };
    let error = gateway.core.upsert(config("100.64.0.2/32")).unwrap_err();
    assert!(matches!(error, Error::AddressTaken { owner, .. } if owner == device.key), "{error}");
    gateway.core.upsert(config("100.64.0.3/32")).unwrap();
    gateway.knows(&device, &["100.64.0.4/32"], None);
    gateway.core.upsert(config("100.64.0.2/32")).unwrap();
}

#[test]
fn a_changed_address_holds_at_once_and_keeps_the_session() {
    let (mut device, mut gateway) = pair();
    let allowed = vec!["100.64.0.9/32".parse().unwrap()];
    let config = PeerConfig { key: device.key, preshared: None, allowed, endpoint: None, keepalive: None };
    let gone = gateway.core.upsert(config).unwrap();
    assert_eq!(gone, ["100.64.0.2/32".parse().unwrap(), "fd00::2/128".parse::<IpNet>().unwrap()]);
    for (source, arrives) in [("100.64.0.2:9", false), ("100.64.0.9:9", true)] {
        let (runs, _) = device.sends(&udp(source, "100.64.0.1:7", b"hello"));
        settle(&mut device, &mut gateway, runs);
        assert_eq!(gateway.delivered.pop().is_some(), arrives, "{source}");
    }
}

#[test]
fn a_run_of_datagrams_is_one_transmit() {
    let (mut device, _gateway) = pair();
    let mut sizes = Vec::new();
    for length in [100, 100, 60, 100] {
        let mut packet = udp("100.64.0.2:9", "100.64.0.1:7", &vec![1; length]);
        device.outbound.take(&device.core, Instant::now(), VirtioHeader::default(), &mut packet);
    }
    for (run, bytes) in device.outbound.transmits() {
        sizes.push((run.size, bytes.len()));
    }
    let wire = |payload: usize| payload + 28 + OVERHEAD;
    assert_eq!(sizes, [(wire(100), 2 * wire(100) + wire(60)), (wire(100), wire(100))]);
}

#[tokio::test]
async fn every_exchange_leaves_a_record() {
    let (mut device, mut gateway) = pair();
    let (runs, _) = device.sends(&udp("100.64.0.2:5000", "100.64.0.1:53", b"again"));
    settle(&mut device, &mut gateway, runs);
    gateway.core.close();
    let record = gateway.next_record().await;
    assert_eq!((record.device, record.protocol), (device.key, Protocol::Udp));
    assert_eq!(record.source, "100.64.0.2:5000".parse().unwrap());
    assert_eq!(record.destination, "100.64.0.1:53".parse().unwrap());
    assert_eq!((record.rx_packets, record.rx_bytes, record.tx_packets), (2, 66, 0));
}

#[test]
fn garbage_is_dropped() {
    let (device, mut gateway) = pair();
    for size in [0, 1, 4, 31, 32, 92, 148, 1500] {
        for kind in 0..6_u8 {
            let mut bytes = vec![0xa5; size];
            bytes.iter_mut().zip([kind, 0, 0, 0]).for_each(|(to, from)| *to = from);
            assert!(gateway.receives(device.at, &Run { bytes, size: size.max(1) }).is_empty(), "{kind} of {size}");
        }
    }
    assert!(gateway.delivered.is_empty());
    for packet in [&[][..], &[0x45], &[0x60; 39], &[0; 100]] {
        assert!(gateway.sends(packet).0.is_empty());
    }
}
