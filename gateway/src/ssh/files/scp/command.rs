//! The command line that starts scp's far end: `scp -t PATH` takes files, `scp -f PATH` gives them.
//!
//! It counts as scp only where a shell could make nothing else of it. Whatever could run another program, or is not surely one
//! call of scp, is an ordinary command, and wants the right to run commands.

use crate::ssh::files::{MAX_PATH, text};

/// A call of scp's far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ssh) struct Command {
    upload: bool,
    paths: Vec<Vec<u8>>,
}

impl Command {
    /// Reads a command line; None where it is not surely scp's far end.
    pub(in crate::ssh) fn read(line: &[u8]) -> Option<Self> {
        let mut words = words(line)?.into_iter();
        if !words.next().is_some_and(|program| PROGRAMS.contains(&program.text.as_slice())) {
            return None;
        }
        let (mut to, mut from, mut options) = (false, false, true);
        let mut paths = Vec::new();
        for word in words {
            match word.text.as_slice() {
                b"--" if options => options = false,
                [b'-', flags @ ..] if options && !flags.is_empty() => {
                    if word.expands || !flags.iter().all(|flag| FLAGS.contains(flag)) {
                        return None;
                    }
                    to |= flags.contains(&b't');
                    from |= flags.contains(&b'f');
                }
                _ => {
                    options = false;
                    paths.push(word);
                }
            }
        }
        // Of `-t` and `-f` scp obeys the latter, and a pattern may stand for a file that is named so: `scp -t {-f,/etc/passwd}`.
        let plain = from || paths.iter().all(|word| !word.expands);
        let one = from || paths.len() == 1;
        let paths: Vec<Vec<u8>> = paths.into_iter().map(|word| word.text).collect();
        let short = paths.iter().map(Vec::len).sum::<usize>() <= MAX_PATH;
        (to != from && !paths.is_empty() && plain && one && short).then_some(Self { upload: to, paths })
    }

    /// Whether files go to the target.
    pub(in crate::ssh) fn uploads(&self) -> bool {
        self.upload
    }

    /// `read` or `write`.
    pub(super) fn verb(&self) -> &'static str {
        if self.upload { "write" } else { "read" }
    }

    /// Its path, or paths with a space between them, as the shell would pass them on.
    pub(super) fn path(&self) -> String {
        self.paths.iter().map(|path| text(path)).collect::<Vec<_>>().join(" ")
    }
}

/// A word of a command line.
#[derive(Debug, Default)]
struct Word {
    text: Vec<u8>,
    /// Whether a shell may put other words in its place.
    expands: bool,
}

/// The words of a line, as any shell would split it; None where some shell could do anything else than call one program with
/// them (POSIX.1-2024, Shell Command Language, 2.2 and 2.3). An account's shell may as well be fish, cmd.exe or PowerShell,
/// and what one of them takes for quoted another may not: so nothing that any shell obeys is taken, in quotes or not.
fn words(line: &[u8]) -> Option<Vec<Word>> {
    if line.iter().any(|byte| OPERATORS.contains(byte) || (byte.is_ascii_control() && *byte != b'\t')) {
        return None;
    }
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if matches!(byte, b' ' | b'\t') {
            words.extend(word.take());
            continue;
        }
        if byte == b'#' && word.is_none() {
            return None;
        }
        let word = word.get_or_insert_default();
        match byte {
            b'\'' | b'"' => quoted(&mut bytes, &mut word.text, byte)?,
            b'\\' => word.text.push(bytes.next().filter(|next| *next == b' ')?),
            byte => {
                word.expands |= PATTERNS.contains(&byte);
                word.text.push(byte);
            }
        }
    }
    words.extend(word);
    Some(words)
}

fn quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>, end: u8) -> Option<()> {
    for byte in bytes {
        match byte {
            byte if byte == end => return Some(()),
            // In single quotes fish obeys it too.
            b'\\' => return None,
            byte => word.push(byte),
        }
    }
    None
}

/// What a shell reads as the end of a command, as a substitution, or as the place of its input or output; `%` and `^` in cmd.exe.
const OPERATORS: &[u8] = b";&|<>()`$!%^\n\r\0";
/// What makes a word stand for others.
const PATTERNS: &[u8] = b"*?[{";
/// Where scp is; another program of that name could be anything.
const PROGRAMS: [&[u8]; 3] = [b"scp", b"/usr/bin/scp", b"/bin/scp"];
/// The flags that clients pass on: recursive, preserve, must be a folder, verbose, quiet, and which end this is.
const FLAGS: &[u8] = b"rpdvqtf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_scp_by_its_far_end() {
        for (line, expected) in [
            ("scp -t /tmp", Some((true, "/tmp"))),
            ("/usr/bin/scp -v -r -f file", Some((false, "file"))),
            ("scp -pt -- x", Some((true, "x"))),
            ("scp -p -r -d -t -- 'a b'", Some((true, "a b"))),
            ("scp -f a\\ b 'c d' \"e 'f\"", Some((false, "a b c d e 'f"))),
            ("scp -f ~/*.{txt,md}", Some((false, "~/*.{txt,md}"))),
            ("scp -f -- -t", Some((false, "-t"))),
            ("scp -f x -t", Some((false, "x -t"))),
        ] {
            let found = Command::read(line.as_bytes());
            let found = found.as_ref().map(|command| (command.uploads(), command.path()));
            assert_eq!(found, expected.map(|(up, path)| (up, path.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_a_shell_could_make_more_of_is_no_scp() {
        for line in [
            "",
            "scp",
            "scp a b:c",
            "scp -t",
            "scp -t a b",
            "scp -t -f x",
            "scp -tf x",
            "scp -S /tmp/evil -t x",
            "scp -oProxyCommand=reboot -f x",
            "scp -f x; rm y",
            "scp -f x && rm y",
            "scp -f x | sh",
            "scp -f x > y",
            "scp -f x < y",
            "scp -f $(reboot)",
            "scp -f `reboot`",
            "scp -f \"$(reboot)\"",
            "scp -f 'x;reboot'",
            "scp -f 'x&reboot'",
            "scp -f \"x|reboot\"",
            "scp -f 'x$(reboot)'",
            "scp -f x\\;reboot",
            "scp -f 'x\\' y",
            "scp -f \"x\\y\"",
            "scp -f x\\'y",
            "scp -f x\\\\ y",
            "scp -f %TEMP%",
            "scp -f x^ y",
            "scp -f $HOME/x",
            "scp -f x\nreboot",
            "scp -f x\rreboot",
            "scp -f x\0y",
            "scp -f 'x",
            "scp -f x\\",
            "scp -f x\\\ny",
            "scp -f x !!",
            "scp -f x # y",
            "#scp -f x",
            "(scp -f x)",
            "echo scp -t x",
            "PATH=/tmp scp -t x",
            "/tmp/scp -t x",
            "./scp -t x",
            "scp2 -t x",
            "scp -t {-f,/etc/passwd}",
            "scp -t *",
            "scp -{t,f} x",
            "scp{,} -t x",
        ] {
            assert_eq!(Command::read(line.as_bytes()), None, "{line:?}");
        }
        let long = format!("scp -f {}", "x".repeat(MAX_PATH + 1));
        assert_eq!(Command::read(long.as_bytes()), None);
    }
}
