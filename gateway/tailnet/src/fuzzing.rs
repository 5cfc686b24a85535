//! The fuzzer's door to the code that reads bytes of packets, which the crate keeps to itself otherwise.

use crate::offload::{Merger, Segments, VIRTIO_HEADER, VirtioHeader};
use crate::packet::{Outline, be16};

/// Cuts up what the device is said to have given: a virtio header, then a packet. Every piece reads as a packet.
pub fn cut(bytes: &[u8]) {
    let Some(virtio) = VirtioHeader::read(bytes) else { return };
    let mut packet = bytes.get(VIRTIO_HEADER..).unwrap_or_default().to_vec();
    let Some(mut segments) = Segments::new(virtio, &mut packet) else { return };
    let (count, _) = segments.wire();
    let mut found = 0;
    while let Some(segment) = segments.next() {
        let _ = Outline::read(segment);
        found += 1;
    }
    assert!(found <= count, "{found} packets where {count} were announced");
}

/// Joins the packets in `bytes`, each with its length before it, as one batch of one peer; what was joined can be cut again
/// into as many packets of as many bytes.
pub fn join(mut bytes: &[u8]) {
    let (mut arena, mut merger) = (Vec::new(), Merger::default());
    let mut places = Vec::new();
    while let Some(length) = be16(bytes, 0).map(usize::from) {
        let Some((packet, rest)) = bytes.get(2..).and_then(|rest| rest.split_at_checked(length)) else { break };
        places.push(arena.len()..arena.len() + length);
        arena.extend_from_slice(packet);
        bytes = rest;
    }
    for place in places {
        merger.push(&arena, place, 0);
    }
    merger.finish(&mut arena);
    for joined in merger.joined().iter().filter(|joined| joined.packets > 1) {
        let pieces = joined.pieces.iter().filter_map(|piece| arena.get(piece.clone()));
        let mut packet = pieces.flatten().copied().collect::<Vec<u8>>();
        let segments = Segments::new(joined.virtio, &mut packet).map(|segments| segments.wire());
        let expected = u32::try_from(joined.wire_bytes).map(|_| (joined.packets, joined.wire_bytes));
        assert_eq!(segments, expected.ok(), "what was joined is not what is cut");
    }
}
