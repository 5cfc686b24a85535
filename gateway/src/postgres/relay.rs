//! The hot path: frames go from one side to the other as they come, many at a time.
//!
//! A direction reads as much as there is, looks at the headers of what it read, at the beginnings of what somebody wants to
//! see, and writes the lot with one call. Only a frame that somebody wants to see whole waits for its end. A row of a
//! gigabyte passes in pieces; a side that takes nothing stops the other.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::future::{TryFutureExt, try_join};
use sallyport_recorder::Event;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::wire::{BadFrame, Frame, HEAD_MAX, HEADER, Header};
use crate::failure::Failure;
use crate::session::Session;

/// One direction of a session.
pub(super) struct Direction<R, W> {
    reader: R,
    writer: W,
    inbox: BytesMut,
    /// Bytes of the frame under way that have not come yet.
    rest: usize,
    /// Whether they are passed on.
    passing: bool,
    /// Whether what was written ends with a whole frame.
    between: bool,
    /// The size of the next read, in bytes.
    appetite: usize,
    /// What was seen and is not written down yet.
    unwritten: Vec<Event>,
}

/// What looks at the frames of one direction.
pub(super) trait Watcher {
    /// Something has come: the frames that are seen until this is called again came at `now`.
    fn begins(&mut self, now: Instant);

    /// How much of a payload has to be at hand before it is seen, in bytes.
    fn wants(&self, header: Header) -> usize;

    /// Sees a frame and says what becomes of it; what is to be recorded goes to `events`. Of its payload, `at_hand` is what
    /// it wanted, or all there is.
    fn sees(&mut self, frame: Frame<'_>, at_hand: &[u8], events: &mut Vec<Event>) -> Fate;

    /// Sees the rest of a frame that is longer than its head, as it comes.
    fn sees_more(&mut self, bytes: &[u8]);

    /// Waits while so much is unanswered that no more should be read.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Whether nothing more is to be carried.
    fn is_done(&self) -> bool;
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is passed on.
    Pass,
    /// This takes its place.
    Replace(Vec<u8>),
    /// Nothing is passed on.
    Drop,
}

/// Why a direction has stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    /// The side that is read broke off.
    #[error("{0}")]
    Reading(io::Error),
    /// The side that is written to has gone.
    #[error("{0}")]
    Writing(io::Error),
    /// The side that is read does not keep to the protocol.
    #[error("{0}")]
    Frame(#[from] BadFrame),
    /// The recording.
    #[error("{0}")]
    Recording(Failure),
}

/// What one look at the inbox gives.
#[derive(Debug, Default)]
struct Batch {
    pieces: Vec<Piece>,
    /// Bytes of the inbox that are done with.
    taken: usize,
    /// There is more to look at, once these events are written down.
    full: bool,
}

#[derive(Debug)]
enum Piece {
    /// So much of the inbox.
    Inbox(Range<usize>),
    /// Something of ours.
    Ours(Vec<u8>),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    /// From `reader`, of which `inbox` was read already, to `writer`.
    pub(super) fn new(reader: R, writer: W, inbox: BytesMut) -> Self {
        Self {
            reader,
            writer,
            inbox,
            rest: 0,
            passing: true,
            between: true,
            appetite: APPETITE_LEAST,
            unwritten: Vec::new(),
        }
    }

    /// Carries frames until the side that is read has no more, or its watcher wants no more.
    ///
    /// # Errors
    /// What stopped it before.
    pub(super) async fn run(&mut self, session: &Session, watcher: &mut impl Watcher) -> Result<(), Stopped> {
        let mut batch = Batch::default();
        let mut now = Instant::now();
        loop {
            watcher.begins(now);
            self.scan(watcher, &mut batch)?;
            self.pass_on(&mut batch, async |seen| session.record_all(seen).await).await?;
            if watcher.is_done() {
                return Ok(());
            }
            if batch.full {
                continue;
            }
            watcher.room().await;
            if self.fill().await.map_err(Stopped::Reading)? == 0 {
                return Ok(());
            }
            now = Instant::now();
            session.touch_at(now);
        }
    }

    /// Writes down what was seen and is not written down yet.
    ///
    /// # Errors
    /// [`Failure::Recording`] when that fails.
    pub(super) async fn write_down(&mut self, session: &Session) -> Result<(), Failure> {
        session.record_all(&mut self.unwritten).await
    }

    /// Tells the side that is written to that there is no more.
    pub(super) async fn close(&mut self) {
        // A side that takes nothing is told by the connection's end.
        let _ = timeout(CLOSING, self.writer.shutdown()).await;
    }

    /// The side that is written to, if what it has been sent ends with a whole frame.
    pub(super) fn between_frames(&mut self) -> Option<&mut W> {
        self.between.then_some(&mut self.writer)
    }

