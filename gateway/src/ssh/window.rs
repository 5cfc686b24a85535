//! How much a peer may send ahead on one channel (RFC 4254, section 5.2).
//!
//! All that a peer may send and nobody takes is held in memory, so a window begins small. It grows fourfold while a whole one is
//! taken by the other side within [`BRISK`], as it is on any path whose round trip is shorter: bulk has what its path needs
//! after a few round trips. It halves where that takes longer than [`SLOW`], and a channel that nobody reads stays as it was.
//! A window that was given cannot be taken back; one becomes smaller by not being opened again in full. All windows of a
//! device come out of one budget, which leaves every channel enough to go on.
//!
//! Some peers (Apache MINA SSHD, sshj) send nothing, however little there is, while their window is smaller than a packet. So
//! one that has room for a packet has it again as soon as what was sent is taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};

use crate::session::{Budget, SMALL, Share};

/// The window of the peer at one end of a channel.
pub(super) struct Window<'a, M: From<(ChannelId, ChannelMsg)>> {
    peer: &'a ChannelWriteHalf<M>,
    width: Width,
}

impl<'a, M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> Window<'a, M> {
    /// Of a channel to `peer` that has just been confirmed.
    pub(super) async fn open(peer: &'a ChannelWriteHalf<M>, budget: &Arc<Budget>) -> Self {
        let (width, more) = Width::first(budget);
        let window = Self { peer, width };
        window.give(more).await;
        window
    }

    /// Lets it grow no further than a person at a terminal can read.
    pub(super) fn keep_to_a_terminal(&mut self) {
        self.width.widest = TERMINAL;
    }

    /// Counts bytes of the peer's that the other side has taken, and lets it send more when it is time to.
    pub(super) async fn taken(&mut self, bytes: usize) {
        let more = self.width.taken(bytes, Instant::now);
        self.give(more).await;
    }

    async fn give(&self, more: Option<u32>) {
        if let Some(more) = more {
            // One that is gone needs none.
            let _ = self.peer.consumed(more).await;
        }
    }
}

/// How wide a window is open.
struct Width {
    share: Share,
    /// All that was given and not yet given again: what the peer may still send, what waits here, and `credit`.
    size: usize,
    /// What it is to become, as far as `widest` and the budget let it.
    wanted: usize,
    /// What it may become at the most.
    widest: usize,
    /// Bytes taken that the peer was not told of.
    credit: usize,
    /// Bytes taken since `began`.
    taken: usize,
    /// How many of them are a whole window.
    round: usize,
    began: Instant,
}

impl Width {
    /// Of a channel that was opened with [`OPENING`] bytes; and how many more the peer is to be given.
    fn first(budget: &Arc<Budget>) -> (Self, Option<u32>) {
        let opening = bytes_of(OPENING);
        let mut share = budget.share();
        let size = share.resize(FIRST, opening);
        let width = Self {
            share,
            size,
            wanted: FIRST,
            widest: WIDEST,
            credit: 0,
            taken: 0,
            round: size,
            began: Instant::now(),
        };
        (width, given(size - opening))
    }

    /// Counts bytes that were taken, and says how many more the peer may send when it is time to tell it.
    fn taken(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        self.credit += bytes;
        self.taken += bytes;
        if self.credit < self.step() {
            return None;
        }
        let (before, turned) = (self.size, self.taken >= self.round);
        if turned {
            self.turn(now());
        }
        // What the peer may send already, or has sent.
        let left = before.saturating_sub(std::mem::take(&mut self.credit));
        self.size = self.share.resize(self.wanted.min(self.widest), left.max(bytes_of(OPENING)));
        if turned {
            self.round = self.size.max(before);
        }
        given(self.size - left)
    }

    /// How many bytes are taken before the peer is told: few beside the window, and not so many that less than a packet is left.
    fn step(&self) -> usize {
        let step = (self.size / STEPS).min(STEP);
        match self.size.checked_sub(bytes_of(PACKET)) {
            Some(spare) => step.min(spare + 1),
            None => step,
        }
    }

    /// A whole window was taken: is it the right size?
    fn turn(&mut self, now: Instant) {
        let lasted = now.saturating_duration_since(self.began);
        if lasted < BRISK {
            self.wanted = self.size * GROWTH;
        } else if lasted > SLOW {
            self.wanted = (self.size / 2).max(FIRST);
        }
        (self.taken, self.began) = (0, now);
    }
}

