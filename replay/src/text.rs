//! Bytes of a command's output cut into lines of text, in bounded memory.

/// Collects bytes into lines. UTF-8 split over two writes is put together again; whatever is not UTF-8 becomes U+FFFD.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands out each line that they complete, without its end (`\n` or `\r\n`).
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LONGEST) {
                self.open.extend_from_slice(part);
                if self.open.last() == Some(&b'\n') {
                    each(String::from_utf8_lossy(trim(&self.open)).as_ref());
                    self.open.clear();
                } else if self.open.len() >= LONGEST {
                    let cut = whole_characters(&self.open);
                    let rest = self.open.split_off(cut);
                    each(String::from_utf8_lossy(&self.open).as_ref());
                    self.open = rest;
                }
            }
        }
    }

    /// Whether no line was begun.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes of the line that was begun.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// The last line, if it was left without an end.
    #[must_use]
    pub fn finish(self) -> Option<String> {
        (!self.open.is_empty()).then(|| String::from_utf8_lossy(&self.open).into_owned())
    }
}

fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many bytes at the front are whole characters: all but a UTF-8 sequence that has only begun at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let begun = bytes.iter().rev().take(3).position(|byte| *byte >= 0xc0).map_or(0, |back| back + 1);
    let Some((_, tail)) = bytes.split_at_checked(bytes.len() - begun) else { return bytes.len() };
    match std::str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() => bytes.len() - begun,
        _ => bytes.len(),
    }
}

/// The longest line that is kept whole, in bytes; a longer one is handed out in pieces.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(writes: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for write in writes {
            lines.feed(write, |line| found.push(line.to_owned()));
        }
        found.extend(lines.finish());
        found
    }

    #[test]
    fn joins_what_two_writes_split() {
        assert_eq!(lines(&[b"one\r\ntw", b"o\nthree"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"na\xc3", b"\xafve\n"]), ["naïve"]);
        assert_eq!(lines(&[b"\xff\n\n"]), ["\u{fffd}", ""]);
    }

    #[test]
    fn hands_out_an_endless_line_in_pieces_of_whole_characters() {
        let endless = "日".repeat(10_000);
        let mut split = Lines::default();
        let (mut pieces, mut together) = (0, String::new());
        for write in endless.as_bytes().chunks(1000) {
            split.feed(write, |line| {
                pieces += 1;
                together.push_str(line);
            });
            assert!(split.open.len() <= 2 * LONGEST);
        }
        together.extend(split.finish());
        assert!(pieces >= 6, "{pieces} pieces");
        assert_eq!(together, endless);
    }
}