    /// Looks at what has come.
    fn scan(&mut self, watcher: &mut impl Watcher, batch: &mut Batch) -> Result<(), BadFrame> {
        let mut at = 0;
        loop {
            batch.full = self.unwritten.len() >= EVENTS_FULL;
            if batch.full {
                break;
            }
            let left = self.inbox.get(at..).unwrap_or_default();
            if self.rest > 0 {
                let more = self.rest.min(left.len());
                if self.passing {
                    batch.pass(at..at + more);
                }
                watcher.sees_more(left.get(..more).unwrap_or_default());
                self.rest -= more;
                at += more;
                if self.rest > 0 {
                    break;
                }
                continue;
            }
            let Some(header) = Header::read(left)? else { break };
            let length = header.payload();
            let at_hand = left.get(HEADER..).unwrap_or_default();
            if at_hand.len() < watcher.wants(header).min(length) {
                break;
            }
            let here = length.min(at_hand.len());
            let head = at_hand.get(..here.min(HEAD_MAX)).unwrap_or_default();
            let frame = Frame { tag: header.tag, length: header.length, head };
            let fate = watcher.sees(frame, at_hand.get(..here).unwrap_or_default(), &mut self.unwritten);
            if here > head.len() {
                watcher.sees_more(at_hand.get(head.len()..here).unwrap_or_default());
            }
            let end = at + HEADER + here;
            self.passing = fate == Fate::Pass;
            match fate {
                Fate::Pass => batch.pass(at..end),
                Fate::Replace(bytes) => batch.pieces.push(Piece::Ours(bytes)),
                Fate::Drop => {}
            }
            self.rest = length - here;
            at = end;
        }
        batch.taken = at;
        Ok(())
    }

    /// Writes what is passed on, and has `record` write down what was seen, side by side, in either direction: nobody waits for
    /// an event to be made, and a side that takes nothing keeps nothing of what was done out of the record.
    async fn pass_on(
        &mut self,
        batch: &mut Batch,
        record: impl AsyncFnOnce(&mut Vec<Event>) -> Result<(), Failure>,
    ) -> Result<(), Stopped> {
        let recorded = record(&mut self.unwritten).map_err(Stopped::Recording);
        if batch.pieces.is_empty() {
            recorded.await?;
        } else {
            self.between = false;
            let written = batch.write(&self.inbox, &mut self.writer).map_err(Stopped::Writing);
            // The first one is polled first: the bytes are on their way before an event is made.
            try_join(written, recorded).await?;
            self.between = self.rest == 0 || !self.passing;
        }
        self.inbox.advance(batch.taken);
        Ok(())
    }

