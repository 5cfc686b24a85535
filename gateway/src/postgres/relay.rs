//! The hot path: frames go from one side to the other as they come, many at a time.
//!
//! A direction reads as much as there is, looks at the headers of what it read, at the beginnings of what somebody wants to
//! see, and writes the lot with one call. Only a frame that somebody wants to see whole waits for its end. A row of a
//! gigabyte passes in pieces; a side that takes nothing stops the other.
//!
//! INVARIANT: nothing is handed to either side's transport once a recording that is required has failed. What lies in TLS's
//! buffer by then, 64 kB at most, was handed over before.

mod batch;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::future::{TryFutureExt, try_join};
use futures::poll;
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
    /// One look at what has come.
    type Look<'a>: Look
    where
        Self: 'a;

    /// Begins to look at what came at `now`.
    fn look(&mut self, now: Instant) -> Self::Look<'_>;

    /// Waits while so much is unanswered that no more should be read.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Whether nothing more is to be carried.
    fn is_done(&self) -> bool;
}

/// Sees frames one after the other.
pub(super) trait Look {
    /// How much of a payload has to be at hand before it is seen, in bytes.
    fn wants(&self, header: Header) -> usize;

    /// Sees a frame and says what becomes of it; what is to be recorded goes to `events`. Of its payload, `at_hand` is what
    /// it wanted, or all there is.
    fn sees(&mut self, frame: Frame<'_>, at_hand: &[u8], events: &mut Vec<Event>) -> Fate;

    /// Sees the rest of a frame that is longer than its head, as it comes.
    fn sees_more(&mut self, bytes: &[u8]);
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
            self.scan(watcher.look(now))?;
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

    /// Takes out what was seen and is not written down yet.
    pub(super) fn unwritten(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.unwritten)
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
    fn scan(&mut self, mut look: impl Look) -> Result<(), BadFrame> {
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
                look.sees_more(left.get(..more).unwrap_or_default());
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
            if at_hand.len() < look.wants(header).min(length) {
                break;
            }
            let here = length.min(at_hand.len());
            let head = at_hand.get(..here.min(HEAD_MAX)).unwrap_or_default();
            let frame = Frame { tag: header.tag, length: header.length, head };
            let fate = look.sees(frame, at_hand.get(..here).unwrap_or_default(), &mut self.unwritten);
            if here > head.len() {
                look.sees_more(at_hand.get(head.len()..here).unwrap_or_default());
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
            {
                let mut written = pin!(self.batch.write(&self.inbox, &mut self.writer, recorded));
                // The bytes are on their way before an event is made.
                match poll!(written.as_mut()) {
                    Poll::Ready(written) => {
                        written?;
                        seen.await?;
                    }
                    Poll::Pending => _ = try_join(written, seen).await?,
                }
            }
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
