//! What is to become a stream's next segment. Large pieces stay as they came, so that they are copied once only, to where
//! they are written from; small ones are gathered.

use bytes::Bytes;

/// Bytes of one stream, in order. The default has none.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pieces: Vec<Bytes>,
    /// Bytes of all pieces.
    whole: usize,
    /// What comes after them.
    gathered: Vec<u8>,
}

impl Content {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.whole + self.gathered.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a piece.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() < KEPT {
            self.gathered.extend_from_slice(&piece);
            return;
        }
        if !self.gathered.is_empty() {
            self.whole += self.gathered.len();
            self.pieces.push(Bytes::from(std::mem::take(&mut self.gathered)));
        }
        self.whole += piece.len();
        self.pieces.push(piece);
    }

    /// The end of it, to be written to.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// All of it, piece by piece; none is empty.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let gathered = Some(self.gathered.as_slice()).filter(|gathered| !gathered.is_empty());
        self.pieces.iter().map(Bytes::as_ref).chain(gathered)
    }

    /// All of it in one piece, put together in `room` if need be.
    pub(crate) fn joined<'a>(&'a self, room: &'a mut Vec<u8>) -> &'a [u8] {
        let mut pieces = self.pieces();
        match (pieces.next(), pieces.next()) {
            (Some(only), None) => only,
            _ => {
                room.clear();
                self.pieces().for_each(|piece| room.extend_from_slice(piece));
                room
            }
        }
    }

    /// Nothing is left of it but the room for what comes next.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.whole = 0;
        self.gathered.clear();
    }
}

/// Pieces from this size on stay as they came. It keeps in memory the packet that it came in, which may be twice as large.
const KEPT: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_every_size_stay_in_order_and_large_ones_are_not_copied() {
        let (mut content, mut all) = (Content::default(), vec![]);
        let large = Bytes::from(vec![7; KEPT]);
        for size in [1, KEPT - 1, KEPT, 3, 0, 5 * KEPT, KEPT, 2] {
            let piece =
                if size == KEPT { large.clone() } else { Bytes::from(vec![u8::try_from(size % 251).unwrap(); size]) };
            all.extend_from_slice(&piece);
            content.push(piece);
        }
        content.end().extend(b"line\n");
        all.extend(b"line\n");
        assert_eq!(content.len(), all.len());
        assert!(content.pieces().collect::<Vec<_>>().concat() == all);
        assert_eq!(content.pieces().filter(|piece| piece.as_ptr() == large.as_ptr()).count(), 2);
        content.clear();
        assert!(content.is_empty() && content.pieces().next().is_none());
    }
}
