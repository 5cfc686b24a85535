//! Content → zstd frame and back. Fast before small: a recorder that cannot keep up slows the session down. It owns the
//! choice of level, and the few compressors that all sessions share, so that an idle session keeps none.

use std::{
    io::{self, Write as _},
    sync::Mutex,
};

use zstd::bulk::{Compressor, Decompressor};

use crate::{
    content::Content,
    segment::{MAX_CONTENT, narrow},
};

/// For the few kilobytes that a person makes: small, and still quick.
const LEVEL_CALM: i32 = 3;
/// For output that comes at leisure: quick, and a fifth of the size for a log.
const LEVEL_BULK: i32 = 1;
/// For output as fast as the network gives it: twice as quick, and two fifths.
const LEVEL_RUSH: i32 = -20;
/// Content from this size on is bulk.
const BULK: usize = 64 << 10;
/// Bulk is in a rush from this speed on, in bytes per millisecond.
const RUSH: u64 = 10_000;
/// From this speed on it is a flood, whose session would wait for its compression above all: it is stored as it is, unless
/// it is of the kind that compresses to next to nothing, which is quicker than storing it.
const FLOOD: u64 = 200_000;
/// Bytes of bulk content that are compressed first, to see whether it is worth it.
const SAMPLE: usize = 4 << 10;
/// Compressors kept for the next segment, about 1 MB each.
const KEPT: usize = 2;
/// Most bytes of one zstd block (RFC 8878, 3.1.1.2.4).
const ZSTD_BLOCK: usize = 128 << 10;
/// Bytes of a frame's own header before its raw blocks.
const STORED_HEADER: usize = 9;

/// Compresses segments for all sessions of a store.
#[derive(Default)]
pub(crate) struct Packer {
    idle: Mutex<Vec<Compressor<'static>>>,
}

/// How fast a stream's bulk has lately come: a session that stands still for a moment, maybe because of us, is not a slow one.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pace {
    bytes: u64,
    us: u64,
}

impl Pace {
    /// Counts a segment's bytes, and the microseconds that they took to arrive. About two megabytes are remembered.
    pub(crate) fn count(&mut self, bytes: usize, us: u64) {
        if bytes >= BULK {
            self.bytes = self.bytes / 8 * 7 + bytes as u64;
            self.us = self.us / 8 * 7 + us;
        }
    }

    /// Whether it is at least so many bytes a millisecond.
    fn is(self, speed: u64) -> bool {
        self.bytes >= speed.saturating_mul(self.us / 1000)
    }
}

/// What a packer needs room for, kept from one segment to the next.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    joined: Vec<u8>,
    frame: Vec<u8>,
}

/// Content as one zstd frame.
pub(crate) enum Packed<'a> {
    /// Compressed.
    Frame(&'a [u8]),
    /// To be stored in raw blocks.
    Stored(&'a Content),
}

impl Packer {
    /// Packs content that came at this pace.
    pub(crate) fn pack<'a>(&self, content: &'a Content, pace: Pace, desk: &'a mut Desk) -> io::Result<Packed<'a>> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut compressor = kept.map_or_else(|| Compressor::new(LEVEL_CALM), Ok)?;
        let packed = pack_with(&mut compressor, content, pace, desk)?;
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < KEPT
        {
            idle.push(compressor);
        }
        Ok(packed)
    }
}

fn pack_with<'a>(
    compressor: &mut Compressor<'_>,
    content: &'a Content,
    pace: Pace,
    desk: &'a mut Desk,
) -> io::Result<Packed<'a>> {
    if content.len() < BULK {
        compressor.set_compression_level(LEVEL_CALM)?;
    } else {
        compressor.set_compression_level(if pace.is(RUSH) { LEVEL_RUSH } else { LEVEL_BULK })?;
        let worth_it = if pace.is(FLOOD) { SAMPLE / 8 } else { SAMPLE * 31 / 32 };
        if compressor.compress(sample(content))?.len() > worth_it {
            return Ok(Packed::Stored(content));
        }
    }
    let Desk { joined, frame } = desk;
    let content = content.joined(joined);
    frame.clear();
    frame.reserve(zstd::zstd_safe::compress_bound(content.len()));
    compressor.compress_to_buffer(content, frame)?;
    Ok(Packed::Frame(frame))
}

/// Some bytes from the middle of the largest piece; of bulk, that is larger than a sample.
fn sample(content: &Content) -> &[u8] {
    let largest = content.pieces().max_by_key(|piece| piece.len()).unwrap_or_default();
    let from = largest.len().saturating_sub(SAMPLE) / 2;
    largest.get(from..from + SAMPLE).unwrap_or(largest)
}

impl Packed<'_> {
    /// Bytes of the frame.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Stored(content) => STORED_HEADER + content.len() + 3 * content.len().div_ceil(ZSTD_BLOCK),
        }
    }

    /// Writes the frame to where there is room for exactly that.
    pub(crate) fn write(&self, mut out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Frame(frame) => out.write_all(frame),
            Self::Stored(content) => store(content, out),
        }
    }
}

