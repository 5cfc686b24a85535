//! How much a device may send: two corrections of smoltcp's windows, which hold whatever the device does.
//!
//! smoltcp 0.14 rounds each window down to a multiple of its scale and takes nothing beyond the window that it told last.
//! So the right edge of the window moves back by up to a unit now and then, which RFC 9293 (3.8.6.2.1) advises against,
//! and the tail of what was already under way is lost: a transfer then stands still until the sender's timer. We tell
//! one unit less than smoltcp does, and so never an edge that it takes back.
//!
//! And it reads the window of its own SYN-ACK, which is not scaled, as if it were: until the first acknowledgement a
//! device could send more than there is room for. [`Edge`] drops that.

use smoltcp::socket::tcp::State;

use super::live::BUFFER;
use crate::packet::{FIN, IPV4_HEADER, IPV6_HEADER, Outline, SYN, TCP_FLAGS, be16, be32, put};

/// Takes one unit off the window in a segment of ours, but for a SYN's, which has no units.
pub(super) fn reduce(packet: &mut [u8]) {
    let tcp = if packet.first().is_some_and(|first| first >> 4 == 6) { IPV6_HEADER } else { IPV4_HEADER };
    if packet.get(tcp + TCP_FLAGS).is_some_and(|flags| flags & SYN == 0)
        && let Some(window) = be16(packet, tcp + WINDOW)
    {
        put(packet, tcp + WINDOW, &window.saturating_sub(1).to_be_bytes());
    }
}

/// The end of the room for what a device sends.
#[derive(Debug, Default)]
pub(super) struct Edge {
    /// The sequence number of the device's first byte.
    first: Option<u32>,
    /// Bytes that have been read since, modulo what sequence numbers can count.
    read: u32,
}

impl Edge {
    /// Counts bytes that were read, and so made room.
    pub(super) fn advance(&mut self, read: usize) {
        self.read = self.read.wrapping_add(u32::try_from(read).unwrap_or_default());
    }

    /// Whether a segment stays within the room that there is; `state` is the socket's before it takes the segment.
    pub(super) fn admits(&mut self, state: State, packet: &[u8], outline: &Outline) -> bool {
        self.check(state, packet, outline).unwrap_or(false)
    }

    fn check(&mut self, state: State, packet: &[u8], outline: &Outline) -> Option<bool> {
        let segment = packet.get(outline.payload_at..outline.length)?;
        let flags = *segment.get(TCP_FLAGS)?;
        let sequence = be32(segment, 4)?;
        if flags & SYN != 0 && matches!(state, State::Listen | State::SynSent) {
            self.first = Some(sequence.wrapping_add(1));
        }
        let Some(first) = self.first else { return Some(true) };
        let payload = segment.len().checked_sub(usize::from(*segment.get(12)? >> 4) * 4)?;
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let end = sequence.wrapping_add(u32::try_from(payload).ok()?).wrapping_add(controls);
        let ahead = end.wrapping_sub(first.wrapping_add(self.read));
        // The FIN takes a number and no room.
        let room = u32::try_from(BUFFER).ok()?.wrapping_add(1);
        // In the upper half: behind what has been read.
        Some(ahead <= room || ahead > u32::MAX / 2)
    }
}

/// Where TCP has its window.
const WINDOW: usize = 14;
