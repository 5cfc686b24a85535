//! Content → segments → one file. What comes for a stream is gathered until it is worth a segment of its own.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    Head, SessionId, StreamId, StreamTotal,
    appender::Appender,
    cast::{self, Decoder},
    content::Content,
    hash::Hash,
    pack::{Desk, Pace, Packed, Packer},
    segment::{MAX_MARKS, Mark, SegmentHeader, block_sums, narrow},
};

use super::SEGMENT;

/// A new mark at most this often.
const MARK_US: u64 = 1000;

/// One stream file, and what is to become its next segment.
pub(super) struct Stream {
    pub(super) path: PathBuf,
    pub(super) file: Option<Appender>,
    pub(super) synced: bool,
    pub(super) finished: bool,
    pub(super) content: Content,
    pub(super) total: StreamTotal,
    /// Times in a terminal's lines count from here.
    pub(super) opened_us: u64,
    id: StreamId,
    pace: Pace,
    first_us: u64,
    last_us: u64,
    marks: Vec<Mark>,
    decoder: Decoder,
}

impl Stream {
    pub(super) fn new(folder: &Path, id: StreamId) -> Self {
        let file = id.to_string();
        Self {
            path: folder.join(&file),
            file: None,
            synced: true,
            finished: false,
            content: Content::default(),
            total: StreamTotal { file, segments: 0, bytes: 0, content: 0 },
            opened_us: 0,
            id,
            pace: Pace::default(),
            first_us: 0,
            last_us: 0,
            marks: vec![],
            decoder: Decoder::default(),
        }
    }

    /// One that another writer has left, with this much in its file.
    pub(super) fn resumed(folder: &Path, id: StreamId, total: StreamTotal) -> Self {
        Self { total, ..Self::new(folder, id) }
    }

    /// Something is added at this time.
    pub(super) fn touch(&mut self, at_us: u64) {
        if self.content.is_empty() {
            self.first_us = at_us;
        }
        self.last_us = at_us;
    }

    /// What a terminal printed, as a line of its cast.
    pub(super) fn text(&mut self, at_us: u64, bytes: &[u8]) {
        let after_us = at_us.saturating_sub(self.opened_us);
        let Self { decoder, content, .. } = self;
        decoder.decode(bytes, |text| cast::output_line(content.end(), after_us, text));
    }

    /// What a command wrote, as it is, with a mark of when.
    pub(super) fn bytes(&mut self, at_us: u64, bytes: Bytes) {
        let after_us = at_us.saturating_sub(self.first_us);
        let due = self.marks.last().is_none_or(|mark| after_us >= u64::from(mark.after_us) + MARK_US);
        if due && self.marks.len() < MAX_MARKS && !bytes.is_empty() {
            let after_us = u32::try_from(after_us).unwrap_or(u32::MAX);
            self.marks.push(Mark { offset: narrow(self.content.len()), after_us });
        }
        self.content.push(bytes);
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, at_us: u64) {
        self.finished = true;
        if let Some(rest) = self.decoder.finish() {
            self.touch(at_us);
            cast::output_line(self.content.end(), at_us.saturating_sub(self.opened_us), rest);
        }
    }

    /// Whether there is enough for a segment.
    pub(super) fn is_full(&self) -> bool {
        self.content.len() >= SEGMENT
    }

    /// Whether something was taken in that is not in the file yet.
    pub(super) fn waits(&self) -> bool {
        !self.content.is_empty() || self.file.as_ref().is_some_and(Appender::waits)
    }

    /// Writes all that waits as the segment behind `head` in the session's chain, and gives its link.
    pub(super) fn cut(
        &mut self,
        session: SessionId,
        head: &Head,
        packer: &Packer,
        desk: &mut Desk,
        elsewhere: &mut Vec<u8>,
    ) -> io::Result<Hash> {
        self.pace.count(self.content.len(), self.last_us.saturating_sub(self.first_us));
        let header = self.header(session, head);
        let (full, length) = (self.is_full(), header.length);
        let packed = packer.pack(&self.content, self.pace, desk)?;
        let file = match &mut self.file {
            Some(file) => {
                // The first large segment after a sync may well be the only one.
                if full {
                    file.expect_bulk();
                }
                file
            }
            none => none.insert(Appender::open(&self.path, self.total.bytes)?),
        };
        let (size, link) = append(file, header, &packed, elsewhere)?;
        self.synced = false;
        self.total.segments += 1;
        self.total.bytes += size as u64;
        self.total.content += u64::from(length);
        // A busy stream keeps its buffer, an idle one holds no memory.
        if full {
            self.content.clear();
        } else {
            self.content = Content::default();
        }
        Ok(link)
    }

    /// The header of the next segment, as far as it is known before the content is packed.
    fn header(&mut self, session: SessionId, head: &Head) -> SegmentHeader {
        SegmentHeader {
            session,
            stream: self.id,
            seq: head.segments,
            prev: head.hash,
            data: Hash::of(&[]),
            offset: self.total.content,
            length: narrow(self.content.len()),
            packed: 0,
            first_us: self.first_us,
            last_us: self.last_us,
            marks: std::mem::take(&mut self.marks),
            blocks: vec![],
        }
    }
}

/// Appends a segment to its file, and says how large it was and what its link is. Bulk is put together where it is written from.
fn append(
    file: &mut Appender,
    header: SegmentHeader,
    packed: &Packed<'_>,
    elsewhere: &mut Vec<u8>,
) -> io::Result<(usize, Hash)> {
    let size = header.size_with(packed.len());
    if let Some(place) = file.place(size)? {
        let link = assemble(header, packed, place)?;
        file.appended(size);
        return Ok((size, link));
    }
    elsewhere.resize(size, 0);
    let link = assemble(header, packed, elsewhere)?;
    file.append(elsewhere)?;
    Ok((size, link))
}

/// Puts a segment together in a place of its size, and gives its link.
fn assemble(mut header: SegmentHeader, packed: &Packed<'_>, place: &mut [u8]) -> io::Result<Hash> {
    let (mut begin, data) = place.split_at_mut(place.len().saturating_sub(packed.len()));
    packed.write(data)?;
    header.packed = narrow(data.len());
    header.data = Hash::of(&[data]);
    header.blocks = block_sums(data);
    let (frame, link) = header.encode();
    begin.write_all(&frame)?;
    Ok(link)
}
