//! ICMP errors: nobody has the address, the port or the protocol that you are sending to.
//!
//! Without the first a connection to a device that is not there would hang until its timeout; it never leaves for the
//! network. The others are the userspace stack's; in the private namespace the kernel makes them. Sources: RFC 792,
//! RFC 1122 section 3.2.2, RFC 4443 sections 3.1 and 3.4.

use crate::offload::{icmp_checksum, renew_ipv4};
use crate::packet::{Fragment, IPV4_HEADER, IPV6_HEADER, Outline, RST, TCP, array, put};

/// An IP packet for the device.
pub(crate) type Answer = Vec<u8>;

/// What there is not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lack {
    Host,
    Port,
    Protocol,
}

impl Lack {
    /// Type, code, checksum to come, and a word that only one message uses: where in the packet the trouble is.
    fn header(self, v6: bool, payload_at: usize) -> [u8; ICMP_HEADER] {
        match (self, v6) {
            (Self::Host, false) => [3, 1, 0, 0, 0, 0, 0, 0],
            (Self::Port, false) => [3, 3, 0, 0, 0, 0, 0, 0],
            (Self::Protocol, false) => [3, 2, 0, 0, 0, 0, 0, 0],
            (Self::Host, true) => [1, 3, 0, 0, 0, 0, 0, 0],
            (Self::Port, true) => [1, 4, 0, 0, 0, 0, 0, 0],
            (Self::Protocol, true) => [4, 1, 0, 0, 0, 0, 0, if payload_at == IPV6_HEADER { NEXT_HEADER } else { 40 }],
        }
    }
}

/// The error for this packet; `None` where RFC 1122 (3.2.2) forbids an answer.
pub(crate) fn unreachable(packet: &[u8], lack: Lack) -> Option<Answer> {
    let outline = Outline::read(packet)?;
    let is_error = matches!((outline.protocol, packet.get(outline.payload_at)), (ICMP4, Some(3..=5 | 11 | 12)))
        || matches!((outline.protocol, packet.get(outline.payload_at)), (ICMP6, Some(0..128)));
    let is_reset = outline.protocol == TCP && outline.tcp_flags(packet).is_some_and(|flags| flags & RST != 0);
    let alone = !outline.destination.is_multicast() && !outline.source.is_unspecified();
    if is_error || is_reset || !alone || outline.fragment == Fragment::Later {
        return None;
    }
    let quoted = packet.get(..outline.length.min(QUOTED))?;
    let is_v4 = packet.first()? >> 4 == 4;
    let header = if is_v4 { IPV4_HEADER } else { IPV6_HEADER };
    let mut answer = vec![0; header];
    answer.extend(lack.header(!is_v4, outline.payload_at));
    answer.extend(quoted);
    if is_v4 {
        write_v4(&mut answer, packet)?;
    } else {
        write_v6(&mut answer, packet)?;
    }
    Some(answer)
}

fn write_v4(answer: &mut [u8], packet: &[u8]) -> Option<()> {
    let length = u16::try_from(answer.len()).ok()?.to_be_bytes();
    put(answer, 0, &[0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, ICMP4]);
    // The answer comes from where the packet was going.
    put(answer, 12, &array::<4>(packet, 16)?);
    put(answer, 16, &array::<4>(packet, 12)?);
    let (ip, icmp) = answer.split_at_mut_checked(IPV4_HEADER)?;
    renew_ipv4(ip);
    let sum = icmp_checksum(None, icmp);
    put(icmp, 2, &sum);
    Some(())
}

fn write_v6(answer: &mut [u8], packet: &[u8]) -> Option<()> {
    let length = u16::try_from(answer.len() - IPV6_HEADER).ok()?.to_be_bytes();
    put(answer, 0, &[0x60, 0, 0, 0, length[0], length[1], ICMP6, 64]);
    put(answer, 8, &array::<16>(packet, 24)?);
    put(answer, 24, &array::<16>(packet, 8)?);
    let (ip, icmp) = answer.split_at_mut_checked(IPV6_HEADER)?;
    let sum = icmp_checksum(Some(ip.get(8..40)?), icmp);
    put(icmp, 2, &sum);
    Some(())
}

/// ICMP's protocol number.
const ICMP4: u8 = 1;
/// ICMPv6's protocol number.
const ICMP6: u8 = 58;
/// Type, code, checksum and an unused word.
const ICMP_HEADER: usize = 8;
/// Where IPv6 says what comes after its header.
const NEXT_HEADER: u8 = 6;
/// How much of the packet is quoted: what RFC 1812 (4.3.2.3) allows.
const QUOTED: usize = 548;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = if v6 {
            let mut header = vec![0x60, 0, 0, 0, 0, u8::try_from(payload.len()).unwrap(), protocol, 64];
            header.extend([[0xfd; 16], [0xfc; 16]].concat());
            header
        } else {
            let length = u8::try_from(20 + payload.len()).unwrap();
            vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        };
        packet.extend(payload);
        packet
    }

    #[test]
    fn answers_the_sender_from_the_destination_and_quotes_the_packet() {
        for v6 in [false, true] {
            let packet = packet(v6, 17, &[1; 12]);
            let answer = unreachable(&packet, Lack::Host).unwrap();
            let (sent, outline) = (Outline::read(&packet).unwrap(), Outline::read(&answer).unwrap());
            assert_eq!((outline.source, outline.destination), (sent.destination, sent.source));
            assert_eq!(answer[outline.payload_at + 8..], packet);
            let icmp = &answer[outline.payload_at..];
            // The checksum over a message with its checksum in place is zero.
            assert_eq!(icmp_checksum(v6.then_some(&answer[8..40]), icmp), [0, 0], "v6: {v6}");
        }
    }

    #[test]
    fn answers_no_error_with_an_error() {
        for (name, v6, protocol, payload) in [
            ("an ICMP error", false, ICMP4, vec![3, 1, 0, 0, 0, 0, 0, 0]),
            ("an ICMPv6 error", true, ICMP6, vec![1, 3, 0, 0, 0, 0, 0, 0]),
            ("a TCP reset", false, TCP, [vec![0; 13], vec![RST], vec![0; 6]].concat()),
        ] {
            assert_eq!(unreachable(&packet(v6, protocol, &payload), Lack::Port), None, "{name}");
        }
        assert!(
            unreachable(&packet(false, ICMP4, &[8, 0, 0, 0, 0, 0, 0, 0]), Lack::Host).is_some(),
            "a ping is answered"
        );
    }
}