    /// Reads once: little from a side that says little, much from one that streams.
    async fn fill(&mut self) -> io::Result<usize> {
        if self.inbox.is_empty() && self.inbox.capacity() > 2 * self.appetite {
            self.inbox = BytesMut::new();
        }
        self.inbox.reserve(self.appetite);
        let read = self.reader.read_buf(&mut self.inbox).await?;
        self.appetite = match read {
            read if read >= self.appetite => (self.appetite * 2).min(APPETITE_MOST),
            read if read < self.appetite / 8 => (self.appetite / 2).max(APPETITE_LEAST),
            _ => self.appetite,
        };
        Ok(read)
    }
}

impl Batch {
    /// Passes on a piece of the inbox, together with the one before it where they touch.
    fn pass(&mut self, range: Range<usize>) {
        match self.pieces.last_mut() {
            Some(Piece::Inbox(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.pieces.push(Piece::Inbox(range)),
        }
    }

    /// Writes its pieces, those of ours and those of `inbox`.
    async fn write(&mut self, inbox: &[u8], writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        for piece in self.pieces.drain(..) {
            let bytes = match &piece {
                Piece::Inbox(range) => inbox.get(range.clone()).unwrap_or_default(),
                Piece::Ours(bytes) => bytes,
            };
            writer.write_all(bytes).await?;
        }
        writer.flush().await
    }
}

/// The most events of one look; they are written down before the next: each may hold the text of a statement, and thousands of
/// short answers come with one read.
const EVENTS_FULL: usize = 128;
/// How long a side may take to hear that there is no more.
const CLOSING: Duration = Duration::from_millis(500);
/// Reads of a connection that is quiet, in bytes.
const APPETITE_LEAST: usize = 8 * 1024;
/// Reads of a connection that streams, in bytes.
const APPETITE_MOST: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::future::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::wire::message;

    /// Sees everything whose tag is small, drops what has the tag `x`, and replaces what has the tag `y`.
    #[derive(Default)]
    struct Picky {
        seen: Vec<(u8, u32)>,
        bytes: usize,
    }

    impl Watcher for Picky {
        fn begins(&mut self, _: Instant) {}

        fn wants(&self, header: Header) -> usize {
            if header.tag.is_ascii_uppercase() { HEAD_MAX } else { 0 }
        }

        fn sees(&mut self, frame: Frame<'_>, at_hand: &[u8], _: &mut Vec<Event>) -> Fate {
            self.seen.push((frame.tag, frame.length));
            self.bytes += frame.head.len();
            assert!(frame.tag.is_ascii_lowercase() || frame.is_whole() || at_hand.len() >= HEAD_MAX);
            match frame.tag {
                b'x' => Fate::Drop,
                b'y' => Fate::Replace(b"replaced".to_vec()),
                _ => Fate::Pass,
            }
        }

        fn sees_more(&mut self, bytes: &[u8]) {
            self.bytes += bytes.len();
        }

        async fn room(&self) {}

        fn is_done(&self) -> bool {
            false
        }
    }

    /// Has something to write down of everything.
    struct Talkative;

    impl Watcher for Talkative {
        fn begins(&mut self, _: Instant) {}

        fn wants(&self, _: Header) -> usize {
            0
        }

        fn sees(&mut self, _: Frame<'_>, _: &[u8], events: &mut Vec<Event>) -> Fate {
            events.push(Event::DatabaseCancel);
            Fate::Pass
        }

        fn sees_more(&mut self, _: &[u8]) {}

        async fn room(&self) {}

        fn is_done(&self) -> bool {
            false
        }
    }

    /// Writes nothing down.
    async fn nowhere(seen: &mut Vec<Event>) -> Result<(), Failure> {
        seen.clear();
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_its_event_and_an_event_not_for_a_side_that_takes_nothing() {
        let frames = message(b'C', b"SET\0");
        let look = |room| {
            let (to, from) = tokio::io::duplex(room);
            let mut direction = Direction::new(&b""[..], to, BytesMut::from(frames.as_slice()));
            let mut batch = Batch::default();
            direction.scan(&mut Talkative, &mut batch).unwrap();
            (direction, batch, from)
        };
        let (mut direction, mut batch, mut from) = look(frames.len());
        let full = std::future::pending();
        let stuck = direction.pass_on(&mut batch, async |_: &mut Vec<Event>| full.await);
        assert!(futures::poll!(pin!(stuck)).is_pending());
        let mut passed = vec![0; frames.len()];
        let read = from.read_exact(&mut passed).now_or_never();
        assert!(read.is_some_and(|read| read.is_ok()) && passed == frames);

        let (mut direction, mut batch, _from) = look(1);
        let mut written = 0;
        let record = async |seen: &mut Vec<Event>| {
            written = seen.drain(..).count();
            Ok(())
        };
        assert!(futures::poll!(pin!(direction.pass_on(&mut batch, record))).is_pending());
        assert!(written == 1 && direction.between_frames().is_none());
    }

    #[tokio::test]
    async fn a_recording_that_fails_is_not_held_up_by_a_side_that_takes_nothing() {
        let frames = message(b'C', b"SET\0");
        let (to, _from) = tokio::io::duplex(1);
        let mut direction = Direction::new(&b""[..], to, BytesMut::from(frames.as_slice()));
        let mut batch = Batch::default();
        direction.scan(&mut Talkative, &mut batch).unwrap();
        let fails = async |_: &mut Vec<Event>| Err(Failure::Recording("the disk is full".into()));
        let passed = direction.pass_on(&mut batch, fails).now_or_never();
        assert!(matches!(passed, Some(Err(Stopped::Recording(_)))));
    }

    #[test]
    fn what_is_to_be_written_down_does_not_pile_up() {
        let frames = message(b'C', b"SET\0").repeat(1_000);
        let mut direction = Direction::new(&b""[..], Vec::new(), BytesMut::from(frames.as_slice()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut batch, mut looks, mut events) = (Batch::default(), 0, 0);
        loop {
            direction.scan(&mut Talkative, &mut batch).unwrap();
            assert!(direction.unwritten.len() <= EVENTS_FULL);
            (looks, events) = (looks + 1, events + direction.unwritten.len());
            runtime.block_on(direction.pass_on(&mut batch, nowhere)).unwrap();
            if !batch.full {
                break;
            }
        }
        assert_eq!((looks, events, direction.writer == frames), (8, 1_000, true));
    }

    proptest! {
        #[test]
        fn frames_pass_in_order_however_they_are_cut(
            frames in proptest::collection::vec((prop::sample::select(&b"QDdxyZ"[..]), 0_usize..3_000), 0..30),
            pieces in proptest::collection::vec(1_usize..900, 1..40),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(tag, length)| message(*tag, &vec![*tag; *length])).collect();
            let expected: Vec<u8> = frames.iter().flat_map(|(tag, length)| match tag {
                b'x' => Vec::new(),
                b'y' => b"replaced".to_vec(),
                tag => message(*tag, &vec![*tag; *length]),
            }).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut direction = Direction::new(&b""[..], Vec::new(), BytesMut::new());
            let (mut watcher, mut batch) = (Picky::default(), Batch::default());
            let (mut rest, mut sizes) = (stream.as_slice(), pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                direction.inbox.extend_from_slice(piece);
                direction.scan(&mut watcher, &mut batch).unwrap();
                runtime.block_on(direction.pass_on(&mut batch, nowhere)).unwrap();
                rest = after;
            }
            prop_assert_eq!(&direction.writer, &expected);
            prop_assert!(direction.between_frames().is_some());
            let lengths: Vec<_> = frames.iter().map(|(tag, length)| (*tag, u32::try_from(*length).unwrap())).collect();
            prop_assert_eq!(watcher.seen, lengths);
            prop_assert_eq!(watcher.bytes, frames.iter().map(|(_, length)| length).sum::<usize>());
        }
    }
}
