//! The queue between a session and its writer. Bounded in bytes: when it is full, whoever records waits, and so the
//! session slows down to the speed of the disk. Nothing is dropped.

use std::{
    collections::{HashSet, VecDeque},
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError, oneshot, watch},
    time::Instant,
};

use crate::{End, RecorderError, Sealed, StreamId, TerminalHeader};

/// Most bytes that wait for the writer in one session.
pub const QUEUE_BYTES: usize = 1 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 128;
/// Events that come one after the other lie together until they are as many bytes, so that taking them in costs one message.
const LOT: usize = 32 << 10;
/// What an event costs beside its JSON: the time before it, of 20 digits at the most, and the line's end.
const STAMP: usize = 32;

/// What a session tells its writer.
pub(crate) enum Message {
    /// Events as lines of JSON, each with its time, and the time of the first.
    Events(Vec<u8>, u64),
    /// A terminal begins.
    Terminal(StreamId, Box<TerminalHeader>),
    /// A terminal has a new size.
    Resize(StreamId, u16, u16),
    /// Bytes of a terminal or a channel.
    Output(StreamId, Bytes),
    /// Nothing more comes on this stream.
    Finish(StreamId),
    /// Seal the recording and say how it went.
    Close(End, oneshot::Sender<Result<Sealed, RecorderError>>),
    /// Every handle is gone and nobody closed: keep what there is, unsealed.
    Abandon,
}

impl Message {
    /// Whether nothing can come after it.
    fn is_last(&self) -> bool {
        matches!(self, Self::Close(..) | Self::Abandon)
    }

    /// The room that it takes.
    pub(crate) fn cost(&self) -> usize {
        OVERHEAD + if let Self::Output(_, bytes) = self { bytes.len() } else { 0 }
    }
}

/// A message with the time at which it got its place (of events the last one's), and the bytes that it counts for until it
/// is written.
pub(crate) struct Queued {
    pub(crate) at_us: u64,
    pub(crate) message: Message,
    pub(crate) bytes: usize,
    /// What is free again when it is written: see [`Queue::free`].
    pub(crate) room: usize,
}

/// The queue, the clock, and whether recording has failed.
pub(crate) struct Queue {
    started: Instant,
    room: Semaphore,
    inner: Mutex<Inner>,
    ready: Notify,
    failure: watch::Sender<Option<RecorderError>>,
    /// Until when somebody looks on, and whoever has to know that it changed.
    viewed: watch::Sender<Option<Instant>>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Queued>,
    bytes: usize,
    /// The writer is not woken for fewer bytes than these.
    enough: usize,
    taken: HashSet<StreamId>,
    /// The last message is in, or was: nothing may lie behind it, where it would be lost.
    closed: bool,
    /// Nobody takes messages out any more.
    ended: bool,
}

