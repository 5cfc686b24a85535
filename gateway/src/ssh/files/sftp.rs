//! SFTP, request by request: what a rule does not give is answered here and never reaches the target, and everything else
//! is matched with its answer and becomes an event.
//!
//! Answers carry the number of their request and may come in any order (draft-ietf-secsh-filexfer-02, section 6), so an
//! answer of ours is put between two packets of the target's. A client that has too much under way waits.

mod judge;
mod settle;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::{Direction, Event, FileResult};

use super::cutter::Cutter;
use super::{FileRule, Passed, micros};

/// An SFTP connection on one channel.
#[derive(Debug)]
pub(in crate::ssh) struct Sftp {
    up: Cutter,
    down: Cutter,
    book: Book,
}

/// What is known of one connection.
#[derive(Debug)]
struct Book {
    channel: u32,
    rule: FileRule,
    now: Duration,
    greeting: Greeting,
    /// Requests that the target has not answered.
    pending: HashMap<u32, Pending>,
    /// Bytes of the paths in `pending`.
    pending_bytes: usize,
    /// Those of `pending` that open something.
    opening: usize,
    /// What is open, by the target's names for it.
    handles: HashMap<Box<[u8]>, u64>,
    files: HashMap<u64, File>,
    opened: u64,
    /// Answers of ours that wait for their place in the target's stream.
    answers: VecDeque<Bytes>,
    /// Whether the client waits for room here.
    stalled: bool,
    /// Whether the person was told already that uploads, or downloads, are refused.
    told: [bool; 2],
    looks: Looks,
    /// Whose bytes the packet that is passing by carries, each way.
    writing: Option<u64>,
    reading: Option<u64>,
}

/// How far the two have come in agreeing on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Nothing,
    Asked,
    Done,
}

/// A request on its way.
#[derive(Debug)]
enum Pending {
    Open { path: String, direction: Direction, detail: &'static str },
    OpenFolder { path: String },
    Close(u64),
    Read(u64),
    Write { file: u64, size: u32 },
    Change(Change),
    List,
    Look,
}

/// A request that changes something other than a file's content.
#[derive(Debug)]
struct Change {
    action: &'static str,
    path: String,
    to: String,
    detail: String,
}

/// An open file, or folder.
#[derive(Debug)]
struct File {
    path: String,
    handle: Box<[u8]>,
    /// None for a folder.
    direction: Option<Direction>,
    began: Duration,
    read: u64,
    written: u64,
    under_way: u64,
    failure: Option<String>,
    closing: bool,
}

#[derive(Debug, Default)]
struct Looks {
    folders: u64,
    questions: u64,
    failed: u64,
}

impl Sftp {
    pub(super) fn new(channel: u32, rule: FileRule) -> Self {
        let book = Book {
            channel,
            rule,
            now: Duration::ZERO,
            greeting: Greeting::Nothing,
            pending: HashMap::new(),
            pending_bytes: 0,
            opening: 0,
            handles: HashMap::new(),
            files: HashMap::new(),
            opened: 0,
            answers: VecDeque::new(),
            stalled: false,
            told: [false; 2],
            looks: Looks::default(),
            writing: None,
            reading: None,
        };
        Self { up: Cutter::default(), down: Cutter::default(), book }
    }

    pub(super) fn client_sent(&mut self, now: Duration, chunk: &mut Bytes) -> Passed {
        let mut passed = Passed::default();
        self.book.now = now;
        passed.broken = self.up.feed(chunk, &mut judge::Requests(&mut self.book), &mut passed).err();
        self.book.stalled = !chunk.is_empty();
        passed.wake = !self.book.answers.is_empty();
        passed
    }

    pub(super) fn target_sent(&mut self, now: Duration, chunk: &mut Bytes) -> Passed {
        let mut passed = Passed::default();
        self.book.now = now;
        passed.broken = self.down.feed(chunk, &mut settle::Answers(&mut self.book), &mut passed).err();
        passed.wake = self.book.stalled && !self.book.is_full();
        passed
    }

    pub(super) fn finish(&mut self, now: Duration) -> Vec<Event> {
        self.book.now = now;
        self.book.finish(self.up.left(), self.down.left())
    }
}

impl Book {
    /// Whether so much is under way that the client has to wait.
    fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
            || self.pending_bytes >= MAX_PENDING_BYTES
            || self.answers.len() >= MAX_ANSWERS
    }

