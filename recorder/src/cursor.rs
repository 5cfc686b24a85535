//! The place in one stream of a recording: opens its segments one by one and takes their content apart into items.

use std::{collections::VecDeque, path::PathBuf};

use bytes::Bytes;
use zstd::bulk::Decompressor;

use crate::{
    CastHeader, OutputStream, StreamId,
    cast::{CastLine, parse_line},
    hash::Hash,
    pack,
    read::{Item, ReadError},
    scan::{Found, Lost, Scan},
    segment::SegmentHeader,
};

/// The place in one stream.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) id: StreamId,
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
    /// The beginning of a stream's file, or the first segment that ends at `from_us` or later.
    pub(crate) fn new(id: StreamId, path: PathBuf, open: bool, from_us: u64) -> Self {
        let content = Content::default();
        Self { id, path, open, from_us, scan: None, next: Next::Unknown, content, opened_us: 0, begun: false }
    }

    /// Looks again where the end was: more may have been written.
    pub(crate) fn look_again(&mut self) {
        if matches!(self.next, Next::End) {
            self.next = Next::Unknown;
            if let Some(scan) = &mut self.scan {
                scan.look_again();
            }
        }
    }

    /// When the next item is; `None` at the end.
    pub(crate) fn next_us(&mut self) -> Option<u64> {
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
    pub(crate) fn advance(&mut self) -> Result<Option<(u64, Item)>, ReadError> {
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
