//! The segment: a zstd skippable frame with our header, then one zstd data frame. It owns the header's bytes and the
//! limits that make it safe to read from a stranger; FORMAT.md is the same in prose. No I/O.

use std::fmt;

use crate::{SessionId, hash::Hash};

/// Most bytes a segment's content may have. A reader never allocates more for one.
pub const MAX_CONTENT: usize = 4 << 20;
/// Most bytes a segment's compressed data may have: zstd's bound for `MAX_CONTENT`, rounded up.
pub const MAX_PACKED: usize = MAX_CONTENT + (MAX_CONTENT >> 7);
/// Most marks in one segment.
pub const MAX_MARKS: usize = 2048;
/// Each block of this many bytes of compressed data has a checksum of its own, so that damage can be located.
pub const BLOCK: usize = 4096;
/// Most bytes of a whole header frame, the 8 of the frame's own header included.
pub const MAX_FRAME: usize = frame_size(MAX_MARKS, MAX_PACKED.div_ceil(BLOCK));

/// zstd's skippable frames begin with 0x184D2A50 to 0x184D2A5F (RFC 8878, 3.1.2); ours with this one.
const SKIPPABLE: u32 = 0x184D_2A5C;
/// The first bytes of a segment: a reader that lost its way looks for them.
pub(crate) const MAGIC: [u8; 4] = SKIPPABLE.to_le_bytes();
const NAME: [u8; 4] = *b"SPRS";
const VERSION: u16 = 1;
/// Bytes of the frame before the marks.
pub(crate) const FIXED: usize = 144;
/// Bytes of the link at the frame's end.
const LINK: usize = 32;

/// Which stream file a segment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// `timeline.jsonl.zst`
    Timeline,
    /// `terminal-N.cast.zst`
    Terminal(u32),
    /// `channel-N.stdout.zst`
    Stdout(u32),
    /// `channel-N.stderr.zst`
    Stderr(u32),
}

impl StreamId {
    /// The stream of this file name.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let number = |prefix: &str, suffix: &str| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse::<u32>().ok();
        let id = if name == "timeline.jsonl.zst" {
            Self::Timeline
        } else if let Some(number) = number("terminal-", ".cast.zst") {
            Self::Terminal(number)
        } else if let Some(number) = number("channel-", ".stdout.zst") {
            Self::Stdout(number)
        } else {
            Self::Stderr(number("channel-", ".stderr.zst")?)
        };
        // One spelling only: `terminal-+1` and `terminal-01` are not ours.
        (id.to_string() == name).then_some(id)
    }

    fn code(self) -> (u8, u32) {
        match self {
            Self::Timeline => (0, 0),
            Self::Terminal(number) => (1, number),
            Self::Stdout(number) => (2, number),
            Self::Stderr(number) => (3, number),
        }
    }

    fn of_code(kind: u8, number: u32) -> Option<Self> {
        match (kind, number) {
            (0, 0) => Some(Self::Timeline),
            (1, number) => Some(Self::Terminal(number)),
            (2, number) => Some(Self::Stdout(number)),
            (3, number) => Some(Self::Stderr(number)),
            _ => None,
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeline => f.write_str("timeline.jsonl.zst"),
            Self::Terminal(number) => write!(f, "terminal-{number}.cast.zst"),
            Self::Stdout(number) => write!(f, "channel-{number}.stdout.zst"),
            Self::Stderr(number) => write!(f, "channel-{number}.stderr.zst"),
        }
    }
}

/// When the bytes of an output stream from `offset` on arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Offset in the segment's content.
    pub offset: u32,
    /// Microseconds after the segment's `first_us`.
    pub after_us: u32,
}

/// What a segment says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The session it belongs to.
    pub session: SessionId,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in the chain, over all streams, from 0.
    pub seq: u64,
    /// The link of the segment before it in the chain; the header's root for the first.
    pub prev: Hash,
    /// BLAKE3 of the compressed data.
    pub data: Hash,
    /// Where its content begins in the stream's content.
    pub offset: u64,
    /// Bytes of content.
    pub length: u32,
    /// Bytes of compressed data after the header.
    pub packed: u32,
    /// When its first byte arrived, in microseconds since the session's start.
    pub first_us: u64,
    /// When its last byte arrived.
    pub last_us: u64,
    /// Times within an output stream; empty for the streams whose lines carry their own.
    pub marks: Vec<Mark>,
    /// CRC-32 of each `BLOCK` bytes of compressed data.
    pub blocks: Vec<u32>,
}

