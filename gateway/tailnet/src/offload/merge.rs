//! Many small packets into one: what GRO is to a network card.
//!
//! Consecutive TCP segments of a connection become one packet with a virtio header, the way the kernel itself joins
//! them (`net/ipv4/tcp_offload.c`): same headers but for length, checksum and sequence number; only the last may be
//! shorter, and a PSH ends it. Nothing is copied: a joined packet is a list of pieces of the arena that the packets
//! were decrypted into.
//!
//! INVARIANT: a segment's own checksum was verified before it is joined, for the joined packet's is computed by the
//! kernel and would hide damage.

use std::ops::Range;

use super::checksum::{Sum, renew_ipv4};
use super::split::TCP_CHECKSUM;
use super::virtio::{GSO_TCP4, GSO_TCP6, NEEDS_CHECKSUM, VirtioHeader};
use crate::packet::{ACK, IPV4_HEADER, IPV6_HEADER, PSH, TCP, TCP_FLAGS, TCP_HEADER, be16, be32, put};

/// Joins the packets of one batch.
#[derive(Default)]
pub(crate) struct Merger {
    joined: Vec<Joined>,
    /// How many of `joined` are of this batch; the rest keep their memory for the next.
    used: usize,
}

/// A packet for the device: pieces of the arena, the first with the headers.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) pieces: Vec<Range<usize>>,
    pub(crate) virtio: VirtioHeader,
    /// Whose packets these are: the caller's number for a peer.
    pub(crate) owner: usize,
    /// How many packets of the tunnel it is made of.
    pub(crate) packets: u32,
    /// Its length in bytes, headers included once.
    pub(crate) length: usize,
    /// Bytes as they came through the tunnel, headers included each time.
    pub(crate) wire_bytes: usize,
    /// `None`: nothing can be joined to it.
    shape: Option<Shape>,
    /// Whether the first segment's checksum has been verified.
    verified: bool,
    open: bool,
}

/// What a segment looks like, if it is of the plain kind that can be joined.
#[derive(Clone, Copy, Debug)]
struct Shape {
    ip_length: usize,
    header_length: usize,
    payload: usize,
    sequence: u32,
    push: bool,
}

impl Merger {
    /// Forgets the last batch.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// The batch, in an order that keeps every connection's own.
    pub(crate) fn joined(&self) -> &[Joined] {
        self.joined.get(..self.used).unwrap_or_default()
    }

    /// Takes the packet at `at` of the arena, which `owner` sent.
    pub(crate) fn push(&mut self, arena: &[u8], at: Range<usize>, owner: usize) {
        let Some(packet) = arena.get(at.clone()) else { return };
        let shape = Shape::read(packet);
        if let Some(shape) = &shape
            && let Some(last) = self.candidate(arena, packet, owner)
        {
            if last.takes(arena, packet, shape) {
                last.append(at, shape);
                return;
            }
            last.open = false;
        } else if shape.is_none()
            && let Some(last) = self.candidate(arena, packet, owner)
        {
            // An acknowledgement or a reset of the same connection: what comes after it must not overtake it.
            last.open = false;
        }
        self.begin(at, owner, shape);
    }

    /// Writes the headers of what was joined. Call once a batch, before [`Merger::joined`].
    pub(crate) fn finish(&mut self, arena: &mut [u8]) {
        for joined in self.joined.iter_mut().take(self.used).filter(|joined| joined.packets > 1) {
            // Nothing to do where the header is missing: `push` read it from there.
            let _ = joined.write_header(arena);
        }
    }

    /// The open packet of the same connection, among the latest few.
    fn candidate(&mut self, arena: &[u8], packet: &[u8], owner: usize) -> Option<&mut Joined> {
        let ends = ends(packet)?;
        self.joined.iter_mut().take(self.used).rev().take(LOOK_BACK).find(|joined| {
            let head = joined.pieces.first().and_then(|head| arena.get(head.clone()));
            joined.open && joined.owner == owner && head.and_then(self::ends) == Some(ends)
        })
    }

    fn begin(&mut self, at: Range<usize>, owner: usize, shape: Option<Shape>) {
        if self.used == self.joined.len() {
            self.joined.push(Joined::default());
        }
        let Some(joined) = self.joined.get_mut(self.used) else { return };
        self.used += 1;
        let length = at.len();
        joined.pieces.clear();
        joined.pieces.push(at);
        joined.owner = owner;
        joined.virtio = VirtioHeader::default();
        joined.packets = 1;
        joined.length = length;
        joined.wire_bytes = length;
        joined.open = shape.is_some_and(|shape| !shape.push);
        joined.shape = shape;
        joined.verified = false;
    }
}

impl Joined {
    /// Whether the segment continues this packet.
    fn takes(&mut self, arena: &[u8], packet: &[u8], shape: &Shape) -> bool {
        let (Some(own), Some(head)) = (self.shape, self.pieces.first().and_then(|head| arena.get(head.clone()))) else {
            return false;
        };
        let joined = u32::try_from(self.length - own.header_length).unwrap_or(u32::MAX);
        let fits = shape.header_length == own.header_length
            && shape.sequence == own.sequence.wrapping_add(joined)
            && shape.payload <= own.payload
            && self.length + shape.payload <= MAX_PACKET
            && same_headers(head, packet, &own);
        if !fits || !is_intact(packet, shape) {
            return false;
        }
        self.verified = self.verified || is_intact(head, &own);
        self.verified
    }

