//! Finds the byte that was changed. Hashes say that something is wrong; a single wrong byte is found by trying which
//! change makes the hash right again, and larger damage is narrowed down by the checksums of blocks. Pure.

use crate::{
    hash::Hash,
    segment::{BLOCK, FIXED, Linked, MAGIC, MAX_FRAME, SegmentHeader},
};

/// Headers up to this size are searched whole, larger ones only in their fixed fields.
const SEARCHED: usize = 1024;

/// A wrong place in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Offset of the first byte that may be wrong.
    pub(crate) start: usize,
    /// How many bytes may be.
    pub(crate) length: usize,
}

/// A header that one changed byte made unreadable: where that byte is, and the header as it was.
pub(crate) fn mend_header(bytes: &[u8]) -> Option<(Spot, Linked)> {
    let stated = bytes.get(4..8)?.first_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize + 8)?;
    let counts = bytes.get(28..32)?.first_chunk::<4>()?;
    let [a, b, c, d] = *counts;
    let derived =
        FIXED + 32 + usize::from(u16::from_le_bytes([a, b])) * 8 + usize::from(u16::from_le_bytes([c, d])) * 4;
    let mut lengths = vec![stated, derived];
    lengths.dedup();
    // A wrong magic number is seen without a search, and hides nothing else from it.
    lengths.into_iter().filter(|length| (FIXED..=MAX_FRAME).contains(length)).find_map(|length| {
        let mut frame = bytes.get(..length)?.to_vec();
        let searched = if length <= SEARCHED { length } else { FIXED };
        (0..searched).find_map(|place| mend_at(&mut frame, place))
    })
}

fn mend_at(frame: &mut [u8], place: usize) -> Option<(Spot, Linked)> {
    let wrong = *frame.get(place)?;
    for right in (0..=u8::MAX).filter(|right| *right != wrong) {
        *frame.get_mut(place)? = right;
        // Cheap before dear: the hash is only computed for what begins like a segment.
        if frame.starts_with(&MAGIC)
            && let Ok(linked) = SegmentHeader::decode(frame)
            && linked.holds
        {
            return Some((Spot { start: place, length: 1 }, linked));
        }
    }
    *frame.get_mut(place)? = wrong;
    None
}

/// Where data differs from what its header says of it, to the byte where a single one is wrong.
pub(crate) fn wrong_data(header: &SegmentHeader, data: &[u8]) -> Spot {
    let (spot, difference) = differing(header, data);
    let exact = difference.and_then(|difference| wrong_byte(header.data, data, spot, difference));
    exact.unwrap_or(spot)
}

/// The same as far as the checksums of blocks tell, which needs no search.
pub(crate) fn wrong_blocks(header: &SegmentHeader, data: &[u8]) -> Spot {
    differing(header, data).0
}

/// The blocks whose checksums are wrong, and what the one's differs by if it is one.
fn differing(header: &SegmentHeader, data: &[u8]) -> (Spot, Option<u32>) {
    let sums = data.chunks(BLOCK).map(crc32fast::hash).zip(&header.blocks);
    let wrong: Vec<(usize, u32)> = sums
        .enumerate()
        .filter(|(_, (is, should))| is != *should)
        .map(|(at, (is, should))| (at, is ^ should))
        .collect();
    let (Some((first, difference)), Some((last, _))) = (wrong.first(), wrong.last()) else {
        return (Spot { start: 0, length: data.len() }, None);
    };
    let start = first * BLOCK;
    let end = (last * BLOCK + BLOCK).min(data.len());
    (Spot { start, length: end - start }, (first == last).then_some(*difference))
}

/// CRC-32 is linear: a wrong byte changes it by a value that depends only on the change and on how many bytes follow. The
/// hash then proves the guess.
fn wrong_byte(should: Hash, data: &[u8], Spot { start, length }: Spot, difference: u32) -> Option<Spot> {
    let mut mended = data.to_vec();
    for change in 1..=u8::MAX {
        let mut effect = crc_step(u32::from(change));
        for after in 0..length {
            if effect == difference {
                let place = start + length - 1 - after;
                *mended.get_mut(place)? ^= change;
                if Hash::of(&[&mended]) == should {
                    return Some(Spot { start: place, length: 1 });
                }
                *mended.get_mut(place)? ^= change;
            }
            effect = crc_step(effect);
        }
    }
    None
}

/// One zero byte through the CRC-32 of zlib (polynomial 0xEDB88320, reflected).
fn crc_step(crc: u32) -> u32 {
    (0..8).fold(crc, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionId, StreamId, segment::block_sums};

    fn segment(data: &[u8]) -> SegmentHeader {
        SegmentHeader {
            session: SessionId::from_bytes([7; 16]),
            stream: StreamId::Timeline,
            seq: 3,
            prev: Hash::of(&[b"before"]),
            data: Hash::of(&[data]),
            offset: 0,
            length: 20_000,
            packed: u32::try_from(data.len()).unwrap(),
            first_us: 1,
            last_us: 2,
            marks: vec![],
            blocks: block_sums(data),
        }
    }

    #[test]
    fn every_single_wrong_byte_of_a_header_is_found() {
        let (frame, link) = segment(&[1; 9000]).encode();
        for place in 0..frame.len() {
            let mut broken = frame.clone();
            broken[place] ^= 0x21;
            let (spot, linked) = mend_header(&broken).unwrap_or_else(|| panic!("byte {place}"));
            assert_eq!((spot, linked.link), (Spot { start: place, length: 1 }, link));
        }
    }

    #[test]
    fn a_single_wrong_byte_of_data_is_found_and_more_are_narrowed_down() {
        let data: Vec<u8> = (0..10_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        let header = segment(&data);
        for place in [0, 1, 4095, 4096, 7777, 9999] {
            let mut broken = data.clone();
            broken[place] ^= 0x80;
            assert_eq!(wrong_data(&header, &broken), Spot { start: place, length: 1 });
            let start = place / BLOCK * BLOCK;
            assert_eq!(wrong_blocks(&header, &broken), Spot { start, length: BLOCK.min(data.len() - start) });
        }
        let mut broken = data.clone();
        broken[5000] ^= 1;
        broken[6000] ^= 1;
        assert_eq!(wrong_data(&header, &broken), Spot { start: 4096, length: 4096 });
        broken[9000] ^= 1;
        assert_eq!(wrong_data(&header, &broken), Spot { start: 4096, length: 10_000 - 4096 });
    }
}