impl Queue {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            room: Semaphore::new(QUEUE_BYTES),
            inner: Mutex::default(),
            ready: Notify::new(),
            failure: watch::Sender::new(None),
            viewed: watch::Sender::new(None),
        }
    }

    /// Waits for room and adds the message. Cancel-safe: a call that was given up has added nothing.
    pub(crate) async fn push(&self, message: Message) -> Result<(), RecorderError> {
        let room = self.take_room(message.cost()).await?;
        self.insert(message, room)
    }

    /// Waits for room and adds an event, which is JSON without its time. Cancel-safe: a call that was given up has added
    /// nothing.
    pub(crate) async fn push_event(&self, json: &[u8]) -> Result<(), RecorderError> {
        let room = self.take_room(json.len() + STAMP).await?;
        self.insert_event(json, room)
    }

    /// Adds an event where there is room for it now; whether there was.
    pub(crate) fn try_push_event(&self, json: &[u8]) -> Result<bool, RecorderError> {
        let room = (json.len() + STAMP).min(QUEUE_BYTES);
        match self.room.try_acquire_many(crate::segment::narrow(room)) {
            Ok(taken) => taken.forget(),
            Err(TryAcquireError::NoPermits) => return Ok(false),
            Err(TryAcquireError::Closed) => return Err(self.error()),
        }
        self.insert_event(json, room).map(|()| true)
    }

    /// Waits for as much room, which is free again by [`Queue::free`].
    async fn take_room(&self, cost: usize) -> Result<usize, RecorderError> {
        let room = cost.min(QUEUE_BYTES);
        let taken = self.room.acquire_many(crate::segment::narrow(room)).await;
        taken.map_err(|_closed| self.error())?.forget();
        Ok(room)
    }

    /// As much room is free again.
    pub(crate) fn free(&self, room: usize) {
        self.room.add_permits(room);
    }

    /// Adds a message that takes no room and needs none: the last ones of a stream or a recording.
    pub(crate) fn push_last(&self, message: Message) {
        // On a recording that has ended there is nothing left to end.
        let _ = self.insert(message, 0);
    }

    fn insert(&self, message: Message, room: usize) -> Result<(), RecorderError> {
        let mut inner = self.open()?;
        // The time is taken under the lock, so that times never run backwards along the queue.
        let at_us = self.now_us();
        let (bytes, last) = (message.cost(), message.is_last());
        inner.closed = last;
        inner.waiting.push_back(Queued { at_us, message, bytes, room });
        self.inserted(inner, bytes, last);
        Ok(())
    }

    fn insert_event(&self, json: &[u8], room: usize) -> Result<(), RecorderError> {
        let mut inner = self.open()?;
        let at_us = self.now_us();
        let bytes = json.len() + STAMP;
        let fits = |queued: &&mut Queued| matches!(&queued.message, Message::Events(lines, _) if lines.len() < LOT);
        match inner.waiting.back_mut().filter(fits) {
            Some(Queued { message: Message::Events(lines, _), at_us: last_us, bytes: all, room: taken }) => {
                add_line(lines, at_us, json);
                (*last_us, *all, *taken) = (at_us, *all + bytes, *taken + room);
            }
            _ => {
                let mut lines = Vec::with_capacity(bytes);
                add_line(&mut lines, at_us, json);
                inner.waiting.push_back(Queued { at_us, message: Message::Events(lines, at_us), bytes, room });
            }
        }
        self.inserted(inner, bytes, false);
        Ok(())
    }

    /// What waits, while something can be added to it.
    fn open(&self) -> Result<MutexGuard<'_, Inner>, RecorderError> {
        let inner = self.lock();
        if inner.ended || inner.closed { Err(self.error()) } else { Ok(inner) }
    }

    /// Wakes the writer if that is worth it.
    fn inserted(&self, mut inner: MutexGuard<'_, Inner>, bytes: usize, last: bool) {
        inner.bytes += bytes;
        let wake = inner.bytes >= inner.enough || last;
        drop(inner);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Takes a number for a stream; each number can be taken once.
    pub(crate) fn take(&self, id: StreamId) -> Result<(), RecorderError> {
        if self.lock().taken.insert(id) { Ok(()) } else { Err(RecorderError::Exists { file: id.to_string() }) }
    }

    /// Adds the closing message, after which nothing more is let in.
    pub(crate) fn close(&self, message: Message) -> Result<(), RecorderError> {
        if self.is_closed() {
            return Err(self.error());
        }
        self.room.close();
        self.insert(message, 0)
    }

    /// Whether nothing more is let in.
    pub(crate) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// The next message.
    pub(crate) fn pop(&self) -> Option<Queued> {
        let mut inner = self.lock();
        let next = inner.waiting.pop_front()?;
        inner.bytes -= next.bytes;
        if inner.waiting.is_empty() {
            inner.waiting.shrink_to(4);
        }
        Some(next)
    }

    /// Somebody looks on until then; says whether nobody did so before.
    pub(crate) fn view_until(&self, until: Instant) -> bool {
        self.viewed.send_if_modified(|viewed| {
            // Whoever is looked at already needs no word for each time that it is said again.
            let new = viewed.is_none_or(|viewed| viewed < Instant::now());
            *viewed = (*viewed).max(Some(until));
            new
        })
    }

    /// Whether somebody looks on, now and when that changes.
    pub(crate) fn viewers(&self) -> watch::Receiver<Option<Instant>> {
        self.viewed.subscribe()
    }

    /// Waits until `enough` bytes wait, or the last message does, and says how many. Being woken is dearer than most of
    /// what is written, so a writer that will come back anyway asks for many. Cancel-safe.
    pub(crate) async fn ready(&self, enough: usize) -> usize {
        loop {
            let ready = self.ready.notified();
            {
                let mut inner = self.lock();
                inner.enough = enough;
                if inner.bytes >= enough || inner.closed {
                    return inner.bytes;
                }
            }
            ready.await;
        }
    }

    /// Microseconds since the session's start.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends recording: every call from now on, and every one that waits, returns this error.
    pub(crate) fn fail(&self, error: RecorderError) {
        self.failure.send_if_modified(|failure| failure.is_none() && failure.replace(error).is_none());
        self.room.close();
        *self.lock() = Inner { ended: true, ..Inner::default() };
    }

    /// Why nothing can be added.
    pub(crate) fn error(&self) -> RecorderError {
        self.failure.borrow().clone().unwrap_or(RecorderError::Closed)
    }

    pub(crate) fn failure(&self) -> watch::Receiver<Option<RecorderError>> {
        self.failure.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds an event's line.
pub(crate) fn add_line(lines: &mut Vec<u8>, at_us: u64, json: &[u8]) {
    // Into memory, which cannot fail.
    let _ = write!(lines, "{{\"at_us\":{at_us},");
    lines.extend_from_slice(json.strip_prefix(b"{").unwrap_or(json));
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn kilobytes(count: usize) -> Message {
        Message::Output(StreamId::Stdout(0), Bytes::from(vec![0; count << 10]))
    }

    async fn waits(queue: &Queue) -> bool {
        tokio::time::timeout(Duration::from_millis(50), queue.push(kilobytes(64))).await.is_err()
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_session_wait_and_memory_stays_bounded() {
        let queue = Queue::new(Instant::now());
        let mut pushed = 0;
        while !waits(&queue).await {
            pushed += 64 << 10;
            assert!(pushed <= QUEUE_BYTES, "the queue takes in more than its limit");
        }
        assert!(pushed >= QUEUE_BYTES / 2);
        assert!(waits(&queue).await, "still full");
        queue.free(queue.pop().unwrap().room);
        queue.free(queue.pop().unwrap().room);
        assert!(!waits(&queue).await, "a place is free");
    }

    #[tokio::test]
    async fn a_message_larger_than_the_queue_passes_alone() {
        let queue = Queue::new(Instant::now());
        queue.push(kilobytes(3 << 10)).await.unwrap();
        assert!(waits(&queue).await);
        queue.free(queue.pop().unwrap().room);
        assert!(!waits(&queue).await);
    }

    #[tokio::test]
    async fn events_lie_together_in_their_order_and_take_room_each() {
        let queue = Queue::new(Instant::now());
        for _event in 0..3 {
            assert!(queue.try_push_event(b"{\"type\":\"database_cancel\"}").unwrap());
        }
        queue.push(kilobytes(1)).await.unwrap();
        queue.push_event(b"{\"type\":\"resumed\"}").await.unwrap();
        let first = queue.pop().unwrap();
        let Message::Events(lines, from_us) = first.message else { panic!() };
        let lines: Vec<serde_json::Value> =
            lines.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        let times: Vec<_> = lines.iter().map(|line| line["at_us"].as_u64().unwrap()).collect();
        assert!(times.is_sorted() && times[0] == from_us && times[2] == first.at_us, "{times:?}");
        assert_eq!((first.room, first.bytes), (3 * (26 + STAMP), 3 * (26 + STAMP)));
        assert!(matches!(queue.pop().unwrap().message, Message::Output(..)));
        assert!(matches!(queue.pop().unwrap().message, Message::Events(..)));
        assert!(queue.is_empty() && queue.lock().bytes == 0);

        let event = vec![b'x'; 10_000];
        let mut pushed = 0;
        while queue.try_push_event(&event).unwrap() {
            pushed += event.len();
            assert!(pushed <= QUEUE_BYTES, "the queue takes in more than its limit");
        }
        let mut freed = 0;
        while let Some(queued) = queue.pop() {
            let Message::Events(lines, _) = queued.message else { panic!() };
            assert!(lines.len() < LOT + event.len() + STAMP);
            freed += queued.room;
        }
        assert!(freed > QUEUE_BYTES - event.len() - STAMP && freed >= pushed);
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_adds_nothing() {
        let queue = Queue::new(Instant::now());
        queue.push(kilobytes(1 << 10)).await.unwrap();
        assert!(waits(&queue).await);
        queue.free(queue.pop().unwrap().room);
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_writer_that_wants_many_bytes_is_woken_by_many_or_by_the_last_message() {
        let queue = Arc::new(Queue::new(Instant::now()));
        let woken = |queue: &Arc<Queue>| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move { queue.ready(128 << 10).await })
        };
        let many = woken(&queue);
        tokio::task::yield_now().await;
        queue.push(kilobytes(64)).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!many.is_finished(), "it was woken for little");
        queue.push(kilobytes(64)).await.unwrap();
        assert!(many.await.unwrap() >= 128 << 10);

        while queue.pop().is_some() {}
        let last = woken(&queue);
        tokio::task::yield_now().await;
        queue.push_last(Message::Abandon);
        assert!(last.await.unwrap() < 1 << 10);
        assert!(woken(&queue).await.unwrap() < 1 << 10, "the last message is there whoever comes to wait");
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_a_failure() {
        let queue = Arc::new(Queue::new(Instant::now()));
        queue.push(kilobytes(1 << 10)).await.unwrap();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push(kilobytes(1)).await }
        });
        tokio::task::yield_now().await;
        queue.fail(RecorderError::Stopped);
        assert!(matches!(waiting.await.unwrap(), Err(RecorderError::Stopped)));
        assert!(matches!(queue.push(kilobytes(1)).await, Err(RecorderError::Stopped)));
    }

    #[tokio::test]
    async fn nothing_lies_behind_the_last_message() {
        let queue = Arc::new(Queue::new(Instant::now()));
        queue.push_event(b"{\"type\":\"resumed\"}").await.unwrap();
        // Whoever has got its room and is overtaken by the end has recorded nothing, and hears so.
        let room = queue.take_room(64).await.unwrap();
        let end = End {
            outcome: crate::Outcome::Completed,
            reason: String::new(),
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let close = || Message::Close(end.clone(), oneshot::channel().0);
        queue.close(close()).unwrap();
        assert!(matches!(queue.insert_event(b"{}", room), Err(RecorderError::Closed)));
        assert!(matches!(queue.close(close()), Err(RecorderError::Closed)));
        queue.push_last(Message::Finish(StreamId::Stdout(0)));
        let ready = tokio::time::timeout(Duration::from_secs(5), queue.ready(128 << 10)).await;
        assert!(ready.is_ok(), "the writer hears of the end, whatever came after it");
        assert!(matches!(queue.pop().unwrap().message, Message::Events(..)));
        assert!(matches!(queue.pop().unwrap().message, Message::Close(..)));
        assert!(queue.is_empty());
    }
}
