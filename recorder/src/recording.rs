//! What a session holds while it is being recorded. Every call that records waits while the queue is full, and is
//! cancel-safe: a call that was given up has recorded nothing.

use std::{cell::RefCell, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::{
    Checkpoint, End, Event, Head, RecorderError, SessionId, StreamId, TerminalHeader, Viewing,
    queue::{Message, Queue},
};

/// Longest event as JSON, in bytes; of a longer one its beginning is kept.
pub const MAX_EVENT: usize = 2 << 20;

/// A recording that is being written. Cheap to clone. When the last handle is dropped without [`Recording::close`], what
/// was recorded is kept on disk unsealed, as after a crash.
#[derive(Clone)]
pub struct Recording {
    shared: Arc<Shared>,
}

struct Shared {
    id: SessionId,
    queue: Arc<Queue>,
    checkpoints: watch::Receiver<Option<Checkpoint>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.push_last(Message::Abandon);
    }
}

/// Which output of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A recording that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The end of its chain, as its manifest says.
    pub head: Head,
    /// Size of its stream files.
    pub bytes: u64,
    /// How long the session was.
    pub duration: Duration,
}

impl Recording {
    pub(crate) fn new(id: SessionId, queue: Arc<Queue>, checkpoints: watch::Receiver<Option<Checkpoint>>) -> Self {
        Self { shared: Arc::new(Shared { id, queue, checkpoints }) }
    }

    /// The session's name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// Records an event; in the place of one that is longer than [`MAX_EVENT`] an [`Event::TooLong`].
    ///
    /// # Errors
    /// When the recorder has failed or is closed.
    pub async fn event(&self, event: Event) -> Result<(), RecorderError> {
        match self.offer(&event)? {
            Some(json) => self.shared.queue.push_event(&json).await,
            None => Ok(()),
        }
    }

    /// Records events, and takes each out of `events` once it is recorded. Cancel-safe: those that are left there are not.
    ///
    /// # Errors
    /// When the recorder has failed or is closed.
    pub async fn events(&self, events: &mut Vec<Event>) -> Result<(), RecorderError> {
        loop {
            let (mut recorded, mut waits) = (0, None);
            while let Some(event) = events.get(recorded) {
                waits = self.offer(event)?;
                if waits.is_some() {
                    break;
                }
                recorded += 1;
            }
            events.drain(..recorded);
            let Some(json) = waits else { return Ok(()) };
            self.shared.queue.push_event(&json).await?;
            events.remove(0);
        }
    }

    /// Records an event where there is room for it now; its JSON where there is none.
    fn offer(&self, event: &Event) -> Result<Option<Vec<u8>>, RecorderError> {
        // Mostly there is room, and the JSON lies where the one before it lay.
        SCRATCH.with_borrow_mut(|json| {
            json_of(event, json)?;
            let taken = self.shared.queue.try_push_event(json)?;
            let waits = (!taken).then(|| json.clone());
            json.clear();
            json.shrink_to(SCRATCH_KEPT);
            Ok(waits)
        })
    }

    /// Begins the asciicast of terminal `number`.
    ///
    /// # Errors
    /// When the recorder has failed or is closed, or the number was used before.
    pub async fn terminal(&self, number: u32, header: TerminalHeader) -> Result<Terminal, RecorderError> {
        let stream = self.stream(StreamId::Terminal(number))?;
        self.shared.queue.push(Message::Terminal(stream.id, Box::new(header))).await?;
        Ok(Terminal { stream })
    }

    /// Begins the output of a command on channel `number`, kept byte for byte.
    ///
    /// # Errors
    /// When the number and kind were used before.
    pub async fn output(&self, number: u32, stream: OutputStream) -> Result<Output, RecorderError> {
        let id = match stream {
            OutputStream::Stdout => StreamId::Stdout(number),
            OutputStream::Stderr => StreamId::Stderr(number),
        };
        Ok(Output { stream: self.stream(id)? })
    }

