//! scp's records as bytes: `C0644 312 name`, `D0755 0 name`, `E`, `T1700000000 0 1700000000 0`, each a line.

use crate::ssh::files::MAX_PATH;

/// A line that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<u8>);

/// What a sender says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    File {
        name: &'a [u8],
        size: u64,
    },
    Folder {
        name: &'a [u8],
    },
    /// Back out of a folder.
    Up,
    /// Of the file that comes next.
    Times,
    /// It could not read something; the line with its first byte, 1 or 2.
    Error(&'a [u8]),
}

impl Line {
    /// Whether nothing of a line has come.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes from `bytes` up to the line's end: how many, and the line once it is whole, with its end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Vec<u8>>), String> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = end.map_or(bytes, |end| bytes.get(..=end).unwrap_or(bytes));
        if self.0.len() + piece.len() > MAX_LINE {
            return Err(format!("a line of more than {MAX_LINE} bytes"));
        }
        self.0.extend_from_slice(piece);
        Ok((piece.len(), end.map(|_| std::mem::take(&mut self.0))))
    }
}

impl<'a> Record<'a> {
    /// Reads a whole line.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, String> {
        let unknown = || "a record that is none".to_owned();
        let line = line.strip_suffix(b"\n").ok_or_else(unknown)?;
        let (kind, rest) = line.split_first().ok_or_else(unknown)?;
        match kind {
            b'C' => entry(rest).map(|(size, name)| Self::File { name, size }),
            b'D' => entry(rest).map(|(_, name)| Self::Folder { name }),
            b'E' if rest.is_empty() => Some(Self::Up),
            b'T' if is_times(rest) => Some(Self::Times),
            1 | 2 => Some(Self::Error(line)),
            _ => None,
        }
        .ok_or_else(unknown)
    }
}

/// `mode size name`, read as sinks do: four octal digits, a decimal number, and a name that is no path.
fn entry(rest: &[u8]) -> Option<(u64, &[u8])> {
    let (mode, rest) = rest.split_at_checked(4)?;
    let rest = rest.strip_prefix(b" ")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (size, name) = rest.split_at_checked(space)?;
    let name = name.strip_prefix(b" ")?;
    let octal = mode.iter().all(|byte| (b'0'..=b'7').contains(byte));
    let digits = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    let plain = !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/');
    let size = std::str::from_utf8(size).ok()?.parse::<u64>().ok()?;
    (octal && digits && plain && size <= MAX_SIZE).then_some((size, name))
}

/// Four numbers: seconds and microseconds of the last change and of the last look.
fn is_times(rest: &[u8]) -> bool {
    let mut numbers = 0;
    let digits = rest.split(|byte| *byte == b' ').all(|number| {
        numbers += 1;
        !number.is_empty() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
    });
    digits && numbers == 4
}

/// Longest line, in bytes: a path, and a record's numbers.
const MAX_LINE: usize = MAX_PATH + 128;
/// Largest file: what a signed 64-bit offset counts, as scp's own limit.
const MAX_SIZE: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records_as_sinks_do() {
        for (line, expected) in [
            ("C0644 312 a b\n", Some(Record::File { name: b"a b", size: 312 })),
            ("D0755 0 folder\n", Some(Record::Folder { name: b"folder" })),
            ("E\n", Some(Record::Up)),
            ("T1700000000 0 1700000000 0\n", Some(Record::Times)),
            ("\x01scp: x: No such file\n", Some(Record::Error(b"\x01scp: x: No such file"))),
            ("C0644 312 a/b\n", None),
            ("C0644 312 ..\n", None),
            ("C0644 312 .\n", None),
            ("C0644 312 \n", None),
            ("C0644 -1 a\n", None),
            ("C0644 18446744073709551615 a\n", None),
            ("C0944 3 a\n", None),
            ("C064 3 a\n", None),
            ("E1\n", None),
            ("T1 2 3\n", None),
            ("Welcome to web1\n", None),
            ("\n", None),
        ] {
            assert_eq!(Record::read(line.as_bytes()).ok(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_line_comes_in_any_pieces_and_has_an_end() {
        let mut line = Line::default();
        assert_eq!(line.take(b"C0644"), Ok((5, None)));
        assert_eq!(line.take(b" 1 a\nx"), Ok((5, Some(b"C0644 1 a\n".to_vec()))));
        assert!(line.is_empty());
        assert!(line.take(&[b'x'; MAX_LINE + 1]).is_err());
    }
}