/// Why bytes are not a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not our skippable frame.
    #[error("no segment begins here")]
    NotASegment,
    /// A later version wrote it.
    #[error("the segment is of format version {0}, which this program does not read")]
    Version(u16),
    /// A length or count that no writer makes.
    #[error("the segment's header is inconsistent")]
    Inconsistent,
}

/// Bytes of the header frame that begins with these bytes, which must be the first eight.
///
/// # Errors
/// When it is not a frame of ours, or longer than any.
pub fn frame_length(start: [u8; 8]) -> Result<usize, Malformed> {
    let [a, b, c, d, size @ ..] = start;
    if [a, b, c, d] != MAGIC {
        return Err(Malformed::NotASegment);
    }
    let length = (u32::from_le_bytes(size) as usize).saturating_add(8);
    if (FIXED + LINK..=MAX_FRAME).contains(&length) { Ok(length) } else { Err(Malformed::Inconsistent) }
}

/// Bytes of the header frame with so many marks and block sums.
pub(crate) const fn frame_size(marks: usize, blocks: usize) -> usize {
    FIXED + marks * 8 + blocks * 4 + LINK
}

impl SegmentHeader {
    /// Bytes of a whole segment with these marks and so many bytes of data.
    pub(crate) fn size_with(&self, packed: usize) -> usize {
        frame_size(self.marks.len(), packed.div_ceil(BLOCK)) + packed
    }

    /// The header as a skippable frame, and its link: the BLAKE3 of all of the frame before the link itself.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Hash) {
        let size = frame_size(self.marks.len(), self.blocks.len());
        let mut frame = Vec::with_capacity(size);
        let (kind, number) = self.stream.code();
        frame.extend(MAGIC);
        frame.extend(narrow(size - 8).to_le_bytes());
        frame.extend(NAME);
        frame.extend(VERSION.to_le_bytes());
        frame.extend([kind, 0]);
        frame.extend(number.to_le_bytes());
        frame.extend(self.length.to_le_bytes());
        frame.extend(self.packed.to_le_bytes());
        frame.extend(u16::try_from(self.marks.len()).unwrap_or(u16::MAX).to_le_bytes());
        frame.extend(u16::try_from(self.blocks.len()).unwrap_or(u16::MAX).to_le_bytes());
        for word in [self.seq, self.offset, self.first_us, self.last_us] {
            frame.extend(word.to_le_bytes());
        }
        frame.extend(self.session.as_bytes());
        frame.extend(self.prev.as_bytes());
        frame.extend(self.data.as_bytes());
        for mark in &self.marks {
            frame.extend(mark.offset.to_le_bytes());
            frame.extend(mark.after_us.to_le_bytes());
        }
        for block in &self.blocks {
            frame.extend(block.to_le_bytes());
        }
        let link = Hash::of(&[&frame]);
        frame.extend(link.as_bytes());
        (frame, link)
    }

    /// Reads a whole frame. Whether the link in it is right is for [`Linked::holds`] to say.
    ///
    /// # Errors
    /// When the bytes are not a header that a writer makes.
    pub fn decode(frame: &[u8]) -> Result<Linked, Malformed> {
        let start = frame.first_chunk::<8>().ok_or(Malformed::NotASegment)?;
        if frame_length(*start)? != frame.len() {
            return Err(Malformed::Inconsistent);
        }
        let (body, link) = frame.split_last_chunk::<LINK>().ok_or(Malformed::Inconsistent)?;
        let mut fields = Fields(body.get(8..).unwrap_or_default());
        if fields.take::<4>()? != NAME {
            return Err(Malformed::NotASegment);
        }
        let version = u16::from_le_bytes(fields.take()?);
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let [kind, reserved] = fields.take()?;
        let stream = StreamId::of_code(kind, fields.u32()?).ok_or(Malformed::Inconsistent)?;
        let (length, packed) = (fields.u32()?, fields.u32()?);
        let marks = u16::from_le_bytes(fields.take()?) as usize;
        let blocks = u16::from_le_bytes(fields.take()?) as usize;
        let bounded = length as usize <= MAX_CONTENT && packed as usize <= MAX_PACKED && marks <= MAX_MARKS;
        let whole = frame.len() == frame_size(marks, blocks) && (packed as usize).div_ceil(BLOCK) == blocks;
        if reserved != 0 || !bounded || !whole || length == 0 || packed == 0 {
            return Err(Malformed::Inconsistent);
        }
        let (seq, offset, first_us, last_us) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let session = SessionId::from_bytes(fields.take()?);
        let (prev, data) = (Hash::from_bytes(fields.take()?), Hash::from_bytes(fields.take()?));
        let marks: Vec<Mark> = (0..marks)
            .map(|_| Ok(Mark { offset: fields.u32()?, after_us: fields.u32()? }))
            .collect::<Result<_, Malformed>>()?;
        let blocks: Vec<u32> = (0..blocks).map(|_| fields.u32()).collect::<Result<_, _>>()?;
        let ordered = marks.windows(2).all(|pair| matches!(pair, [a, b] if a.offset < b.offset));
        if !ordered || marks.last().is_some_and(|mark| mark.offset >= length) {
            return Err(Malformed::Inconsistent);
        }
        let header =
            Self { session, stream, seq, prev, data, offset, length, packed, first_us, last_us, marks, blocks };
        Ok(Linked { header, link: Hash::from_bytes(*link), holds: Hash::of(&[body]).as_bytes() == link })
    }
}

