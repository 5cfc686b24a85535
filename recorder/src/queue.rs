//! The queue between a session and its writer. Bounded in bytes: when it is full, whoever records waits, and so the
//! session slows down to the speed of the disk. Nothing is dropped.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::Instant,
};

use crate::{End, RecorderError, Sealed, StreamId, TerminalHeader};

/// Most bytes that wait for the writer in one session.
pub const QUEUE_BYTES: usize = 1 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 128;

/// What a session tells its writer.
pub(crate) enum Message {
    /// An event as JSON, without its time.
    Event(Vec<u8>),
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
        OVERHEAD
            + match self {
                Self::Event(line) => line.len(),
                Self::Output(_, bytes) => bytes.len(),
                _ => 0,
            }
    }
}

/// A message with the time at which it got its place, and the room that it takes until it is written.
pub(crate) struct Queued {
    pub(crate) at_us: u64,
    pub(crate) message: Message,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// The queue, the clock, and whether recording has failed.
pub(crate) struct Queue {
    started: Instant,
    room: Arc<Semaphore>,
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
    /// Nobody takes messages out any more.
    ended: bool,
}

impl Queue {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            inner: Mutex::default(),
            ready: Notify::new(),
            failure: watch::Sender::new(None),
            viewed: watch::Sender::new(None),
        }
    }

    /// Waits for room and adds the message. Cancel-safe: a call that was given up has added nothing.
    pub(crate) async fn push(&self, message: Message) -> Result<(), RecorderError> {
        let cost = message.cost().min(QUEUE_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(crate::segment::narrow(cost)).await;
        let room = room.map_err(|_closed| self.error())?;
        self.insert(message, Some(room))
    }

    /// Adds a message that takes no room and needs none: the last ones of a stream or a recording.
    pub(crate) fn push_last(&self, message: Message) {
        // On a recording that has ended there is nothing left to end.
        let _ = self.insert(message, None);
    }

    fn insert(&self, message: Message, room: Option<OwnedSemaphorePermit>) -> Result<(), RecorderError> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(self.error());
        }
        // The time is taken under the lock, so that times never run backwards along the queue.
        let at_us = self.now_us();
        inner.bytes += message.cost();
        let wake = inner.bytes >= inner.enough || message.is_last();
        inner.waiting.push_back(Queued { at_us, message, room });
        drop(inner);
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Takes a number for a stream; each number can be taken once.
    pub(crate) fn take(&self, id: StreamId) -> Result<(), RecorderError> {
        if self.lock().taken.insert(id) { Ok(()) } else { Err(RecorderError::Exists { file: id.to_string() }) }
    }

    /// Adds the closing message, after which nothing more is let in.
    pub(crate) fn close(&self, message: Message) -> Result<(), RecorderError> {
        if self.room.is_closed() {
            return Err(self.error());
        }
        self.room.close();
        self.insert(message, None)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// The next message.
    pub(crate) fn pop(&self) -> Option<Queued> {
        let mut inner = self.lock();
        let next = inner.waiting.pop_front()?;
        inner.bytes -= next.message.cost();
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
                if inner.bytes >= enough || inner.waiting.back().is_some_and(|queued| queued.message.is_last()) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        drop(queue.pop().unwrap());
        drop(queue.pop().unwrap());
        assert!(!waits(&queue).await, "a place is free");
    }

    #[tokio::test]
    async fn a_message_larger_than_the_queue_passes_alone() {
        let queue = Queue::new(Instant::now());
        queue.push(kilobytes(3 << 10)).await.unwrap();
        assert!(waits(&queue).await);
        drop(queue.pop());
        assert!(!waits(&queue).await);
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_adds_nothing() {
        let queue = Queue::new(Instant::now());
        queue.push(kilobytes(1 << 10)).await.unwrap();
        assert!(waits(&queue).await);
        drop(queue.pop());
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
}