    fn remember(&mut self, id: u32, pending: Pending) {
        self.pending_bytes += pending.size();
        self.opening += usize::from(pending.opens());
        self.pending.insert(id, pending);
    }

    fn recall(&mut self, id: u32) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.pending_bytes = self.pending_bytes.saturating_sub(pending.size());
        self.opening = self.opening.saturating_sub(usize::from(pending.opens()));
        Some(pending)
    }

    /// What the end cuts off: `up` and `down` bytes of the packets that were passing by did not come.
    fn finish(&mut self, up: usize, down: usize) -> Vec<Event> {
        if let Some(file) = self.writing.and_then(|serial| self.files.get_mut(&serial)) {
            file.under_way = file.under_way.saturating_sub(up as u64);
        }
        if let Some(file) = self.reading.and_then(|serial| self.files.get_mut(&serial)) {
            file.read = file.read.saturating_sub(down as u64);
        }
        let mut events = Vec::new();
        let mut pending: Vec<(u32, Pending)> = self.pending.drain().collect();
        // Clients number their requests as they go.
        pending.sort_unstable_by_key(|(id, _)| *id);
        for (_, pending) in pending {
            let change = match pending {
                Pending::Change(change) => change,
                Pending::Open { path, detail, .. } => Change::new("open", path, detail),
                _ => continue,
            };
            events.push(change.event(
                self.channel,
                FileResult::CutOff,
                "the channel ended before an answer".to_owned(),
            ));
        }
        let mut files: Vec<(u64, File)> = self.files.drain().collect();
        files.sort_unstable_by_key(|(serial, _)| *serial);
        events.extend(files.into_iter().filter_map(|(_, file)| self.closed(file, FileResult::CutOff)));
        let Looks { folders, questions, failed } = std::mem::take(&mut self.looks);
        if folders + questions > 0 {
            events.push(Event::FileLooks { channel: self.channel, folders, questions, failed });
        }
        events
    }

    /// The event of a file that was closed, or cut off; a folder has none.
    fn closed(&self, file: File, result: FileResult) -> Option<Event> {
        let result = match (result, &file.failure) {
            (FileResult::Ok, Some(_)) => FileResult::Failed,
            (result, _) => result,
        };
        let cut = || (result == FileResult::CutOff).then(|| "the channel ended before the file was closed".to_owned());
        Some(Event::File {
            channel: self.channel,
            path: file.path,
            name: String::new(),
            direction: file.direction?,
            read: file.read,
            written: file.written,
            unconfirmed: file.under_way,
            size: None,
            took_us: micros(self.now.saturating_sub(file.began)),
            result,
            why: file.failure.or_else(cut).unwrap_or_default(),
        })
    }
}

impl Pending {
    fn opens(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::OpenFolder { .. })
    }

    /// Bytes that it holds beyond its own.
    fn size(&self) -> usize {
        match self {
            Self::Open { path, .. } | Self::OpenFolder { path } => path.len(),
            Self::Change(change) => change.path.len() + change.to.len() + change.detail.len(),
            Self::Close(_) | Self::Read(_) | Self::Write { .. } | Self::List | Self::Look => 0,
        }
    }
}

impl Change {
    fn new(action: &'static str, path: String, detail: impl Into<String>) -> Self {
        Self { action, path, to: String::new(), detail: detail.into() }
    }

    fn event(self, channel: u32, result: FileResult, why: String) -> Event {
        let Self { action, path, to, detail } = self;
        Event::FileChange { channel, action: action.to_owned(), path, to, detail, result, why }
    }
}

/// Requests without an answer. paramiko asks for a whole file at once; such a client waits here instead of in the target.
const MAX_PENDING: usize = 16 * 1024;
/// Bytes of the paths of such requests.
const MAX_PENDING_BYTES: usize = 1024 * 1024;
/// Answers of ours that wait for a target in the middle of a packet.
const MAX_ANSWERS: usize = 1024;
/// Files and folders that are open on one channel; sshd's own limit is most often 1,024 descriptors.
const MAX_OPEN: usize = 1024;