    fn append(&mut self, at: Range<usize>, shape: &Shape) {
        self.packets += 1;
        self.length += shape.payload;
        self.wire_bytes += at.len();
        self.pieces.push(at.start + shape.header_length..at.end);
        if let Some(own) = &mut self.shape {
            self.open = shape.payload == own.payload && !shape.push && self.pieces.len() < MAX_PIECES;
            own.push |= shape.push;
        }
    }

    fn write_header(&mut self, arena: &mut [u8]) -> Option<()> {
        let shape = self.shape?;
        let head = arena.get_mut(self.pieces.first()?.clone())?;
        let (ip, transport) = head.split_at_mut_checked(shape.ip_length)?;
        let addresses = if shape.ip_length == IPV4_HEADER {
            put(ip, 2, &u16::try_from(self.length).ok()?.to_be_bytes());
            renew_ipv4(ip);
            12..20
        } else {
            put(ip, 4, &u16::try_from(self.length - IPV6_HEADER).ok()?.to_be_bytes());
            8..40
        };
        if shape.push {
            *transport.get_mut(TCP_FLAGS)? |= PSH;
        }
        let pseudo = Sum::default().add_pseudo(ip.get(addresses)?, TCP, self.length - shape.ip_length);
        put(transport, TCP_CHECKSUM, &pseudo.fold());
        self.virtio = VirtioHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: if shape.ip_length == IPV4_HEADER { GSO_TCP4 } else { GSO_TCP6 },
            header_length: u16::try_from(shape.header_length).ok()?,
            gso_size: u16::try_from(shape.payload).ok()?,
            checksum_start: u16::try_from(shape.ip_length).ok()?,
            checksum_offset: 16,
        };
        Some(())
    }
}

impl Shape {
    /// The shape of a data segment without IP options, fragments or unusual flags.
    fn read(packet: &[u8]) -> Option<Self> {
        let ip_length = match packet.first()? {
            // No options; neither an offset nor more fragments to come.
            0x45 if *packet.get(9)? == TCP && be16(packet, 6)? & 0x3fff == 0 => IPV4_HEADER,
            first if first >> 4 == 6 && *packet.get(6)? == TCP => IPV6_HEADER,
            _ => return None,
        };
        let header_length = ip_length + usize::from(packet.get(ip_length + 12)? >> 4) * 4;
        let flags = *packet.get(ip_length + TCP_FLAGS)?;
        let payload = packet.len().checked_sub(header_length)?;
        let plain = flags & !PSH == ACK && header_length >= ip_length + TCP_HEADER && payload > 0;
        let sequence = be32(packet, ip_length + 4)?;
        plain.then_some(Self { ip_length, header_length, payload, sequence, push: flags & PSH != 0 })
    }
}

/// Addresses and ports as they stand in the packet, of TCP without IP options.
fn ends(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    match packet.first()? {
        0x45 if *packet.get(9)? == TCP => Some((packet.get(12..20)?, packet.get(20..24)?)),
        first if first >> 4 == 6 && *packet.get(6)? == TCP => Some((packet.get(8..40)?, packet.get(40..44)?)),
        _ => None,
    }
}

/// Whether two segments of a connection differ only in what joining rewrites: lengths, IPv4's id and checksum, TCP's
/// sequence number, PSH and checksum.
fn same_headers(head: &[u8], packet: &[u8], shape: &Shape) -> bool {
    let same = |range: Range<usize>| head.get(range.clone()) == packet.get(range);
    let ip = if shape.ip_length == IPV4_HEADER {
        // Version, type of service; fragment field, time to live, protocol.
        same(0..2) && same(6..10)
    } else {
        same(0..4) && same(6..8)
    };
    let tcp = shape.ip_length;
    // Acknowledgement number and data offset; window; urgent pointer and options.
    ip && same(tcp + 8..tcp + 13) && same(tcp + 14..tcp + 16) && same(tcp + 18..shape.header_length)
}

fn is_intact(packet: &[u8], shape: &Shape) -> bool {
    let addresses = if shape.ip_length == IPV4_HEADER { 12..20 } else { 8..40 };
    let (Some(ip), Some(addresses), Some(segment)) =
        (packet.get(..shape.ip_length), packet.get(addresses), packet.get(shape.ip_length..))
    else {
        return false;
    };
    // The header of IPv6 has no checksum of its own.
    let header = shape.ip_length == IPV6_HEADER || Sum::default().add(ip).is_intact();
    header && Sum::default().add_pseudo(addresses, TCP, segment.len()).add(segment).is_intact()
}

/// Open packets that a new one is compared with: more connections than this in one batch are joined less well.
const LOOK_BACK: usize = 8;
/// Pieces of one joined packet: 64 kB of segments of 1,208 bytes are 55.
pub(crate) const MAX_PIECES: usize = 60;
/// The longest packet that IPv4 can describe; for IPv6 it is the same, to keep one number.
const MAX_PACKET: usize = 65535;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
