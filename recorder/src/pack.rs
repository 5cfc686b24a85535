//! Content → zstd frame and back. Fast before small: a recorder that cannot keep up slows the session down. It owns the
//! choice of level, and the few compressors that all sessions share, so that an idle session keeps none.

use std::{io, sync::Mutex};

use zstd::bulk::{Compressor, Decompressor};

use crate::segment::{MAX_CONTENT, narrow};

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
/// Bytes from the middle of bulk content that are compressed first, to see whether it is worth it.
const SAMPLE: usize = 4 << 10;
/// Compressors kept for the next segment, about 1 MB each.
const KEPT: usize = 2;
/// Most bytes of one zstd block (RFC 8878, 3.1.1.2.4).
const ZSTD_BLOCK: usize = 128 << 10;

/// Compresses segments for all sessions of a store.
#[derive(Default)]
pub(crate) struct Packer {
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Packer {
    /// Puts the content, which took `span_us` microseconds to arrive, into `packed` as one zstd frame.
    pub(crate) fn pack(&self, content: &[u8], span_us: u64, packed: &mut Vec<u8>) -> io::Result<()> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut compressor = kept.map_or_else(|| Compressor::new(LEVEL_CALM), Ok)?;
        pack_with(&mut compressor, content, span_us, packed)?;
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < KEPT
        {
            idle.push(compressor);
        }
        Ok(())
    }
}

fn pack_with(compressor: &mut Compressor<'_>, content: &[u8], span_us: u64, packed: &mut Vec<u8>) -> io::Result<()> {
    packed.clear();
    if content.len() < BULK {
        compressor.set_compression_level(LEVEL_CALM)?;
    } else {
        let as_fast_as = |speed: u64| content.len() as u64 >= speed.saturating_mul(span_us / 1000);
        compressor.set_compression_level(if as_fast_as(RUSH) { LEVEL_RUSH } else { LEVEL_BULK })?;
        let worth_it = if as_fast_as(FLOOD) { SAMPLE / 8 } else { SAMPLE * 31 / 32 };
        let middle = content.len() / 2;
        if let Some(sample) = content.get(middle..middle + SAMPLE)
            && compressor.compress(sample)?.len() > worth_it
        {
            store(content, packed);
            return Ok(());
        }
    }
    packed.reserve(zstd::zstd_safe::compress_bound(content.len()));
    compressor.compress_to_buffer(content, packed)?;
    Ok(())
}

/// The content as a zstd frame of raw blocks (RFC 8878, 3.1.1): as quick as copying.
fn store(content: &[u8], packed: &mut Vec<u8>) {
    packed.reserve(content.len() + 16 + 3 * content.len().div_ceil(ZSTD_BLOCK));
    packed.extend(zstd::zstd_safe::MAGICNUMBER.to_le_bytes());
    // Frame header descriptor: a single segment, its size in four bytes, no checksum, no dictionary.
    packed.push(0b1010_0000);
    packed.extend(narrow(content.len()).to_le_bytes());
    let mut blocks = content.chunks(ZSTD_BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        let [a, b, c, _] = (narrow(block.len()) << 3 | last).to_le_bytes();
        packed.extend([a, b, c]);
        packed.extend_from_slice(block);
    }
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

    #[test]
    fn content_of_every_kind_comes_back() {
        let text = b"the quick brown fox jumps over the lazy dog\n".repeat(20_000);
        for content in [&b"a"[..], &text[..100], &text, &noise(BULK - 1), &noise(ZSTD_BLOCK), &noise(1_000_003)] {
            let mut packed = vec![];
            let span_us = if content.len() % 2 == 0 { 0 } else { 1_000_000 };
            Packer::default().pack(content, span_us, &mut packed).unwrap();
            let back = unpack(&mut Decompressor::new().unwrap(), &packed, content.len()).unwrap();
            assert!(back == content, "{} bytes", content.len());
        }
    }

    #[test]
    fn noise_is_stored_and_text_is_compressed() {
        let mut packed = vec![];
        Packer::default().pack(&noise(1 << 20), 0, &mut packed).unwrap();
        assert!(packed.len() < (1 << 20) + 64, "{}", packed.len());
        Packer::default().pack(&b"lorem ipsum dolor sit amet ".repeat(10_000), 0, &mut packed).unwrap();
        assert!(packed.len() < 10_000, "{}", packed.len());
    }

    #[test]
    fn a_flood_is_compressed_only_where_that_is_quicker_than_storing_it() {
        let lines = |count: u32| -> Vec<u8> {
            (0..count)
                .flat_map(|n| format!("GET /items/{:x} 200\n", n.wrapping_mul(2_654_435_761)).into_bytes())
                .collect()
        };
        let size = |content: &[u8], span_us: u64| {
            let mut packed = vec![];
            Packer::default().pack(content, span_us, &mut packed).unwrap();
            packed.len()
        };
        let log = lines(20_000);
        assert!(size(&log, 100_000) < log.len() * 9 / 10, "it came at leisure");
        assert!(size(&log, 1000) > log.len(), "it came as a flood");
        assert!(size(&vec![0; 1 << 20], 1000) < 1000, "zeros in a flood");
    }

    #[test]
    fn a_frame_that_grows_beyond_its_word_is_refused() {
        let mut bomb = vec![];
        Packer::default().pack(&vec![0; MAX_CONTENT], 0, &mut bomb).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        assert!(unpack(&mut decompressor, &bomb, 1000).is_err());
        let mut two = bomb.clone();
        two.extend(&bomb);
        assert!(unpack(&mut decompressor, &two, MAX_CONTENT).is_err());
        assert!(unpack(&mut decompressor, &bomb[..bomb.len() - 1], MAX_CONTENT).is_err());
    }
}
