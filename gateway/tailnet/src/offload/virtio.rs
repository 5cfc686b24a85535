//! The virtio-net header before each packet of the device (`struct virtio_net_hdr`, ten bytes, the machine's order).

use crate::packet::array;

/// What the header says of the packet after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtioHeader {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    pub(crate) header_length: u16,
    pub(crate) gso_size: u16,
    pub(crate) checksum_start: u16,
    pub(crate) checksum_offset: u16,
}

impl VirtioHeader {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at| array(bytes, at).map(u16::from_ne_bytes);
        Some(Self {
            flags: *bytes.first()?,
            gso_type: *bytes.get(1)?,
            header_length: word(2)?,
            gso_size: word(4)?,
            checksum_start: word(6)?,
            checksum_offset: word(8)?,
        })
    }

    pub(crate) fn to_bytes(self) -> [u8; VIRTIO_HEADER] {
        let [b, c, d, e] =
            [self.header_length, self.gso_size, self.checksum_start, self.checksum_offset].map(u16::to_ne_bytes);
        [self.flags, self.gso_type, b[0], b[1], c[0], c[1], d[0], d[1], e[0], e[1]]
    }

    /// The header of a TCP packet to be cut into segments of `size` bytes, whose checksums are all to be made.
    pub(crate) fn cut_tcp(v6: bool, size: u16) -> Self {
        Self { gso_type: if v6 { GSO_TCP6 } else { GSO_TCP4 }, gso_size: size, ..Self::default() }
    }

    /// Whether the packet's checksum is unfinished, which says that nobody needs to verify it.
    pub(crate) fn needs_checksum(self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }

    /// The same header for a packet that has `bytes` more in front.
    pub(crate) fn shifted(mut self, bytes: u16) -> Self {
        if self.gso_type != GSO_NONE {
            self.header_length += bytes;
        }
        if self.flags & NEEDS_CHECKSUM != 0 {
            self.checksum_start += bytes;
        }
        self
    }

    /// The same header for a packet that has `bytes` fewer in front.
    pub(crate) fn unshifted(mut self, bytes: u16) -> Self {
        self.header_length = self.header_length.saturating_sub(bytes);
        self.checksum_start = self.checksum_start.saturating_sub(bytes);
        self
    }
}

/// The header's length in bytes.
pub(crate) const VIRTIO_HEADER: usize = 10;
/// The checksum field holds the pseudo-header's sum only.
pub(super) const NEEDS_CHECKSUM: u8 = 1;
/// A packet that is to stay whole.
pub(super) const GSO_NONE: u8 = 0;
/// TCP over IPv4, to be cut up.
pub(super) const GSO_TCP4: u8 = 1;
/// TCP over IPv6, to be cut up.
pub(super) const GSO_TCP6: u8 = 4;
/// UDP, to be cut into datagrams.
pub(super) const GSO_UDP: u8 = 5;
/// Set beside a TCP type where the flow speaks ECN.
pub(super) const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip() {
        let header = VirtioHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: GSO_TCP6,
            header_length: 72,
            gso_size: 1208,
            checksum_start: 40,
            checksum_offset: 16,
        };
        assert_eq!(VirtioHeader::read(&header.to_bytes()), Some(header));
        assert_eq!(header.shifted(14).unshifted(14), header);
        assert_eq!(VirtioHeader::read(&[0; 9]), None);
    }
}
