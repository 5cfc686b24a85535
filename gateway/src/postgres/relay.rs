//! The hot path: frames go from one side to the other as they come, many at a time.
//!
//! A direction reads as much as there is, looks at the headers of what it read, at the beginnings of what somebody wants to
//! see, and writes the lot with one call. Only a frame that somebody wants to see whole waits for its end. A row of a
//! gigabyte passes in pieces; a side that takes nothing stops the other.
//!
//! INVARIANT: nothing is handed to either side once a recording that is required has failed.

mod batch;

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::future::{TryFutureExt, try_join};
use sallyport_recorder::Event;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::wire::{BadFrame, Frame, HEAD_MAX, HEADER, Header};
use crate::failure::Failure;
use crate::session::Session;

use batch::Batch;

/// One direction of a session.
pub(super) struct Direction<R, W> {
    reader: R,
    writer: W,
    inbox: BytesMut,
    /// Bytes of the frame under way that have not come yet.
    rest: usize,
    /// Whether they are passed on.
    passing: bool,
    /// What is being written.
    batch: Batch,
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

/// What is written down of a session, to the directions that it has.
pub(super) trait Recorded {
    /// Writes `events` down, taking each out once that is done.
    fn write_down(&self, events: &mut Vec<Event>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Asked before anything is handed over, and so it has to cost nothing while all is well.
    ///
    /// # Errors
    /// [`Failure::Recording`] once nothing more may be carried.
    fn holds(&self) -> Result<(), Failure>;
}

impl Recorded for Session {
    async fn write_down(&self, events: &mut Vec<Event>) -> Result<(), Failure> {
        self.record_all(events).await
    }

    fn holds(&self) -> Result<(), Failure> {
        self.recording_holds()
    }
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

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    /// From `reader`, of which `inbox` was read already, to `writer`.
    pub(super) fn new(reader: R, writer: W, inbox: BytesMut) -> Self {
        Self {
            reader,
            writer,
            inbox,
            rest: 0,
            passing: true,
            batch: Batch::default(),
            appetite: APPETITE_LEAST,
            unwritten: Vec::new(),
        }
    }

