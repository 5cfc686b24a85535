//! Messages after start-up: a tag, a length that counts itself, a payload.

/// Bytes before a payload: the tag and the length.
pub const HEADER: usize = 5;

/// The longest message, without its tag, in bytes: PostgreSQL's own limit for the largest kinds (`PQ_LARGE_MESSAGE_LIMIT`).
pub const MAX_LENGTH: u32 = 0x3fff_fffe;

/// The most of a payload that is held for somebody to look at, in bytes.
pub const HEAD_MAX: usize = 64 * 1024;

/// One message, as far as somebody looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its kind.
    pub tag: u8,
    /// Bytes of its payload, all of them.
    pub length: u32,
    /// The first bytes of its payload, [`HEAD_MAX`] at most; none of a row or of copied data.
    pub head: &'a [u8],
}

/// The beginning of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its kind.
    pub tag: u8,
    /// Bytes of its payload.
    pub length: u32,
}

/// A message whose length cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message '{}' says that it is {length} bytes long", tag.escape_ascii())]
pub struct BadFrame {
    tag: u8,
    length: u32,
}

impl Header {
    /// The header at the beginning of `bytes`; `None` while it is not whole.
    ///
    /// # Errors
    /// When the length does not count itself, or is longer than PostgreSQL takes.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, BadFrame> {
        let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        match length.checked_sub(4) {
            Some(payload) if length <= MAX_LENGTH => Ok(Some(Self { tag, length: payload })),
            _ => Err(BadFrame { tag, length }),
        }
    }

    /// Bytes of its payload.
    pub fn payload(self) -> usize {
        // A usize has 32 bits at least wherever this runs.
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }
}

impl<'a> Frame<'a> {
    /// Whether `head` is the whole payload.
    pub fn is_whole(&self) -> bool {
        u32::try_from(self.head.len()).is_ok_and(|length| length == self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_it_is_whole() {
        for cut in 0..HEADER {
            assert_eq!(Header::read(&b"Q\0\0\0\x09"[..cut]), Ok(None));
        }
        assert_eq!(Header::read(b"Q\0\0\0\x09SELECT"), Ok(Some(Header { tag: b'Q', length: 5 })));
        assert_eq!(Header::read(b"S\0\0\0\x04"), Ok(Some(Header { tag: b'S', length: 0 })));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for length in [0, 1, 2, 3, MAX_LENGTH + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert!(Header::read(&bytes).is_err(), "{length}");
        }
    }
}