/// A header as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// What it says.
    pub header: SegmentHeader,
    /// The link at its end, to which the next segment refers.
    pub link: Hash,
    /// Whether the link is right, that is: nothing in the header was changed.
    pub holds: bool,
}

/// The CRC-32 of each block of compressed data.
#[must_use]
pub fn block_sums(packed: &[u8]) -> Vec<u32> {
    packed.chunks(BLOCK).map(crc32fast::hash).collect()
}

/// A reader of fixed fields.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Inconsistent)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }
}

/// A length that the limits above keep far below 4 GiB.
pub(crate) fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            session: SessionId::from_bytes([7; 16]),
            stream: StreamId::Stderr(9),
            seq: 42,
            prev: Hash::of(&[b"before"]),
            data: Hash::of(&[b"data"]),
            offset: 1 << 40,
            length: 10_000,
            packed: 5_000,
            first_us: 1_000_000,
            last_us: 1_500_000,
            marks: vec![Mark { offset: 0, after_us: 0 }, Mark { offset: 17, after_us: 400_000 }],
            blocks: vec![1, 2],
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        let (frame, link) = header().encode();
        let start = *frame.first_chunk::<8>().unwrap();
        assert_eq!(frame_length(start).unwrap(), frame.len());
        assert_eq!(SegmentHeader::decode(&frame).unwrap(), Linked { header: header(), link, holds: true });
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let (frame, _) = header().encode();
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(!SegmentHeader::decode(&frame).is_ok_and(|read| read.holds), "bit {bit}");
        }
    }

    #[test]
    fn sizes_beyond_the_limits_are_refused() {
        let too_long = SegmentHeader { length: narrow(MAX_CONTENT + 1), ..header() };
        assert_eq!(SegmentHeader::decode(&too_long.encode().0), Err(Malformed::Inconsistent));
        let mut start = [0; 8];
        start[..4].copy_from_slice(&MAGIC);
        start[4..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(frame_length(start), Err(Malformed::Inconsistent));
    }

    #[test]
    fn a_stream_has_one_file_name() {
        for id in [StreamId::Timeline, StreamId::Terminal(0), StreamId::Stdout(12), StreamId::Stderr(3)] {
            assert_eq!(StreamId::of_file(&id.to_string()), Some(id));
        }
        for name in ["terminal-01.cast.zst", "terminal-+1.cast.zst", "manifest.json", "channel-.stdout.zst"] {
            assert_eq!(StreamId::of_file(name), None, "{name}");
        }
    }
}
