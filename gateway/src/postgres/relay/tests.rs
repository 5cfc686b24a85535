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
    type Look<'a> = &'a mut Self;

    fn look(&mut self, _: Instant) -> &mut Self {
        self
    }

    async fn room(&self) {}

    fn is_done(&self) -> bool {
        false
    }
}

impl Look for &mut Picky {
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
}

fn replaced() -> Vec<u8> {
    message(b'r', b"replaced")
}

/// Has something to write down of everything.
struct Talkative;

impl Look for Talkative {
    fn wants(&self, _: Header) -> usize {
        0
    }

    fn sees(&mut self, _: Frame<'_>, _: &[u8], events: &mut Vec<Event>) -> Fate {
        events.push(Event::DatabaseCancel);
        Fate::Pass
    }

    fn sees_more(&mut self, _: &[u8]) {}
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
    direction.scan(Talkative).unwrap();
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
        direction.scan(Talkative).unwrap();
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
            direction.scan(watcher.look(Instant::now())).unwrap();
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
        direction.scan(watcher.look(Instant::now())).unwrap();
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
        direction.scan(watcher.look(Instant::now())).unwrap();
        let _stopped = direction.pass_on(&book).now_or_never();
        let at = direction.writer.taken.len();
        prop_assert_eq!(direction.between_frames().is_some(), ends.contains(&at), "after {} bytes", at);
    }
}
