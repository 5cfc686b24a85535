//! Two stacks joined by a path of our making: one is the gateway, one a device.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::engine::Next;
use crate::offload::{Segments, VirtioHeader};
use crate::packet::{ACK, Outline, RST, SYN, be32};

/// A gateway and a device, and what was opened at the gateway.
struct World {
    gateway: Arc<Stack>,
    device: Arc<Stack>,
    opened: mpsc::Receiver<Opened>,
    _opened_there: mpsc::Receiver<Opened>,
    _tasks: JoinSet<()>,
}

impl World {
    /// A path that loses one packet in `loss` (never: 0) each way.
    fn new(loss: u64) -> Self {
        let (gateway, opened) = Stack::new(Here {
            own: ("100.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()),
            service: Some(("100.100.0.0/16".parse().unwrap(), "fd00:0:0:1::/64".parse().unwrap())),
            ports: vec![22],
            mtu: 1280,
        });
        let own = ("100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap());
        let (device, opened_there) = Stack::new(Here { own, service: None, ports: vec![8080], mtu: 1280 });
        let mut tasks = JoinSet::new();
        for (from, to) in [(&gateway, &device), (&device, &gateway)] {
            tasks.spawn(carry(Arc::clone(from), Arc::clone(to), loss));
            let clock = Arc::clone(from);
            tasks.spawn(async move { clock.keep_time().await });
        }
        Self { gateway, device, opened, _opened_there: opened_there, _tasks: tasks }
    }

    /// The device connects: both ends.
    async fn connect(&mut self, to: &str) -> (StackStream, StackStream) {
        let device = self.device.dial(to.parse().unwrap()).await.unwrap();
        let (gateway, from, called) = self.gateway.stream(self.opened.recv().await.unwrap());
        assert_eq!((from.ip(), called), (self.device.gateway(called.is_ipv4()), to.parse().unwrap()));
        (device, gateway)
    }

    /// What the gateway answers to one packet of the device.
    async fn answer(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        give(&self.gateway, packet);
        let mut answers = Vec::new();
        while let Some(mut frame) = self.gateway.egress().pop() {
            answers.extend(cut(frame.virtio, &mut frame.packet));
        }
        answers
    }

    /// The same without a path to the device.
    fn alone() -> Self {
        let mut world = Self::new(0);
        world._tasks = JoinSet::new();
        world
    }
}

/// Carries packets as the engine would: cut into what fits the tunnel.
async fn carry(from: Arc<Stack>, to: Arc<Stack>, loss: u64) {
    let mut count = 0;
    loop {
        let mut packets = Vec::new();
        from.read(&mut |virtio, packet| {
            packets.extend(cut(virtio, packet));
            if packets.len() > 32 { Next::Stop } else { Next::More }
        })
        .await;
        for packet in packets {
            assert!(packet.len() <= 1280, "{} bytes do not fit the tunnel", packet.len());
            count += 1;
            if loss == 0 || count % loss != 0 {
                give(&to, &packet);
            }
        }
        tokio::task::yield_now().await;
    }
}

fn cut(virtio: VirtioHeader, packet: &mut [u8]) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(virtio, packet).unwrap();
    let mut packets = Vec::new();
    while let Some(segment) = segments.next() {
        packets.push(segment.to_vec());
    }
    packets
}

fn give(to: &Stack, packet: &[u8]) {
    to.take(VirtioHeader::default(), packet, std::slice::from_ref(&(0..packet.len())));
}

async fn echo_megabytes(world: &mut World, to: &str, bytes: usize) {
    let (device, gateway) = world.connect(to).await;
    let pattern: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let (mut reader, mut writer) = tokio::io::split(device);
    let sent = pattern.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let echoing = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(gateway);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut heard = Vec::new();
    reader.read_to_end(&mut heard).await.unwrap();
    assert!(heard == pattern, "{} bytes of {} came back", heard.len(), pattern.len());
    sending.await.unwrap();
    echoing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn carries_bytes_both_ways_to_any_address_and_forgets_the_connection() {
    let mut world = World::new(0);
    for to in ["100.100.7.7:22", "[fd00:0:0:1::7]:22", "100.64.0.1:22"] {
        tokio::time::timeout(PATIENCE, echo_megabytes(&mut world, to, 5_000_000)).await.expect(to);
    }
    let forgotten = async {
        while world.gateway.connections() + world.device.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.expect("both sides forget what has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_costs_time_and_no_bytes() {
    let mut world = World::new(97);
    tokio::time::timeout(PATIENCE, echo_megabytes(&mut world, "100.100.7.7:22", 300_000)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_dials_back_and_is_refused_where_nobody_listens() {
    let world = World::new(0);
    let error = world.gateway.dial("100.64.0.2:9".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    world.gateway.dial("[fd00::2]:8080".parse().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_stops_its_writer_and_nobody_else() {
    let mut world = World::new(0);
    let (stalled, _silent) = world.connect("100.100.0.1:22").await;
    let writing = tokio::spawn(async move {
        let mut stalled = stalled;
        let mut written = 0;
        while let Ok(Ok(bytes)) = tokio::time::timeout(Duration::from_millis(500), stalled.write(&[7; 64 * 1024])).await
        {
            written += bytes;
        }
        (written, stalled)
    });
    tokio::time::timeout(PATIENCE, echo_megabytes(&mut world, "100.100.0.2:22", 2_000_000)).await.unwrap();
    let (written, _stalled) = writing.await.unwrap();
    assert!(written <= 2 * live::BUFFER, "{written} bytes were taken for a reader that reads nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_cut_off_breaks_its_streams_and_unread_bytes_break_a_connection() {
    let mut world = World::new(0);
    let (mut device, mut gateway) = world.connect("100.100.0.1:22").await;
    let reading = async { gateway.read(&mut [0; 1]).await.unwrap_err().kind() };
    let cutting = async { world.gateway.cut(Some(IpAddr::from([100, 64, 0, 2]))) };
    let (kind, ()) = tokio::join!(reading, cutting);
    assert_eq!(kind, std::io::ErrorKind::ConnectionAborted);
    assert_eq!(device.read(&mut [0; 1]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (mut device, mut gateway) = world.connect("100.100.0.1:22").await;
    device.write_all(b"read, never read").await.unwrap();
    gateway.read_exact(&mut [0; 4]).await.unwrap();
    drop(gateway);
    assert_eq!(device.read(&mut [0; 1]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn closed_ports_other_protocols_and_pings_are_answered_and_other_devices_are_out_of_reach() {
    let world = World::alone();
    let kind = |answers: Vec<Vec<u8>>| {
        let [answer] = answers.as_slice() else { panic!("{answers:?}") };
        let outline = Outline::read(answer).unwrap();
        assert!(crate::offload::is_intact(answer, &outline), "{answer:?}");
        (outline.protocol, answer[outline.payload_at], outline.tcp_flags(answer))
    };
    for (device, target, icmp, unreachable) in
        [("100.64.0.2:4000", "100.100.0.1", 1, 3), ("[fd00::2]:4000", "fd00:0:0:1::1", 58, 1)]
    {
        let device: SocketAddr = device.parse().unwrap();
        let target = |port| SocketAddr::new(target.parse().unwrap(), port);
        let (_, _, flags) = kind(world.answer(&segment(device, target(23), SYN)).await);
        assert_eq!(flags, Some(RST | ACK), "a closed port");
        let (_, _, flags) = kind(world.answer(&segment(device, target(22), ACK)).await);
        assert_eq!(flags, Some(RST), "no connection");
        assert!(world.answer(&segment(device, target(23), RST)).await.is_empty(), "a reset is not answered");
        let datagram = answers::datagram(device, target(53), b"hello").unwrap();
        assert_eq!(kind(world.answer(&datagram).await), (icmp, unreachable, None), "a closed UDP port");
        let ping = if device.is_ipv4() { [8, 0, 0, 0, 0, 1, 0, 1] } else { [128, 0, 0, 0, 0, 1, 0, 1] };
        let ping = answers::packet_of(device.ip(), target(0).ip(), icmp, &ping).unwrap();
        assert_eq!(kind(world.answer(&ping).await).1, if device.is_ipv4() { 0 } else { 129 }, "a ping");
        let (_, _, flags) = kind(world.answer(&segment(device, target(22), SYN)).await);
        assert_eq!(flags, Some(SYN | ACK), "an open port");
        let other = if device.is_ipv4() { "100.64.0.3" } else { "fd00::3" };
        let other = SocketAddr::new(other.parse().unwrap(), 22);
        assert!(world.answer(&segment(device, other, SYN)).await.is_empty(), "another device");
    }
}

#[tokio::test]
async fn damaged_and_forged_packets_are_dropped() {
    let world = World::alone();
    let (device, target) = ("100.64.0.2:4000".parse().unwrap(), "100.100.0.1:22".parse().unwrap());
    let good = segment(device, target, SYN);
    for (name, at, value) in [
        ("a wrong checksum", 36, 0xff),
        ("a later fragment", 7, 1),
        ("a first fragment", 6, 0x20),
        ("longer than its bytes", 3, 200),
        ("a header of 16 bytes", 0, 0x44),
        ("version 9", 0, 0x95),
    ] {
        let mut packet = good.clone();
        packet[at] = value;
        assert!(world.answer(&packet).await.is_empty(), "{name}");
    }
    assert_eq!(world.gateway.connections(), 0);
    assert_eq!(world.answer(&good).await.len(), 1);
}

#[tokio::test]
async fn extension_headers_are_walked_past_and_source_routes_refused() {
    let world = World::alone();
    let plain = segment("[fd00::2]:4000".parse().unwrap(), "[fd00:0:0:1::1]:22".parse().unwrap(), SYN);
    for (name, kind, header, answered) in [
        ("destination options", 60, [6, 0, 1, 4, 0, 0, 0, 0], true),
        ("hop-by-hop options", 0, [6, 0, 1, 4, 0, 0, 0, 0], true),
        ("an atomic fragment", 44, [6, 0, 0, 0, 0, 0, 0, 1], true),
        ("a source route", 43, [6, 0, 0, 1, 0, 0, 0, 0], false),
    ] {
        let mut packet = plain[..40].to_vec();
        packet[6] = kind;
        packet[5] += 8;
        packet.extend(header);
        packet.extend(&plain[40..]);
        assert_eq!(world.answer(&packet).await.len(), usize::from(answered), "{name}");
        world.gateway.cut(None);
        while world.gateway.egress().pop().is_some() {}
    }
}

#[tokio::test]
async fn a_flood_of_half_open_connections_is_bounded_and_leaves_room_for_others() {
    let world = World::alone();
    let target = "100.100.0.1:22".parse().unwrap();
    for port in 1000..3000 {
        world.answer(&segment(SocketAddr::from(([100, 64, 0, 2], port)), target, SYN)).await;
    }
    assert_eq!(world.gateway.connections(), backlog::PER_DEVICE);
    let other = world.answer(&segment("100.64.0.9:1000".parse().unwrap(), target, SYN)).await;
    assert_eq!(other.len(), 1, "another device is answered");
}

#[tokio::test]
async fn what_is_sent_beyond_the_window_is_dropped() {
    let world = World::alone();
    let (device, target): (SocketAddr, SocketAddr) =
        ("100.64.0.2:4000".parse().unwrap(), "100.100.0.1:22".parse().unwrap());
    let first = connected(&world, device, target).await;
    let send = |at: u32| tcp(device, target, (10_u32.wrapping_add(at), first), ACK, &[7; 1000]);
    let room = u32::try_from(live::BUFFER).unwrap();
    let acknowledged = |answers: Vec<Vec<u8>>| answers.last().and_then(|answer| be32(answer, 20 + 8));
    assert_eq!(acknowledged(world.answer(&send(0)).await), None, "the answer may wait");
    assert_eq!(acknowledged(world.answer(&send(room - 998)).await), None, "too many, and no answer");
    assert_eq!(acknowledged(world.answer(&send(room - 1000)).await), Some(1010), "just within, out of order");
}

proptest::proptest! {
    #[test]
    fn no_segments_bring_the_stack_down(
        segments in proptest::collection::vec(
            (-3_000_i32..300_000, -70_000_i32..70_000, proptest::num::u8::ANY, proptest::collection::vec(0_u8.., 0..100)),
            1..60,
        ),
        raw in proptest::collection::vec((12_usize..52, 0_u8..), 60),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let world = World::alone();
            let (device, target) = ("100.64.0.2:4000".parse().unwrap(), "100.100.0.1:22".parse().unwrap());
            let first = connected(&world, device, target).await;
            for ((sequence, acknowledged, flags, data), (at, value)) in segments.into_iter().zip(raw) {
                let numbers = (10_u32.wrapping_add_signed(sequence), first.wrapping_add_signed(acknowledged));
                let mut header = header(device, target, numbers, flags);
                header.extend(data);
                // The length of the header, the window, and options, as they come.
                if let Some(byte) = header.get_mut(at) {
                    *byte = value;
                }
                let packet = answers::packet_of(device.ip(), target.ip(), 6, &header).unwrap();
                assert!(world.answer(&packet).await.len() <= 1000, "answers");
                assert!(world.gateway.connections() <= 1);
            }
            world.gateway.cut(None);
            assert_eq!(world.gateway.connections(), 0, "it can still be ended");
        });
    }
}

/// Has the device begin a connection; our first sequence number of it, past the SYN.
async fn connected(world: &World, device: SocketAddr, target: SocketAddr) -> u32 {
    let answers = world.answer(&segment(device, target, SYN)).await;
    let first = be32(answers.first().unwrap(), 20 + 4).unwrap().wrapping_add(1);
    let none = world.answer(&tcp(device, target, (10, first), ACK, &[])).await;
    assert!(none.is_empty());
    first
}

/// A segment of a connection, with the sequence number and the acknowledged one.
fn tcp(from: SocketAddr, to: SocketAddr, numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = header(from, to, numbers, flags);
    segment.extend_from_slice(data);
    answers::packet_of(from.ip(), to.ip(), 6, &segment).unwrap()
}

fn header(from: SocketAddr, to: SocketAddr, (sequence, acknowledged): (u32, u32), flags: u8) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let numbers = [sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat();
    [ports, numbers, vec![0x50, flags, 0xff, 0xff, 0, 0, 0, 0]].concat()
}

/// A segment that begins, ends or answers, without data.
fn segment(from: SocketAddr, to: SocketAddr, flags: u8) -> Vec<u8> {
    tcp(from, to, (9, 0), flags, &[])
}

const PATIENCE: Duration = Duration::from_secs(60);
