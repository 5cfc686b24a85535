//! The program that runs on a channel, as its byte streams show it: the seam where they are observed.
//!
//! Both pumps hand every piece of a program's streams to this file before it goes any further, and send on what they get
//! back. Where the streams are a protocol of file transfer, parts of them may not pass, wait, or be answered from here.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sallyport_recorder::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::session::Session;
use crate::ssh::files::{Broken, Passed, Transfer};
use crate::ssh::record::Track;

/// What runs on one channel.
pub(super) struct Program {
    track: Arc<Track>,
    files: Option<Files>,
}

/// Files that pass through a program's streams.
struct Files {
    transfer: Mutex<Transfer>,
    began: Instant,
    /// Wakes the pump that sends to the client, and the one that sends to the target.
    downward: Notify,
    upward: Notify,
}

/// What goes on of a piece.
#[derive(Default)]
pub(super) struct Onward {
    pub(super) pieces: Vec<Bytes>,
    /// A sentence for the person at the client.
    pub(super) told: Option<String>,
    /// Why the channel has to be closed.
    pub(super) broken: Option<Broken>,
}

impl Program {
    /// A program whose output goes to `track`.
    pub(super) fn new(track: Arc<Track>) -> Self {
        Self { track, files: None }
    }

    /// A program whose streams are a file transfer: of its input and output the files are written down. Its errors are no
    /// part of that protocol, and go to `track` like any other program's.
    pub(super) fn files(transfer: Transfer, track: Arc<Track>) -> Self {
        let files = Files {
            transfer: Mutex::new(transfer),
            began: Instant::now(),
            downward: Notify::new(),
            upward: Notify::new(),
        };
        Self { track, files: Some(files) }
    }

    /// A piece of what the client sends to the program's input; gives what goes on to the target. What is left of it has to
    /// wait until [`Program::upward`].
    pub(super) async fn stdin(&self, session: &Session, piece: &mut Bytes) -> Result<Onward, Failure> {
        let Some(files) = &self.files else { return Ok(Onward::of(std::mem::take(piece))) };
        let passed = files.transfer.lock().client_sent(files.began.elapsed(), piece);
        if passed.wake {
            files.downward.notify_one();
        }
        note(session, passed).await
    }

    /// A piece of the program's output, recorded before anybody sees it; gives what goes on to the client. What is left of it
    /// has to wait until [`Program::downward`], which asks for what is to be sent beside it, too, with an empty piece.
    pub(super) async fn stdout(&self, session: &Session, piece: &mut Bytes) -> Result<Onward, Failure> {
        let Some(files) = &self.files else {
            self.track.stdout(session, piece).await?;
            return Ok(Onward::of(std::mem::take(piece)));
        };
        let passed = files.transfer.lock().target_sent(files.began.elapsed(), piece);
        if passed.wake {
            files.upward.notify_one();
        }
        note(session, passed).await
    }

    /// A piece of its errors, recorded before anybody sees it.
    pub(super) async fn stderr(&self, session: &Session, piece: &mut Bytes) -> Result<Onward, Failure> {
        self.track.stderr(session, piece).await?;
        Ok(Onward::of(std::mem::take(piece)))
    }

    /// Resolves when something may go to the target that had to wait.
    pub(super) async fn upward(&self) {
        match &self.files {
            Some(files) => files.upward.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when something may go to the client that had to wait.
    pub(super) async fn downward(&self) {
        match &self.files {
            Some(files) => files.downward.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The client will send nothing more.
    pub(super) fn client_ended(&self) {
        if let Some(files) = &self.files {
            files.transfer.lock().client_ended();
            files.downward.notify_one();
        }
    }

    /// The channel's end: writes down what was cut off by it.
    pub(super) async fn finish(&self, session: &Session) -> Result<(), Failure> {
        let Some(files) = &self.files else { return Ok(()) };
        let events = files.transfer.lock().finish(files.began.elapsed());
        record(session, events).await
    }

    /// The terminal that it runs in has a new size.
    pub(super) async fn resize(&self, session: &Session, width: u16, height: u16) -> Result<(), Failure> {
        self.track.resize(session, width, height).await
    }
}

impl Onward {
    /// All of a piece.
    pub(super) fn of(piece: Bytes) -> Self {
        Self { pieces: vec![piece], ..Self::default() }
    }
}

/// Writes down what was seen in a piece.
async fn note(session: &Session, passed: Passed) -> Result<Onward, Failure> {
    record(session, passed.events).await?;
    Ok(Onward { pieces: passed.pieces, told: passed.told, broken: passed.broken })
}

async fn record(session: &Session, events: Vec<Event>) -> Result<(), Failure> {
    for event in events {
        session.record(event).await?;
    }
    Ok(())
}
