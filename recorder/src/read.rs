//! Reads a recording back: its manifest, and everything in it in the order of time. Memory stays flat: one segment of each
//! stream that is active at the moment. The folder may be hostile, damaged, or still being written.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{CastHeader, Event, MANIFEST, Manifest, OutputStream, State, StreamId, cursor::Cursor};

/// Largest manifest that is read.
const MAX_MANIFEST: u64 = 16 << 20;

/// A recording's folder, opened for reading.
#[derive(Debug)]
pub struct RecordingReader {
    folder: PathBuf,
    manifest: Manifest,
    streams: Vec<StreamId>,
}

/// Something that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in milliseconds since the session's start.
    pub at_ms: u64,
    /// What.
    pub item: Item,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A line of the timeline.
    Event(Event),
    /// A terminal was opened.
    TerminalStart {
        /// Its number.
        terminal: u32,
        /// The first line of its cast.
        header: Box<CastHeader>,
    },
    /// A terminal showed something.
    TerminalOutput {
        /// Its number.
        terminal: u32,
        /// What.
        text: String,
    },
    /// A terminal changed its size.
    Resize {
        /// Its number.
        terminal: u32,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// A command without a terminal wrote something.
    Output {
        /// The channel's number.
        channel: u32,
        /// Standard output or standard error.
        stream: OutputStream,
        /// What.
        bytes: Bytes,
    },
}

/// A recording, or a stream of it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file cannot be opened or read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("{} is not a recording's manifest: {why}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A stream is damaged; nothing after the place is read from it.
    #[error("{file} is damaged at byte {byte}: {why}; `verify` says what else is")]
    Damaged {
        /// The file's name.
        file: String,
        /// Where the damaged segment begins.
        byte: u64,
        /// What is wrong.
        why: String,
    },
}

/// Reads a manifest.
///
/// # Errors
/// When it cannot be read or is not one.
pub fn manifest(folder: &Path) -> Result<Manifest, ReadError> {
    let path = folder.join(MANIFEST);
    let unreadable = |source| ReadError::Unreadable { path: path.clone(), source };
    let metadata = fs::symlink_metadata(&path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_MANIFEST {
        return Err(ReadError::Manifest { path, why: "it is no plain file or far too large".into() });
    }
    let text = fs::read(&path).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|error| ReadError::Manifest { path, why: error.to_string() })
}

/// The streams that have files in a recording's folder, the timeline first.
pub(crate) fn streams(folder: &Path) -> Result<Vec<StreamId>, ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: folder.to_owned(), source };
    let mut streams = vec![];
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        streams.extend(entry.file_name().to_str().and_then(StreamId::of_file));
    }
    streams.sort();
    Ok(streams)
}

impl RecordingReader {
    /// Opens a recording's folder.
    ///
    /// # Errors
    /// When the folder or its manifest cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let manifest = manifest(folder)?;
        Ok(Self { folder: folder.to_owned(), manifest, streams: streams(folder)? })
    }

    /// The manifest. Nothing in it has been verified.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The streams that have files, the timeline first.
    #[must_use]
    pub fn streams(&self) -> &[StreamId] {
        &self.streams
    }

    /// Where a stream's file lies.
    #[must_use]
    pub fn path(&self, stream: StreamId) -> PathBuf {
        self.folder.join(stream.to_string())
    }

    /// Everything in the order of time. A damaged stream yields one error and ends there; the others go on.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.entries_of(&self.streams, 0)
    }

    /// What is in these streams, at and after a time in milliseconds since the session's start. Segments before it are
    /// passed over unread where that is possible, so some earlier entries may come first.
    #[must_use]
    pub fn entries_of(&self, streams: &[StreamId], from_ms: u64) -> Entries {
        let (open, from_us) = (self.manifest.state == State::Open, from_ms.saturating_mul(1000));
        let cursor = |id: &StreamId| Cursor::new(*id, self.path(*id), open, from_us);
        let mut entries = Entries::default();
        streams.iter().for_each(|id| entries.put(cursor(id)));
        entries
    }
}

/// Everything that was recorded, in the order of time.
#[derive(Debug, Default)]
pub struct Entries {
    due: BinaryHeap<Due>,
    /// The streams that have no more.
    ended: Vec<Cursor>,
    last_ms: u64,
}

/// A stream that has more. The greatest is the one whose next item is the earliest.
#[derive(Debug)]
struct Due {
    at_us: u64,
    cursor: Box<Cursor>,
}

impl Entries {
    /// One more stream.
    pub(crate) fn put(&mut self, mut cursor: Cursor) {
        match cursor.next_us() {
            Some(at_us) => self.due.push(Due { at_us, cursor: Box::new(cursor) }),
            None => self.ended.push(cursor),
        }
    }

    /// Looks again at the streams that had no more.
    pub(crate) fn look_again(&mut self) {
        for mut cursor in std::mem::take(&mut self.ended) {
            cursor.look_again();
            self.put(cursor);
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut first = self.due.peek_mut()?;
            let next = first.cursor.advance();
            match first.cursor.next_us() {
                _ if next.is_err() => drop(PeekMut::pop(first)),
                Some(at_us) => first.at_us = at_us,
                None => self.ended.push(*PeekMut::pop(first).cursor),
            }
            match next {
                Ok(Some((at_us, item))) => {
                    // Times only run forwards, whatever the file says.
                    self.last_ms = self.last_ms.max(at_us / 1000);
                    return Some(Ok(Entry { at_ms: self.last_ms, item }));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.cursor.id).cmp(&(self.at_us, self.cursor.id))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}
