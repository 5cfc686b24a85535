//! What a command without a terminal wrote, searched line by line. Of a line without an end, or of none at all, the last
//! part is kept, so that text is found across the pieces in which it came.

use std::time::Duration;

use sallyport_recorder::read::Item;

use super::{Query, Seeker};

/// The line that is not whole yet.
pub(super) struct Output<'a> {
    query: &'a Query,
    open: Vec<u8>,
    /// Whether something was found in what has been let go of this line.
    told: bool,
    at: Duration,
}

impl<'a> Output<'a> {
    pub(super) fn new(query: &'a Query) -> Self {
        Self { query, open: Vec::new(), told: false, at: Duration::ZERO }
    }

    fn look(&self, bytes: &[u8]) -> Option<String> {
        // Most of what commands write is not what is looked for: no text is made of it.
        self.query.is_in(bytes).then(|| self.query.excerpt(&String::from_utf8_lossy(bytes))).flatten()
    }

    fn close(&mut self, found: &mut dyn FnMut(Duration, String)) {
        if !self.told
            && let Some(line) = self.look(&self.open)
        {
            found(self.at, line);
        }
        self.told = false;
        self.open.clear();
    }
}

impl Seeker for Output<'_> {
    fn take(&mut self, at: Duration, item: Item, found: &mut dyn FnMut(Duration, String)) {
        let Item::Output { bytes, .. } = item else { return };
        self.at = at;
        // Without a find in the whole lines of this piece there is none in any of them.
        let (first, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => bytes.split_at(end + 1),
            None => (&bytes[..], &[][..]),
        };
        self.extend(first, found);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (whole, last) = rest.split_at(whole);
        if self.query.is_in(whole) {
            for line in whole.split(|byte| *byte == b'\n') {
                if let Some(line) = self.look(line) {
                    found(at, line);
                }
            }
        }
        self.extend(last, found);
    }

    fn finish(mut self, found: &mut dyn FnMut(Duration, String)) {
        self.close(found);
    }
}

impl Output<'_> {
    /// Adds to the open line, and closes it where it ends.
    fn extend(&mut self, bytes: &[u8], found: &mut dyn FnMut(Duration, String)) {
        for piece in bytes.chunks(MOST) {
            self.open.extend_from_slice(piece);
            if self.open.last() == Some(&b'\n') {
                self.open.pop();
                self.close(found);
            } else if self.open.len() > 2 * MOST {
                if !self.told
                    && let Some(line) = self.look(&self.open)
                {
                    found(self.at, line);
                    self.told = true;
                }
                self.open.drain(..self.open.len() - MOST);
            }
        }
    }
}

/// Bytes of an endless line that are kept: text longer than this is not found across two pieces.
const MOST: usize = 16 * 1024;
