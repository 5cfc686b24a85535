//! Reads a recording back: its manifest, and everything in it in the order of time. Memory stays flat: one segment of each
//! stream that is active at the moment. The folder may be hostile, damaged, or still being written.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use zstd::bulk::Decompressor;

use crate::{
    CastHeader, Event, MANIFEST, Manifest, OutputStream, State, StreamId,
    cast::{CastLine, parse_line},
    hash::Hash,
    pack,
    scan::{Found, Lost, Scan},
    segment::SegmentHeader,
};

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

impl RecordingReader {
    /// Opens a recording's folder.
    ///
    /// # Errors
    /// When the folder or its manifest cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let manifest = manifest(folder)?;
        let unreadable = |source| ReadError::Unreadable { path: folder.to_owned(), source };
        let mut streams = vec![];
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            streams.extend(entry.file_name().to_str().and_then(StreamId::of_file));
        }
        streams.sort();
        Ok(Self { folder: folder.to_owned(), manifest, streams })
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
        let cursor = |id: &StreamId| Cursor { from_us, ..Cursor::new(*id, self.path(*id), open) };
        Entries { cursors: streams.iter().map(cursor).collect(), last_ms: 0 }
    }
}

/// Everything that was recorded, in the order of time.
#[derive(Debug)]
pub struct Entries {
    cursors: Vec<Cursor>,
    last_ms: u64,
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (place, next) = self
                .cursors
                .iter_mut()
                .enumerate()
                .filter_map(|(place, cursor)| Some((place, cursor.next_us()?)))
                .min_by_key(|(place, at_us)| (*at_us, *place))
                .map(|(place, _)| place)
                .and_then(|place| Some((place, self.cursors.get_mut(place)?.advance())))?;
            match next {
                Ok(Some((at_us, item))) => {
                    // Times only run forwards, whatever the file says.
                    self.last_ms = self.last_ms.max(at_us / 1000);
                    return Some(Ok(Entry { at_ms: self.last_ms, item }));
                }
                Ok(None) => {}
                Err(error) => {
                    self.cursors.swap_remove(place);
                    self.cursors.sort_by_key(|cursor| cursor.id);
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The place in one stream.
#[derive(Debug)]
struct Cursor {
    id: StreamId,
    path: PathBuf,
    /// Whether the recording may end in the middle of a segment.
    open: bool,
    /// Segments that end before this need not be read.
    from_us: u64,
    scan: Option<Scan>,
    next: Next,
    content: Content,
    opened_us: u64,
    begun: bool,
}

/// What comes after the segment at hand.
#[derive(Debug)]
enum Next {
    /// Not looked yet.
    Unknown,
    /// This segment.
    Segment(Box<Found>),
    /// This error, to be given when its turn comes.
    Broken(ReadError),
    /// Nothing.
    End,
}

/// What is left of the segment at hand.
#[derive(Debug, Default)]
struct Content {
    at_us: Option<u64>,
    at: u64,
    rest: Bytes,
    pieces: VecDeque<(u64, Bytes)>,
}

impl Cursor {
    fn new(id: StreamId, path: PathBuf, open: bool) -> Self {
        let content = Content::default();
        Self { id, path, open, from_us: 0, scan: None, next: Next::Unknown, content, opened_us: 0, begun: false }
    }

    /// When the next item is; `None` at the end.
    fn next_us(&mut self) -> Option<u64> {
        if self.content.at_us.is_some() {
            return self.content.at_us;
        }
        if matches!(self.next, Next::Unknown) {
            self.next = self.look().unwrap_or_else(Next::Broken);
        }
        match &self.next {
            Next::Segment(found) => Some(found.linked.header.first_us),
            Next::Broken(_) => Some(0),
            Next::End | Next::Unknown => None,
        }
    }

    fn look(&mut self) -> Result<Next, ReadError> {
        let unreadable = |source| ReadError::Unreadable { path: self.path.clone(), source };
        let scan = match &mut self.scan {
            Some(scan) => scan,
            None => self.scan.insert(Scan::open(&self.path).map_err(unreadable)?),
        };
        let mut next = scan.next_segment();
        // The first segment of a cast has its header, without which the times in the others mean nothing.
        let headed = self.begun || !matches!(self.id, StreamId::Terminal(_));
        while let Ok(Some(found)) = &next
            && headed
            && found.linked.holds
            && found.linked.header.stream == self.id
            && found.linked.header.last_us < self.from_us
        {
            next = scan.next_segment();
        }
        match next {
            Ok(Some(found)) if !found.linked.holds => Err(self.damaged(found.at, "its header was changed")),
            Ok(Some(found)) if found.linked.header.stream != self.id => {
                Err(self.damaged(found.at, "it belongs to another stream"))
            }
            Ok(Some(found)) => Ok(Next::Segment(Box::new(found))),
            Ok(None) => Ok(Next::End),
            Err(Lost::Cut { .. }) if self.open => Ok(Next::End),
            Err(Lost::Unreadable(source)) => Err(unreadable(source)),
            Err(Lost::Cut { at }) => Err(self.damaged(at, "the file is cut off there")),
            Err(Lost::Malformed { at, why }) => Err(self.damaged(at, &why.to_string())),
        }
    }

    fn damaged(&self, byte: u64, why: &str) -> ReadError {
        ReadError::Damaged { file: self.id.to_string(), byte, why: why.to_owned() }
    }

    /// The next item, or `None` when there was only a segment to open.
    fn advance(&mut self) -> Result<Option<(u64, Item)>, ReadError> {
        if self.content.at_us.is_none() {
            match std::mem::replace(&mut self.next, Next::Unknown) {
                Next::Segment(found) => self.load(&found)?,
                Next::Broken(error) => return Err(error),
                Next::End | Next::Unknown => return Ok(None),
            }
            return Ok(None);
        }
        let Some((at_us, piece)) = self.content.pieces.pop_front() else { return Ok(None) };
        let item = self.item(piece)?;
        self.prepare();
        Ok(item.map(|item| (at_us, item)))
    }

    fn load(&mut self, found: &Found) -> Result<(), ReadError> {
        let Some(scan) = &self.scan else { return Ok(()) };
        let header = &found.linked.header;
        let packed = scan.data(found).map_err(|source| ReadError::Unreadable { path: self.path.clone(), source })?;
        if Hash::of(&[&packed]) != header.data {
            return Err(self.damaged(found.at, "its data was changed"));
        }
        let content = Decompressor::new()
            .and_then(|mut decompressor| pack::unpack(&mut decompressor, &packed, header.length as usize))
            .map_err(|error| self.damaged(found.at, &error.to_string()))?;
        self.content = Content { at_us: None, at: found.at, rest: content.into(), pieces: VecDeque::new() };
        if matches!(self.id, StreamId::Stdout(_) | StreamId::Stderr(_)) {
            self.content.split_at_marks(header);
        }
        self.prepare();
        Ok(())
    }

    /// Finds out when the next piece is.
    fn prepare(&mut self) {
        if self.content.pieces.is_empty() && !self.content.rest.is_empty() {
            let rest = &mut self.content.rest;
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
            let line = rest.split_to(end);
            let at_us = self.line_us(&line);
            self.content.pieces.push_back((at_us, line));
        }
        self.content.at_us = self.content.pieces.front().map(|(at_us, _)| *at_us);
    }

    /// When a line was written. A line that cannot be read stands where the segment stands; `item` then refuses it.
    fn line_us(&self, line: &[u8]) -> u64 {
        match self.id {
            StreamId::Timeline => serde_json::from_slice::<At>(line).map_or(0, |at| at.at_us),
            _ if !self.begun => serde_json::from_slice::<CastHeader>(line).map_or(0, |head| head.session_offset_us),
            _ => self.opened_us.saturating_add(parse_line(line).and_then(|line| line.after_us()).unwrap_or(0)),
        }
    }

    fn item(&mut self, piece: Bytes) -> Result<Option<Item>, ReadError> {
        Ok(Some(match self.id {
            StreamId::Timeline => Item::Event(serde_json::from_slice(&piece).map_err(|error| self.unreadable(&error))?),
            StreamId::Stdout(channel) => Item::Output { channel, stream: OutputStream::Stdout, bytes: piece },
            StreamId::Stderr(channel) => Item::Output { channel, stream: OutputStream::Stderr, bytes: piece },
            StreamId::Terminal(terminal) if !self.begun => {
                let header: CastHeader = serde_json::from_slice(&piece).map_err(|error| self.unreadable(&error))?;
                (self.begun, self.opened_us) = (true, header.session_offset_us);
                Item::TerminalStart { terminal, header: Box::new(header) }
            }
            StreamId::Terminal(terminal) => match parse_line(&piece) {
                Some(CastLine::Output { text, .. }) => Item::TerminalOutput { terminal, text },
                Some(CastLine::Resize { width, height, .. }) => Item::Resize { terminal, width, height },
                Some(CastLine::Other) => return Ok(None),
                None => return Err(self.unreadable(&"a line is not asciicast")),
            },
        }))
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> ReadError {
        self.damaged(self.content.at, &format!("its content cannot be read: {why}"))
    }
}

/// The time of a line of the timeline.
#[derive(serde::Deserialize)]
struct At {
    at_us: u64,
}

impl Content {
    /// Cuts the output into the pieces whose times are known.
    fn split_at_marks(&mut self, header: &SegmentHeader) {
        let ends = header.marks.iter().skip(1).map(|mark| mark.offset).chain([header.length]);
        let starts = header.marks.iter().map(|mark| (mark.offset, u64::from(mark.after_us)));
        for ((start, after_us), end) in starts.zip(ends) {
            let length = (end.saturating_sub(start) as usize).min(self.rest.len());
            self.pieces.push_back((header.first_us.saturating_add(after_us), self.rest.split_to(length)));
        }
        // Without marks, which no writer leaves out, everything came at once.
        if !self.rest.is_empty() {
            self.pieces.push_back((header.first_us, std::mem::take(&mut self.rest)));
        }
    }
}