    /// Carries frames until the side that is read has no more, or its watcher wants no more.
    ///
    /// # Errors
    /// What stopped it before.
    pub(super) async fn run(&mut self, session: &Session, watcher: &mut impl Watcher) -> Result<(), Stopped> {
        let mut now = Instant::now();
        loop {
            watcher.begins(now);
            self.scan(watcher)?;
            self.pass_on(session).await?;
            if watcher.is_done() {
                return Ok(());
            }
            if self.batch.full {
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

    /// Takes what the side that is read still sends, and does nothing with it, until it has closed or a moment is over: closing
    /// with something unread would have the kernel take back what that side was told last.
    pub(super) async fn pass_over(&mut self) {
        let passing_over = async {
            loop {
                self.inbox.clear();
                if !matches!(self.reader.read_buf(&mut self.inbox).await, Ok(1..)) {
                    return;
                }
            }
        };
        let _ = timeout(CLOSING, passing_over).await;
    }

    /// The side that is written to, if what it has been sent ends with a whole frame, in the middle of a batch as well.
    pub(super) fn between_frames(&mut self) -> Option<&mut W> {
        self.batch.ends_whole(&self.inbox).then_some(&mut self.writer)
    }

    /// Looks at what has come.
    fn scan(&mut self, watcher: &mut impl Watcher) -> Result<(), BadFrame> {
        let batch = &mut self.batch;
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
                Fate::Replace(bytes) => batch.put(bytes),
                Fate::Drop => {}
            }
            self.rest = length - here;
            at = end;
        }
        batch.taken = at;
        Ok(())
    }

    /// Writes what is passed on, and what was seen down, side by side, in either direction: nobody waits for an event to be
    /// made, and a side that takes nothing keeps nothing of what was done out of the record.
    async fn pass_on(&mut self, recorded: &impl Recorded) -> Result<(), Stopped> {
        let seen = recorded.write_down(&mut self.unwritten).map_err(Stopped::Recording);
        if self.batch.is_empty() {
            seen.await?;
        } else {
            let written = self.batch.write(&self.inbox, &mut self.writer, recorded);
            // The first one is polled first: the bytes are on their way before an event is made.
            try_join(written, seen).await?;
            self.batch.done(if self.passing { self.rest } else { 0 });
        }
        self.inbox.advance(self.batch.taken);
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

/// The most events of one look; they are written down before the next: each may hold the text of a statement, and thousands of
/// short answers come with one read.
const EVENTS_FULL: usize = 128;
/// How long a side may take to hear that there is no more, and to say that it has heard.
const CLOSING: Duration = Duration::from_millis(500);
/// Reads of a connection that is quiet, in bytes.
const APPETITE_LEAST: usize = 8 * 1024;
/// Reads of a connection that streams, in bytes.
const APPETITE_MOST: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use futures::future::FutureExt;
    use proptest::prelude::*;
    use tokio::io::DuplexStream;

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
                b'y' => Fate::Replace(replaced()),
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

    fn replaced() -> Vec<u8> {
        message(b'r', b"replaced")
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

    /// What a session's events go to.
    #[derive(Default)]
    struct Book {
        written: AtomicUsize,
        /// It takes nothing for now.
        stuck: bool,
        /// The next event will not be written.
        fails: bool,
        /// It is known that nothing is written any more.
        failed: AtomicBool,
    }

    impl Recorded for Book {
        async fn write_down(&self, events: &mut Vec<Event>) -> Result<(), Failure> {
            if self.stuck {
                std::future::pending::<()>().await;
            }
            if self.fails {
                return Err(Failure::Recording("the disk is full".into()));
            }
            self.written.fetch_add(events.drain(..).count(), Ordering::Relaxed);
            Ok(())
        }

        fn holds(&self) -> Result<(), Failure> {
            match self.failed.load(Ordering::Relaxed) {
                true => Err(Failure::Recording("the disk was full".into())),
                false => Ok(()),
            }
        }
    }

    /// A direction that has looked at `frames`, towards a side that takes `room` bytes before they are read.
    fn looked_at(frames: &[u8], room: usize) -> (Direction<&'static [u8], DuplexStream>, DuplexStream) {
        let (to, from) = tokio::io::duplex(room);
        let mut direction = Direction::new(&b""[..], to, BytesMut::from(frames));
        direction.scan(&mut Talkative).unwrap();
        (direction, from)
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_its_event_and_an_event_not_for_a_side_that_takes_nothing() {
        let frames = message(b'C', b"SET\0");
        let (mut direction, mut from) = looked_at(&frames, frames.len());
        let full = Book { stuck: true, ..Book::default() };
        assert!(futures::poll!(pin!(direction.pass_on(&full))).is_pending());
        let mut passed = vec![0; frames.len()];
        let read = from.read_exact(&mut passed).now_or_never();
        assert!(read.is_some_and(|read| read.is_ok()) && passed == frames);

        let (mut direction, _from) = looked_at(&frames, 1);
        let book = Book::default();
        assert!(futures::poll!(pin!(direction.pass_on(&book))).is_pending());
        assert!(book.written.into_inner() == 1 && direction.between_frames().is_none());
    }

    #[tokio::test]
    async fn a_recording_that_fails_is_not_held_up_by_a_side_that_takes_nothing() {
        let (mut direction, _from) = looked_at(&message(b'C', b"SET\0"), 1);
        let book = Book { fails: true, ..Book::default() };
        let passed = direction.pass_on(&book).now_or_never();
        assert!(matches!(passed, Some(Err(Stopped::Recording(_)))));
    }

    #[tokio::test]
    async fn nothing_is_written_once_a_recording_is_known_to_have_failed() {
        let (mut direction, mut from) = looked_at(&message(b'C', b"SET\0"), 100);
        let book = Book { failed: true.into(), stuck: true, ..Book::default() };
        let passed = direction.pass_on(&book).now_or_never();
        assert!(matches!(passed, Some(Err(Stopped::Recording(_)))));
        assert!(direction.between_frames().is_some(), "there is somebody to tell");
        assert!(from.read_u8().now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_waits_when_a_recording_fails_is_not_written_and_a_client_between_frames_is_told() {
        let frames = message(b'C', b"SET\0").repeat(3);
        for (name, room, told) in
            [("one frame", 9, true), ("two", 18, true), ("half a header", 3, false), ("half a frame", 16, false)]
        {
            let (mut direction, mut from) = looked_at(&frames, room);
            let book = Book::default();
            {
                let mut passing = pin!(direction.pass_on(&book));
                assert!(futures::poll!(&mut passing).is_pending(), "{name}");
                book.failed.store(true, Ordering::Relaxed);
                // There is room again.
                from.read_exact(&mut vec![0; room]).await.unwrap();
                assert!(matches!(passing.now_or_never(), Some(Err(Stopped::Recording(_)))), "{name}");
            }
            assert_eq!(direction.between_frames().is_some(), told, "{name}");
            drop(direction);
            assert_eq!(from.read(&mut [0; 1]).await.unwrap(), 0, "{name}: more was written");
        }
    }

    #[test]
    fn what_is_to_be_written_down_does_not_pile_up() {
        let frames = message(b'C', b"SET\0").repeat(1_000);
        let mut direction = Direction::new(&b""[..], Vec::new(), BytesMut::from(frames.as_slice()));
        let (book, mut looks) = (Book::default(), 0);
        loop {
            direction.scan(&mut Talkative).unwrap();
            assert!(direction.unwritten.len() <= EVENTS_FULL);
            looks += 1;
            direction.pass_on(&book).now_or_never().unwrap().unwrap();
            if !direction.batch.full {
                break;
            }
        }
        assert_eq!((looks, book.written.into_inner(), direction.writer == frames), (8, 1_000, true));
    }

    /// Takes so many bytes, and no more.
    #[derive(Default)]
    struct Narrow {
        taken: Vec<u8>,
        most: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.most - self.taken.len());
            self.taken.extend_from_slice(&bytes[..taken]);
            if taken > 0 { Poll::Ready(Ok(taken)) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frames() -> impl Strategy<Value = Vec<(u8, usize)>> {
        proptest::collection::vec((prop::sample::select(&b"QDdxyZ"[..]), 0_usize..3_000), 0..30)
    }

    /// What becomes of each frame where [`Picky`] looks.
    fn passed(frames: &[(u8, usize)]) -> impl Iterator<Item = Vec<u8>> {
        frames.iter().map(|(tag, length)| match tag {
            b'x' => Vec::new(),
            b'y' => replaced(),
            tag => message(*tag, &vec![*tag; *length]),
        })
    }

    fn sent(frames: &[(u8, usize)]) -> Vec<u8> {
        frames.iter().flat_map(|(tag, length)| message(*tag, &vec![*tag; *length])).collect()
    }

    proptest! {
        #[test]
        fn frames_pass_in_order_however_they_are_cut(
            frames in frames(),
            pieces in proptest::collection::vec(1_usize..900, 1..40),
        ) {
            let stream = sent(&frames);
            let mut direction = Direction::new(&b""[..], Vec::new(), BytesMut::new());
            let (mut watcher, book) = (Picky::default(), Book::default());
            let (mut rest, mut sizes) = (stream.as_slice(), pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                direction.inbox.extend_from_slice(piece);
                direction.scan(&mut watcher).unwrap();
                direction.pass_on(&book).now_or_never().unwrap().unwrap();
                rest = after;
            }
            prop_assert_eq!(&direction.writer, &passed(&frames).flatten().collect::<Vec<_>>());
            prop_assert!(direction.between_frames().is_some());
            let lengths: Vec<_> = frames.iter().map(|(tag, length)| (*tag, u32::try_from(*length).unwrap())).collect();
            prop_assert_eq!(watcher.seen, lengths);
            prop_assert_eq!(watcher.bytes, frames.iter().map(|(_, length)| length).sum::<usize>());
        }

        #[test]
        fn it_is_known_whether_a_frame_is_whole_wherever_a_write_stops(
            frames in frames(),
            (first, stop, beside) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..7),
        ) {
            let stream = sent(&frames);
            let (first, second) = stream.split_at(first.index(stream.len() + 1));
            let writer = Narrow { most: usize::MAX, ..Narrow::default() };
            let mut direction = Direction::new(&b""[..], writer, BytesMut::new());
            let (mut watcher, book) = (Picky::default(), Book::default());
            direction.inbox.extend_from_slice(first);
            direction.scan(&mut watcher).unwrap();
            direction.pass_on(&book).now_or_never().unwrap().unwrap();
            let begun = direction.writer.taken.len();
            let mut ends = vec![0];
            ends.extend(passed(&frames).scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            }));
            // At the end of a frame that is not written yet, or a few bytes behind it.
            let ahead: Vec<usize> = ends.iter().copied().filter(|end| *end >= begun).collect();
            direction.writer.most = stop.get(&ahead) + beside.saturating_sub(3);
            direction.inbox.extend_from_slice(second);
            direction.scan(&mut watcher).unwrap();
            let _stopped = direction.pass_on(&book).now_or_never();
            let at = direction.writer.taken.len();
            prop_assert_eq!(direction.between_frames().is_some(), ends.contains(&at), "after {} bytes", at);
        }
    }
}
