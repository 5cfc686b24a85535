//! The Internet checksum (RFC 1071).

use std::ops::Range;

use crate::packet::{Outline, TCP, UDP, array, be16, put};

/// A sum in the making: 16-bit words in the machine's own order, which the sum does not mind (RFC 1071, section 2.B).
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u128);

impl Sum {
    /// Adds bytes. Every part but the last must have an even length.
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(16);
        let (mut even, mut odd) = (0_u128, 0_u128);
        for word in &mut words {
            let (first, second) = word.split_at(8);
            even += u128::from(u64::from_ne_bytes(array(first, 0).unwrap_or_default()));
            odd += u128::from(u64::from_ne_bytes(array(second, 0).unwrap_or_default()));
        }
        self.0 += even + odd;
        for pair in words.remainder().chunks(2) {
            let pair = [pair.first().copied().unwrap_or_default(), pair.get(1).copied().unwrap_or_default()];
            self.0 += u128::from(u16::from_ne_bytes(pair));
        }
        self
    }

    /// Adds the pseudo-header of TCP and UDP (RFC 9293, section 3.1; RFC 8200, section 8.1). `addresses` are both of
    /// them, source first, as they stand in the IP header.
    pub(super) fn add_pseudo(self, addresses: &[u8], protocol: u8, length: usize) -> Self {
        // A packet is never longer than 65,575 bytes, so that the upper half can be added as the specification has it.
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.add(addresses).add(&length).add(&[0, protocol])
    }

    /// The sum folded into 16 bits, in network order as it goes into a header.
    pub(super) fn fold(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap_or_default().to_ne_bytes()
    }

    /// The checksum: the folded sum's complement.
    pub(super) fn finish(self) -> [u8; 2] {
        let [high, low] = self.fold();
        [!high, !low]
    }

    /// Whether what was added, its checksum included, is intact.
    pub(super) fn is_intact(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}

/// Computes an IPv4 header's checksum anew.
pub(crate) fn renew_ipv4(header: &mut [u8]) {
    put(header, 10, &[0, 0]);
    let sum = Sum::default().add(header).finish();
    put(header, 10, &sum);
}

/// The checksum of an ICMP message. ICMPv6's has a pseudo-header of its packet's `addresses`; ICMP's has none.
pub(crate) fn icmp_checksum(addresses: Option<&[u8]>, message: &[u8]) -> [u8; 2] {
    let sum = Sum::default();
    let sum = addresses.map_or(sum, |addresses| sum.add_pseudo(addresses, ICMP6, message.len()));
    sum.add(message).finish()
}

/// Whether the checksum of what is in a whole packet is right; true where the protocol has none that we know.
pub(crate) fn is_intact(packet: &[u8], outline: &Outline) -> bool {
    let Some(message) = packet.get(outline.payload_at..outline.length) else { return false };
    match outline.protocol {
        // None was made (RFC 768); IPv6 does not allow that (RFC 8200, 8.1).
        UDP if outline.source.is_ipv4() && be16(message, 6) == Some(0) => true,
        ICMP4 if outline.source.is_ipv4() => Sum::default().add(message).is_intact(),
        TCP | UDP | ICMP6 => {
            let addresses = packet.get(addresses(packet)).unwrap_or_default();
            Sum::default().add_pseudo(addresses, outline.protocol, message.len()).add(message).is_intact()
        }
        _ => true,
    }
}

/// Computes the checksum of the TCP, UDP or ICMP message in a whole packet.
pub(crate) fn finish_transport(packet: &mut [u8]) -> Option<()> {
    let outline = Outline::read(packet)?;
    let at = match outline.protocol {
        TCP => 16,
        UDP => 6,
        ICMP4 | ICMP6 => 2,
        _ => return None,
    };
    put(packet.get_mut(outline.payload_at..)?, at, &[0, 0]);
    let message = packet.get(outline.payload_at..)?;
    let sum = Sum::default();
    let sum = match outline.protocol {
        ICMP4 => sum,
        protocol => sum.add_pseudo(packet.get(addresses(packet))?, protocol, message.len()),
    };
    let sum = sum.add(message).finish();
    // A UDP checksum of zero would mean none (RFC 768); its other form is all ones.
    let sum = if outline.protocol == UDP && sum == [0, 0] { [0xff, 0xff] } else { sum };
    put(packet.get_mut(outline.payload_at..)?, at, &sum);
    Some(())
}

/// Where a packet has its two addresses.
fn addresses(packet: &[u8]) -> Range<usize> {
    if packet.first().is_some_and(|first| first >> 4 == 6) { 8..40 } else { 12..20 }
}

/// ICMP's protocol number.
const ICMP4: u8 = 1;
/// ICMPv6's protocol number.
const ICMP6: u8 = 58;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_the_example_of_rfc_1071() {
        let sum = Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), [0xdd, 0xf2]);
        assert_eq!(sum.finish(), [0x22, 0x0d]);
    }

    proptest! {
        #[test]
        fn sums_like_the_slow_way(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let slow = bytes.chunks(2).fold(0_u32, |sum, pair| {
                let sum = sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
                (sum & 0xffff) + (sum >> 16)
            });
            prop_assert_eq!(Sum::default().add(&bytes).fold(), u16::try_from(slow).unwrap().to_be_bytes());
        }
    }
}
