//! The task of one recording: queue → writer, and a sync within a second of anything new. Small things are taken in on
//! the spot; whatever compresses, hashes or touches the disk runs where blocking is allowed. A clean recording has no
//! timer and no thread.

use std::{future::pending, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use crate::{
    Checkpoint, FLUSH_AFTER, Head, RecorderError,
    queue::{QUEUE_BYTES, Queue},
    writer::{Ending, SEGMENT, Sync, Writer},
};

/// How long something new may wait for its sync to begin; the rest of the promised second is the disk's.
const SYNC_AFTER: Duration = Duration::from_millis(600);
/// Up to so many bytes are taken in on the spot.
const ON_THE_SPOT: usize = 16 << 10;
/// While a sync is due and nobody looks on, what is recorded meanwhile waits for it, up to so many bytes: half of the queue,
/// so that the session fills the other half while this one is written.
const BATCH: usize = QUEUE_BYTES / 2;

pub(crate) struct Driver {
    pub(crate) queue: Arc<Queue>,
    pub(crate) checkpoints: watch::Sender<Option<Checkpoint>>,
    pub(crate) started: Timestamp,
}

impl Driver {
    /// Runs until the recording is closed, abandoned or has failed.
    pub(crate) async fn run(self, writer: Writer) {
        if let Err(error) = self.drive(writer).await {
            tracing::error!(%error, "a recording has failed");
            self.queue.fail(error);
        }
    }

    async fn drive(&self, mut writer: Writer) -> Result<(), RecorderError> {
        let mut syncing: Option<JoinHandle<Result<Head, RecorderError>>> = None;
        let mut due: Option<Instant> = None;
        let mut viewers = self.queue.viewers();
        let mut flush: Option<Instant> = None;
        loop {
            let timer = due.filter(|_| syncing.is_none());
            let viewed = viewers.borrow().is_some_and(|until| Instant::now() < until);
            let enough = if due.is_none() || viewed { 1 } else { BATCH };
            let ending;
            tokio::select! {
                bytes = self.queue.ready(enough) => {
                    (writer, ending) = self.take_in(writer, bytes, timer).await?;
                }
                () = async { match timer { Some(at) => sleep_until(at).await, None => pending().await } } => {
                    let sync;
                    (writer, ending, sync) = self.cut(writer).await?;
                    due = None;
                    syncing = Some(spawn_blocking(move || sync.run()));
                }
                () = async { match flush { Some(at) => sleep_until(at).await, None => pending().await } } => {
                    writer = blocking(move || { writer.cut_for_viewers()?; Ok(writer) }).await?;
                    (flush, ending) = (None, None);
                }
                _ = viewers.changed() => ending = None,
                synced = async { match &mut syncing { Some(task) => task.await, None => pending().await } } => {
                    (syncing, ending) = (None, None);
                    self.checkpoint(synced.map_err(|_| RecorderError::Stopped)??);
                }
            }
            if let Some(ending) = ending {
                if let Some(task) = syncing.take() {
                    task.await.map_err(|_| RecorderError::Stopped)??;
                }
                return self.end(writer, ending).await;
            }
            let now = Instant::now();
            if due.is_none() && writer.is_dirty() {
                due = Some(now + SYNC_AFTER);
            }
            if flush.is_none() && writer.has_any() && viewers.borrow_and_update().is_some_and(|until| now < until) {
                flush = Some(now + FLUSH_AFTER);
            }
        }
    }

    /// Empties the queue into the writer; stops early when a sync is due.
    async fn take_in(
        &self,
        mut writer: Writer,
        bytes: usize,
        due: Option<Instant>,
    ) -> Result<(Writer, Option<Ending>), RecorderError> {
        if bytes <= ON_THE_SPOT {
            let ending = absorb(&mut writer, &self.queue, ON_THE_SPOT);
            if !writer.has_full() {
                return Ok((writer, ending));
            }
            return blocking(move || {
                writer.cut_full()?;
                Ok((writer, ending))
            })
            .await;
        }
        let queue = Arc::clone(&self.queue);
        blocking(move || {
            loop {
                let ending = absorb(&mut writer, &queue, usize::MAX);
                writer.cut_full()?;
                if ending.is_some() || queue.is_empty() || due.is_some_and(|due| Instant::now() >= due) {
                    return Ok((writer, ending));
                }
            }
        })
        .await
    }

    /// Takes in what waits, and leaves what must reach the disk.
    async fn cut(&self, mut writer: Writer) -> Result<(Writer, Option<Ending>, Sync), RecorderError> {
        let queue = Arc::clone(&self.queue);
        blocking(move || {
            let mut ending = None;
            // As many rounds as a full queue takes: one that is filled as fast as it is emptied must not put off the sync.
            for _round in 0..=QUEUE_BYTES / SEGMENT {
                ending = absorb(&mut writer, &queue, usize::MAX);
                writer.cut_full()?;
                if ending.is_some() {
                    break;
                }
            }
            let sync = writer.cut_all()?;
            Ok((writer, ending, sync))
        })
        .await
    }

    async fn end(&self, mut writer: Writer, ending: Ending) -> Result<(), RecorderError> {
        match ending {
            Ending::Abandon => {
                let head = blocking(move || writer.cut_all()?.run()).await?;
                self.checkpoint(head);
                self.queue.fail(RecorderError::Closed);
                Ok(())
            }
            Ending::Close(at_us, end, reply) => {
                let sealed = blocking(move || writer.seal(at_us, end)).await;
                if let Ok(sealed) = &sealed {
                    self.checkpoint(sealed.head.clone());
                    self.queue.fail(RecorderError::Closed);
                }
                // Whoever closed may have given up waiting; the seal stands all the same.
                let _ = reply.send(sealed.clone());
                sealed.map(|_| ())
            }
        }
    }

    fn checkpoint(&self, head: Head) {
        let elapsed = SignedDuration::from_micros(i64::try_from(self.queue.now_us()).unwrap_or(i64::MAX));
        let at = self.started.saturating_add(elapsed).unwrap_or(self.started);
        self.checkpoints.send_replace(Some(Checkpoint { segments: head.segments, hash: head.hash, at }));
    }
}

/// Takes in messages of up to `most` bytes or until a segment is full. Their room is free again when all are taken in, so
/// that a session that waits for some is woken once.
fn absorb(writer: &mut Writer, queue: &Queue, most: usize) -> Option<Ending> {
    let (mut taken, mut room, mut ending) = (0, 0, None);
    while taken < most && ending.is_none() && !writer.has_full() {
        let Some(queued) = queue.pop() else { break };
        taken += queued.bytes;
        room += queued.room;
        ending = writer.absorb(queued);
    }
    queue.free(room);
    ending
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecorderError> + Send + 'static,
) -> Result<T, RecorderError> {
    spawn_blocking(work).await.map_err(|_panicked| RecorderError::Stopped)?
}