/// The content as a zstd frame of raw blocks (RFC 8878, 3.1.1): as quick as copying.
fn store(content: &Content, mut out: &mut [u8]) -> io::Result<()> {
    out.write_all(&zstd::zstd_safe::MAGICNUMBER.to_le_bytes())?;
    // Frame header descriptor: a single segment, its size in four bytes, no checksum, no dictionary.
    out.write_all(&[0b1010_0000])?;
    out.write_all(&narrow(content.len()).to_le_bytes())?;
    let (mut left, mut room) = (content.len(), 0);
    for mut piece in content.pieces() {
        while !piece.is_empty() {
            if room == 0 {
                room = left.min(ZSTD_BLOCK);
                left -= room;
                let [a, b, c, _] = (narrow(room) << 3 | u32::from(left == 0)).to_le_bytes();
                out.write_all(&[a, b, c])?;
            }
            let (now, rest) = piece.split_at(piece.len().min(room));
            out.write_all(now)?;
            room -= now.len();
            piece = rest;
        }
    }
    Ok(())
}

/// The content of a zstd frame that says it has `length` bytes; never allocates more than that.
///
/// # Errors
/// When the frame is not whole, is more than one, or has another length.
pub(crate) fn unpack(decompressor: &mut Decompressor<'_>, packed: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if length > MAX_CONTENT {
        return Err(wrong("the segment is larger than any"));
    }
    if zstd::zstd_safe::find_frame_compressed_size(packed) != Ok(packed.len()) {
        return Err(wrong("the segment does not hold one whole zstd frame"));
    }
    let content = decompressor.decompress(packed, length)?;
    if content.len() == length { Ok(content) } else { Err(wrong("the segment has another length than it says")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(length)
        .collect()
    }

    /// What comes of these bytes, which took so long to arrive.
    fn packed(bytes: &[u8], span_us: u64) -> Vec<u8> {
        let (mut content, mut pace, mut desk) = (Content::default(), Pace::default(), Desk::default());
        bytes.chunks(PACKET).for_each(|piece| content.push(bytes::Bytes::copy_from_slice(piece)));
        pace.count(content.len(), span_us);
        let packer = Packer::default();
        let packed = packer.pack(&content, pace, &mut desk).unwrap();
        let mut out = vec![0; packed.len()];
        packed.write(&mut out).unwrap();
        out
    }

    /// Pieces that do not end where zstd's blocks do.
    const PACKET: usize = 32_001;

    #[test]
    fn content_of_every_kind_comes_back() {
        let text = b"the quick brown fox jumps over the lazy dog\n".repeat(20_000);
        for content in [&b"a"[..], &text[..100], &text, &noise(BULK - 1), &noise(ZSTD_BLOCK), &noise(1_000_003)] {
            let span_us = if content.len() % 2 == 0 { 0 } else { 1_000_000 };
            let packed = packed(content, span_us);
            let back = unpack(&mut Decompressor::new().unwrap(), &packed, content.len()).unwrap();
            assert!(back == content, "{} bytes", content.len());
        }
    }

    #[test]
    fn noise_is_stored_and_text_is_compressed() {
        let stored = packed(&noise(1 << 20), 0).len();
        assert!(stored < (1 << 20) + 64, "{stored}");
        let compressed = packed(&b"lorem ipsum dolor sit amet ".repeat(10_000), 0).len();
        assert!(compressed < 10_000, "{compressed}");
    }

    #[test]
    fn a_flood_is_compressed_only_where_that_is_quicker_than_storing_it() {
        let lines = |count: u32| -> Vec<u8> {
            (0..count)
                .flat_map(|n| format!("GET /items/{:x} 200\n", n.wrapping_mul(2_654_435_761)).into_bytes())
                .collect()
        };
        let log = lines(20_000);
        assert!(packed(&log, 100_000).len() < log.len() * 9 / 10, "it came at leisure");
        assert!(packed(&log, 1000).len() > log.len(), "it came as a flood");
        assert!(packed(&vec![0; 1 << 20], 1000).len() < 1000, "zeros in a flood");
    }

    #[test]
    fn a_flood_that_stands_still_for_a_moment_is_one_all_the_same() {
        let mut pace = Pace::default();
        let segments = |pace: &mut Pace, count: usize, us: u64| (0..count).for_each(|_| pace.count(256 << 10, us));
        segments(&mut pace, 8, 400);
        assert!(pace.is(FLOOD));
        pace.count(256 << 10, 5000);
        assert!(pace.is(FLOOD), "the disk had a hiccup");
        segments(&mut pace, 8, 2500);
        assert!(!pace.is(FLOOD) && pace.is(RUSH), "it has calmed down");
        pace.count(BULK - 1, 0);
        segments(&mut pace, 100, 30_000);
        assert!(!pace.is(RUSH));
    }

    #[test]
    fn a_frame_that_grows_beyond_its_word_is_refused() {
        let bomb = packed(&vec![0; MAX_CONTENT], 0);
        let mut decompressor = Decompressor::new().unwrap();
        assert!(unpack(&mut decompressor, &bomb, 1000).is_err());
        let mut two = bomb.clone();
        two.extend(&bomb);
        assert!(unpack(&mut decompressor, &two, MAX_CONTENT).is_err());
        assert!(unpack(&mut decompressor, &bomb[..bomb.len() - 1], MAX_CONTENT).is_err());
    }
}