fn given(bytes: usize) -> Option<u32> {
    u32::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

fn bytes_of(window: u32) -> usize {
    usize::try_from(window).unwrap_or(usize::MAX)
}

/// What a channel is opened with on the wire, in bytes, and what every channel has whatever the budget says.
pub(super) const OPENING: u32 = 4 * 1024;
/// The largest packet that a peer may send, in bytes of data (RFC 4253, section 6.1).
pub(super) const PACKET: u32 = 32 * 1024;
/// What it is given at once, in bytes: room for a packet, and for half of one that the peer is not told of yet.
const FIRST: usize = SMALL;
/// The most, in bytes; OpenSSH's own size, and 16 MB was slower.
const WIDEST: usize = 2 * 1024 * 1024;
/// The most of a terminal: five megabytes of text a second where a round trip takes 50 ms.
const TERMINAL: usize = 256 * 1024;
/// The window is opened again in so many steps: each is small beside it.
const STEPS: usize = 4;
/// The largest step, in bytes: large beside a packet.
const STEP: usize = 128 * 1024;
/// How many times wider it becomes at once.
const GROWTH: usize = 4;
/// A window that is taken in less than this, the longest round trip there is, may be what holds its sender up.
const BRISK: Duration = Duration::from_secs(1);
/// One that is taken in more than this is larger than it has to be.
const SLOW: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends all that it may, at once, over a path with this round trip.
    struct Peer {
        width: Width,
        may_send: usize,
        clock: Instant,
        round_trip: Duration,
    }

    impl Peer {
        fn new(budget: &Arc<Budget>, round_trip: Duration) -> Self {
            let (width, more) = Width::first(budget);
            let may_send = bytes_of(OPENING + more.unwrap_or_default());
            Self { clock: width.began, width, may_send, round_trip }
        }

        /// Sends all that it may, in packets, and they are taken; what it is given for them arrives a round trip later.
        fn send(&mut self) {
            self.clock += self.round_trip;
            let (mut left, clock) = (std::mem::take(&mut self.may_send), self.clock);
            while left > 0 {
                let packet = left.min(bytes_of(PACKET));
                left -= packet;
                self.may_send += bytes_of(self.width.taken(packet, || clock).unwrap_or_default());
            }
            assert!(self.may_send > 0, "nothing will ever be sent again");
            assert!(self.may_send <= self.width.size);
        }
    }

    #[test]
    fn bulk_has_the_widest_window_after_a_few_round_trips() {
        for (round_trip, rounds) in [(0, 3), (50, 3), (600, 3)] {
            let mut peer = Peer::new(&Arc::default(), Duration::from_millis(round_trip));
            (0..rounds).for_each(|_| peer.send());
            assert_eq!(peer.width.size, WIDEST, "{round_trip} ms");
        }
    }

    #[test]
    fn a_peer_that_sends_nothing_into_less_than_a_packets_room_goes_on() {
        let packet = bytes_of(PACKET);
        let mut peers = vec![Peer::new(&Arc::default(), Duration::ZERO), Peer::new(&Arc::default(), SLOW * 2)];
        // One whose budget left it hardly more than a packet, and goes on doing so.
        let narrow = Arc::default();
        let mut others = vec![Peer::new(&narrow, Duration::ZERO)];
        while others.last().unwrap().width.size > packet + packet / STEPS {
            others.push(Peer::new(&narrow, Duration::ZERO));
        }
        peers.extend(others.pop());
        for (number, peer) in peers.iter_mut().enumerate() {
            for piece in (1..40).chain([packet - 1, packet, 1, 8_191, packet, packet]).cycle().take(5_000) {
                assert!(peer.may_send >= packet, "peer {number} waits for good before a piece of {piece} bytes");
                peer.clock += peer.round_trip;
                let clock = peer.clock;
                peer.may_send -= piece;
                peer.may_send += bytes_of(peer.width.taken(piece, || clock).unwrap_or_default());
            }
        }
    }

    #[test]
    fn what_is_taken_slowly_has_a_small_window_again() {
        let mut peer = Peer::new(&Arc::default(), Duration::from_millis(10));
        (0..64).for_each(|_| peer.send());
        peer.round_trip = SLOW * 2;
        (0..64).for_each(|_| peer.send());
        assert_eq!(peer.width.size, FIRST);
        peer.round_trip = BRISK * 2;
        (0..64).for_each(|_| peer.send());
        assert_eq!(peer.width.size, FIRST, "and grows no more");
    }

    #[test]
    fn a_terminal_keeps_a_window_of_its_own_size() {
        let mut peer = Peer::new(&Arc::default(), Duration::ZERO);
        (0..64).for_each(|_| peer.send());
        peer.width.widest = TERMINAL;
        (0..64).for_each(|_| peer.send());
        assert_eq!(peer.width.size, TERMINAL);
    }

    #[test]
    fn however_many_there_are_each_goes_on_and_all_stay_within_their_budget() {
        let budget = Arc::default();
        let mut peers: Vec<Peer> = (0..2_000).map(|_| Peer::new(&budget, Duration::ZERO)).collect();
        for _round in 0..64 {
            peers.iter_mut().for_each(Peer::send);
        }
        let held: usize = peers.iter().map(|peer| peer.width.size).sum();
        assert!(held <= (21 << 20) + peers.len() * bytes_of(OPENING), "{held}");
        // Bulk that comes when the others are gone has all that it needs.
        peers.truncate(1);
        (0..64).for_each(|_| peers.iter_mut().for_each(Peer::send));
        assert_eq!(peers.first().unwrap().width.size, WIDEST);
    }
}