    fn stream(&self, id: StreamId) -> Result<Stream, RecorderError> {
        self.shared.queue.take(id)?;
        Ok(Stream { id, shared: Arc::clone(&self.shared) })
    }

    /// Resolves when the recorder has failed: the disk is full, the folder was taken away. Pends for as long as all is
    /// well, and for ever once the recording was closed.
    pub fn failure(&self) -> impl Future<Output = RecorderError> + Send + 'static {
        let mut failure = self.shared.queue.failure();
        async move {
            let failed = |failure: &Option<RecorderError>| !matches!(failure, None | Some(RecorderError::Closed));
            match failure.wait_for(failed).await.map(|failure| failure.clone()) {
                Ok(Some(error)) => error,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }

    /// Why nothing more is recorded, if that is so. While all is well this costs as good as nothing, so that it can be asked
    /// before each thing that has to be on record.
    #[must_use]
    pub fn failed(&self) -> Option<RecorderError> {
        self.shared.queue.is_closed().then(|| self.shared.queue.error())
    }

    /// Leave to look on while it is written.
    #[must_use]
    pub fn viewing(&self) -> Viewing {
        Viewing::new(Arc::clone(&self.shared.queue))
    }

    /// The head of the chain, each time that everything before it has reached the disk.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Option<Checkpoint>> {
        self.shared.checkpoints.clone()
    }

    /// Writes what is left and the end event, waits for the disk, and signs. Calls on other handles fail from now on.
    /// Not cancel-safe, but harmless to give up: the seal is made all the same.
    ///
    /// # Errors
    /// When the recorder has failed or was closed before.
    pub async fn close(self, end: End) -> Result<Sealed, RecorderError> {
        let (reply, sealed) = oneshot::channel();
        self.shared.queue.close(Message::Close(end, reply))?;
        sealed.await.map_err(|_dropped| self.shared.queue.error())?
    }
}

/// A terminal being recorded; dropping it ends its stream.
pub struct Terminal {
    stream: Stream,
}

impl Terminal {
    /// Records what the terminal showed.
    ///
    /// # Errors
    /// When the recorder has failed or is closed.
    pub async fn output(&self, bytes: &Bytes) -> Result<(), RecorderError> {
        self.stream.output(bytes).await
    }

    /// Records its new size.
    ///
    /// # Errors
    /// When the recorder has failed or is closed.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), RecorderError> {
        self.stream.shared.queue.push(Message::Resize(self.stream.id, width, height)).await
    }
}

/// An output of a command being recorded; dropping it ends its stream.
pub struct Output {
    stream: Stream,
}

impl Output {
    /// Records what the command wrote.
    ///
    /// # Errors
    /// When the recorder has failed or is closed.
    pub async fn output(&self, bytes: &Bytes) -> Result<(), RecorderError> {
        self.stream.output(bytes).await
    }
}

struct Stream {
    id: StreamId,
    shared: Arc<Shared>,
}

impl Stream {
    async fn output(&self, bytes: &Bytes) -> Result<(), RecorderError> {
        // Pieces, so that one large buffer cannot make a segment larger than any reader takes.
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE));
            self.shared.queue.push(Message::Output(self.id, piece)).await?;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.queue.push_last(Message::Finish(self.id));
    }
}

/// Writes an event into `json`, which is empty; in the place of one that is too long what is kept of it.
fn json_of(event: &Event, json: &mut Vec<u8>) -> Result<(), RecorderError> {
    let write = |json: &mut Vec<u8>, event: &Event| {
        json.clear();
        serde_json::to_writer(json, event).map_err(|error| RecorderError::disk("timeline", error))
    };
    write(json, event)?;
    if json.len() > MAX_EVENT {
        let short = Event::too_long(json);
        write(json, &short)?;
    }
    Ok(())
}

thread_local! {
    /// Where events become JSON.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a thread keeps of it, in bytes: more than most statements take.
const SCRATCH_KEPT: usize = 16 << 10;
/// Largest piece of output that is queued at once.
const PIECE: usize = 256 << 10;
