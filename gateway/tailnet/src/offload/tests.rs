//! Cutting and joining are each other's inverse, and every checksum is right.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::checksum::Sum;
use super::super::virtio::{GSO_TCP4, GSO_TCP6, GSO_UDP, NEEDS_CHECKSUM};
use super::super::{Segments, VirtioHeader};
use super::{Joined, MAX_PIECES, Merger};
use crate::packet::{ACK, FIN, Outline, PSH, SYN, TCP, UDP};

/// A TCP packet as the kernel hands it over: any length, its checksum left to us.
fn large(v6: bool, sequence: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut tcp = Vec::from([0x9c, 0x40, 0, 22]);
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(7_u32.to_be_bytes());
    tcp.extend([u8::try_from((20 + options.len()) / 4 * 16).unwrap(), flags, 1, 0, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    ip(v6, TCP, &tcp)
}

fn ip(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = if v6 {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
        header.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
        header.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
        header
    } else {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut header = vec![0x45, 0, length[0], length[1], 0, 7, 0x40, 0, 64, protocol, 0, 0];
        header.extend(Ipv4Addr::new(100, 64, 0, 2).octets());
        header.extend(Ipv4Addr::new(100, 64, 0, 1).octets());
        super::renew_ipv4(&mut header);
        header
    };
    packet.extend(payload);
    packet
}

fn cut(virtio: VirtioHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut packet = packet.to_vec();
    let mut segments = Segments::new(virtio, &mut packet).unwrap();
    let wire = segments.wire();
    let mut all = Vec::new();
    while let Some(segment) = segments.next() {
        all.push(segment.to_vec());
    }
    assert_eq!(wire, (u32::try_from(all.len()).unwrap(), all.concat().len()));
    all
}

fn tcp_gso(v6: bool, size: u16) -> VirtioHeader {
    let gso_type = if v6 { GSO_TCP6 } else { GSO_TCP4 };
    // A header length of zero, as some kernels give it: TCP's own counts.
    VirtioHeader { flags: NEEDS_CHECKSUM, gso_type, gso_size: size, checksum_offset: 16, ..VirtioHeader::default() }
}

/// The slow, plain check of every checksum in a packet.
fn assert_intact(packet: &[u8]) {
    let outline = Outline::read(packet).unwrap();
    assert_eq!(outline.length, packet.len());
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    if packet[0] >> 4 == 4 {
        assert_eq!(Sum::default().add(&packet[..outline.payload_at]).fold(), [0xff, 0xff], "IPv4 checksum");
    }
    let payload = &packet[outline.payload_at..];
    let sum = Sum::default().add_pseudo(addresses, outline.protocol, payload.len()).add(payload);
    assert_eq!(sum.fold(), [0xff, 0xff], "transport checksum");
}

fn merge(packets: &[Vec<u8>]) -> (Vec<u8>, Merger) {
    let (mut arena, mut merger) = (Vec::new(), Merger::default());
    let mut ranges = Vec::new();
    for packet in packets {
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend(packet);
        // What lies between two packets does not matter.
        arena.extend([0xee; 16]);
    }
    ranges.into_iter().for_each(|range| merger.push(&arena, range, 0));
    merger.finish(&mut arena);
    (arena, merger)
}

fn gather(arena: &[u8], joined: &Joined) -> Vec<u8> {
    joined.pieces.iter().flat_map(|piece| arena[piece.clone()].iter().copied()).collect()
}

fn segments(v6: bool, sequence: u32, payload: &[u8]) -> Vec<Vec<u8>> {
    cut(tcp_gso(v6, 100), &large(v6, sequence, ACK, &[], payload))
}

proptest! {
    #[test]
    fn cutting_what_was_joined_gives_it_back(
        v6: bool, sequence: u32, push: bool, size in 200u16..1400, words in 0usize..10,
        payload in prop::collection::vec(any::<u8>(), 1..14_000),
    ) {
        let flags = if push { ACK | PSH } else { ACK };
        let packet = large(v6, sequence, flags, &[1; 40][..words * 4], &payload);
        let pieces = cut(tcp_gso(v6, size), &packet);
        prop_assert_eq!(pieces.len(), payload.len().div_ceil(usize::from(size)));
        pieces.iter().for_each(|piece| assert_intact(piece));

        let (arena, merger) = merge(&pieces);
        prop_assert_eq!(merger.joined().len(), pieces.len().div_ceil(MAX_PIECES));
        prop_assume!(merger.joined().len() == 1);
        let joined = &merger.joined()[0];
        let whole = gather(&arena, joined);
        prop_assert_eq!(joined.length, whole.len());
        prop_assert_eq!(joined.wire_bytes, pieces.iter().map(Vec::len).sum::<usize>());
        // Everything but TCP's checksum, which the device's virtio header asks the kernel to finish.
        let at = packet.len() - payload.len() - words * 4 - 4;
        if pieces.len() > 1 {
            prop_assert_eq!(&whole[..at], &packet[..at]);
            prop_assert_eq!(&whole[at + 2..], &packet[at + 2..]);
            prop_assert_eq!(joined.virtio.gso_size, size);
            prop_assert_eq!(cut(joined.virtio, &whole), pieces);
        } else {
            prop_assert_eq!(&whole, &pieces[0]);
            prop_assert_eq!(joined.virtio, VirtioHeader::default());
        }
    }

    #[test]
    fn datagrams_are_cut_with_lengths_and_checksums(
        v6: bool, size in 1u16..1400, payload in prop::collection::vec(any::<u8>(), 1..9_000),
    ) {
        let length = u16::try_from(payload.len() + 8).unwrap().to_be_bytes();
        let datagram: Vec<u8> = [0, 53, 0x9c, 0x40, length[0], length[1], 0, 0].into_iter().chain(payload.clone()).collect();
        let virtio = VirtioHeader { gso_type: GSO_UDP, gso_size: size, ..VirtioHeader::default() };
        let pieces = cut(virtio, &ip(v6, UDP, &datagram));
        let header = if v6 { 48 } else { 28 };
        pieces.iter().for_each(|piece| assert_intact(piece));
        prop_assert_eq!(pieces.iter().flat_map(|piece| piece[header..].to_vec()).collect::<Vec<u8>>(), payload);
    }

    #[test]
    fn any_header_on_any_packet_is_cut_or_refused(
        flags in 0u8..4, gso_type in prop::sample::select(vec![0u8, 1, 3, 4, 5, 0x81]),
        words: [u16; 4], mut packet in prop::collection::vec(any::<u8>(), 0..300), version in 4u8..7,
    ) {
        if let Some(first) = packet.first_mut() {
            *first = version << 4 | 5;
        }
        let [header_length, gso_size, checksum_start, checksum_offset] = words;
        let virtio = VirtioHeader { flags, gso_type, header_length, gso_size, checksum_start, checksum_offset };
        let length = packet.len();
        if let Some(mut segments) = Segments::new(virtio, &mut packet) {
            let mut count = 0;
            while segments.next().is_some() {
                count += 1;
            }
            prop_assert!(count <= length + 1);
        }
    }

    #[test]
    fn any_packets_are_joined_without_losing_a_byte_of_payload(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..20), tame: bool,
    ) {
        let packets: Vec<Vec<u8>> = packets.into_iter().map(|mut packet| {
            if tame && packet.len() > 40 {
                packet[0] = 0x45;
                packet[9] = TCP;
            }
            packet
        }).collect();
        let (_, merger) = merge(&packets);
        let bytes: usize = merger.joined().iter().map(|joined| joined.wire_bytes).sum();
        prop_assert_eq!(bytes, packets.iter().map(Vec::len).sum::<usize>());
    }
}

#[test]
fn a_push_ends_a_joined_packet() {
    let mut pieces = segments(false, 1, &[1; 300]);
    pieces[1] = cut(
        VirtioHeader {
            gso_size: 0,
            gso_type: 0,
            flags: NEEDS_CHECKSUM,
            checksum_start: 20,
            checksum_offset: 16,
            header_length: 0,
        },
        &{
            let mut packet = large(false, 101, ACK | PSH, &[], &[1; 100]);
            let sum = Sum::default().add_pseudo(&packet[12..20], TCP, 120).fold();
            packet[36..38].copy_from_slice(&sum);
            packet
        },
    )
    .remove(0);
    assert_intact(&pieces[1]);
    let (arena, merger) = merge(&pieces);
    let packets: Vec<u32> = merger.joined().iter().map(|joined| joined.packets).collect();
    assert_eq!(packets, [2, 1]);
    assert_eq!(gather(&arena, &merger.joined()[0])[33], ACK | PSH);
}

#[test]
fn does_not_join_what_differs() {
    let plain = segments(true, 1, &[1; 200]);
    let damaged = {
        let mut pieces = plain.clone();
        *pieces[1].last_mut().unwrap() ^= 1;
        pieces
    };
    let other = |change: fn(&mut Vec<u8>)| {
        let mut packet = large(true, 101, ACK, &[], &[1; 100]);
        change(&mut packet);
        vec![plain[0].clone(), cut(tcp_gso(true, 100), &packet).remove(0)]
    };
    for (name, packets) in [
        ("a damaged segment", damaged),
        ("a gap", vec![plain[0].clone(), segments(true, 102, &[1; 100]).remove(0)]),
        (
            "a longer segment",
            vec![plain[0].clone(), cut(tcp_gso(true, 101), &large(true, 101, ACK, &[], &[1; 101])).remove(0)],
        ),
        ("another port", other(|packet| packet[41] ^= 1)),
        ("another acknowledgement", other(|packet| packet[51] ^= 1)),
        ("another window", other(|packet| packet[54] ^= 1)),
        ("another hop limit", other(|packet| packet[7] = 63)),
        ("a congestion mark", other(|packet| packet[1] = 0x30)),
        ("a FIN", other(|packet| packet[53] |= FIN)),
        ("a SYN", other(|packet| packet[53] |= SYN)),
    ] {
        assert_eq!(merge(&packets).1.joined().len(), 2, "{name}");
    }
    assert_eq!(merge(&plain).1.joined().len(), 1);
}

#[test]
fn interleaved_connections_are_joined_apart_and_in_order() {
    let one = segments(false, 1, &[1; 300]);
    let other: Vec<_> = segments(true, 9, &[2; 300]);
    let mixed: Vec<_> = one.iter().zip(&other).flat_map(|(one, other)| [one.clone(), other.clone()]).collect();
    let (arena, merger) = merge(&mixed);
    assert_eq!(merger.joined().iter().map(|joined| joined.packets).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(gather(&arena, &merger.joined()[0])[40..], [1; 300]);
    assert_eq!(gather(&arena, &merger.joined()[1])[60..], [2; 300]);
}

#[test]
fn does_not_join_packets_of_different_peers() {
    let pieces = segments(false, 1, &[1; 200]);
    let mut merger = Merger::default();
    let arena = pieces.concat();
    merger.push(&arena, 0..140, 1);
    merger.push(&arena, 140..280, 2);
    assert_eq!(merger.joined().len(), 2);
}

#[test]
fn a_joined_packet_has_no_more_pieces_than_one_write_takes() {
    let (_, merger) = merge(&cut(tcp_gso(false, 1), &large(false, 1, ACK, &[], &[7; 200])));
    assert!(merger.joined().iter().all(|joined| joined.pieces.len() <= MAX_PIECES));
    assert_eq!(merger.joined().len(), 200_usize.div_ceil(MAX_PIECES));
}

#[test]
fn nothing_overtakes_an_acknowledgement_of_its_connection() {
    let data = segments(false, 1, &[1; 200]);
    let bare = large(false, 101, ACK, &[], &[]);
    let (_, merger) = merge(&[data[0].clone(), bare, data[1].clone()]);
    assert_eq!(merger.joined().len(), 3);
}
