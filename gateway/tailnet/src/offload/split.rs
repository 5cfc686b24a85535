//! One large packet into many: TCP segmentation, and checksums left to the hardware.
//!
//! It works in place. A segment's headers are written right before its payload, over the tail of the segment before,
//! which by then is encrypted and gone; so cutting copies headers only.

use super::checksum::{Sum, renew_ipv4};
use super::virtio::{GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, NEEDS_CHECKSUM, VirtioHeader};
use crate::packet::{
    CWR, FIN, Fragment, Outline, PSH, TCP, TCP_FLAGS, TCP_HEADER, UDP, UDP_HEADER, array, be16, be32, put,
};

/// The packets that one packet from the device stands for.
pub(crate) struct Segments<'a> {
    packet: &'a mut [u8],
    cut: Cut,
}

enum Cut {
    /// Nothing is left.
    Done,
    /// One packet, ready to go.
    Whole,
    /// Many.
    Many(Plan),
}

/// How to cut, and how far we are.
struct Plan {
    header: [u8; MAX_HEADERS],
    header_length: usize,
    ip_length: usize,
    protocol: u8,
    size: usize,
    /// Where the next segment's payload begins.
    next: usize,
    count: u16,
}

impl<'a> Segments<'a> {
    /// Plans the cut. `None`: the header does not fit the packet, which is then to be dropped.
    pub(crate) fn new(virtio: VirtioHeader, packet: &'a mut [u8]) -> Option<Self> {
        let gso = virtio.gso_type & !GSO_ECN;
        if gso == GSO_NONE {
            if virtio.flags & NEEDS_CHECKSUM != 0 {
                complete_checksum(packet, virtio)?;
            }
            return Some(Self { packet, cut: Cut::Whole });
        }
        let outline = Outline::read(packet)?;
        let transport = match (gso, outline.protocol, packet.first()? >> 4) {
            (GSO_TCP4, TCP, 4) | (GSO_TCP6, TCP, 6) => {
                // INVARIANT: virtio's own header length may be a mere hint; TCP's is the truth.
                let length = usize::from(packet.get(outline.payload_at + 12)? >> 4) * 4;
                (length >= TCP_HEADER).then_some(length)?
            }
            (GSO_UDP, UDP, _) => UDP_HEADER,
            _ => return None,
        };
        let header_length = outline.payload_at + transport;
        let fits = header_length <= MAX_HEADERS && header_length <= outline.length;
        if !fits || virtio.gso_size == 0 || outline.fragment != Fragment::Whole {
            return None;
        }
        let mut header = [0; MAX_HEADERS];
        header.get_mut(..header_length)?.copy_from_slice(packet.get(..header_length)?);
        let plan = Plan {
            header,
            header_length,
            ip_length: outline.payload_at,
            protocol: outline.protocol,
            size: usize::from(virtio.gso_size),
            next: header_length,
            count: 0,
        };
        Some(Self { packet: packet.get_mut(..outline.length)?, cut: Cut::Many(plan) })
    }

    /// How many packets there are, and their bytes together.
    pub(crate) fn wire(&self) -> (u32, usize) {
        match &self.cut {
            Cut::Done => (0, 0),
            Cut::Whole => (1, self.packet.len()),
            Cut::Many(plan) => {
                let payload = self.packet.len() - plan.header_length;
                let count = payload.div_ceil(plan.size).max(1);
                (u32::try_from(count).unwrap_or(u32::MAX), payload + count * plan.header_length)
            }
        }
    }

    /// The next packet, with lengths and checksums of its own.
    pub(crate) fn next(&mut self) -> Option<&mut [u8]> {
        match &mut self.cut {
            Cut::Done => None,
            Cut::Whole => {
                self.cut = Cut::Done;
                Some(self.packet)
            }
            Cut::Many(plan) => {
                let from = plan.next;
                let to = (from + plan.size).min(self.packet.len());
                if from >= to && plan.count > 0 {
                    return None;
                }
                let last = to == self.packet.len();
                let segment = self.packet.get_mut(from.checked_sub(plan.header_length)?..to)?;
                plan.write_headers(segment, last)?;
                plan.next = to;
                plan.count = plan.count.wrapping_add(1);
                Some(segment)
            }
        }
    }
}

impl Plan {
    fn write_headers(&self, segment: &mut [u8], last: bool) -> Option<()> {
        put(segment, 0, self.header.get(..self.header_length)?);
        let length = u16::try_from(segment.len()).ok()?;
        let addresses = if segment.first()? >> 4 == 4 {
            put(segment, 2, &length.to_be_bytes());
            put(segment, 4, &be16(&self.header, 4)?.wrapping_add(self.count).to_be_bytes());
            renew_ipv4(segment.get_mut(..self.ip_length)?);
            12..20
        } else {
            let payload = length.checked_sub(40)?;
            put(segment, 4, &payload.to_be_bytes());
            8..40
        };
        let (ip, transport) = segment.split_at_mut_checked(self.ip_length)?;
        let checksum_at = match self.protocol {
            TCP => {
                self.write_tcp(transport, last)?;
                TCP_CHECKSUM
            }
            _ => {
                put(transport, 4, &u16::try_from(transport.len()).ok()?.to_be_bytes());
                UDP_CHECKSUM
            }
        };
        put(transport, checksum_at, &[0, 0]);
        let sum = Sum::default().add_pseudo(ip.get(addresses)?, self.protocol, transport.len()).add(transport).finish();
        // A UDP checksum of zero would mean none (RFC 768); its other form is all ones.
        let sum = if self.protocol == UDP && sum == [0, 0] { [0xff, 0xff] } else { sum };
        put(transport, checksum_at, &sum);
        Some(())
    }

    /// The sequence number moves on; FIN and PSH belong to the last segment, CWR to the first (RFC 3168, 6.1.2).
    fn write_tcp(&self, transport: &mut [u8], last: bool) -> Option<()> {
        let sent = u32::from(self.count).wrapping_mul(u32::try_from(self.size).ok()?);
        put(transport, 4, &be32(transport, 4)?.wrapping_add(sent).to_be_bytes());
        let flags = transport.get_mut(TCP_FLAGS)?;
        if !last {
            *flags &= !(FIN | PSH);
        }
        if self.count > 0 {
            *flags &= !CWR;
        }
        Some(())
    }
}

/// Finishes a checksum whose field holds the pseudo-header's sum.
fn complete_checksum(packet: &mut [u8], virtio: VirtioHeader) -> Option<()> {
    let covered = packet.get_mut(usize::from(virtio.checksum_start)..)?;
    let at = usize::from(virtio.checksum_offset);
    array::<2>(covered, at)?;
    let sum = Sum::default().add(covered).finish();
    put(covered, at, if sum == [0, 0] && at == UDP_CHECKSUM { &[0xff, 0xff] } else { &sum });
    Some(())
}

/// Headers longer than this are no packet that a kernel would ask us to cut: IP and TCP with all their options are 120.
const MAX_HEADERS: usize = 160;
/// Where TCP keeps its checksum.
pub(super) const TCP_CHECKSUM: usize = 16;
/// Where UDP keeps its checksum.
const UDP_CHECKSUM: usize = 6;
