//! asciicast v2 (<https://docs.asciinema.org/manual/asciicast/v2/>) with the header fields that Tailscale's recorder adds,
//! so that both asciinema and whatever reads tsrecorder's files understand ours. Pure bytes: lines out, lines in.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::{Header, SessionId};

/// Longest piece of text in one line; longer output is written as several lines of the same time.
pub(crate) const MAX_TEXT: usize = 64 << 10;

/// What the caller of [`crate::Recording::terminal`] knows about a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TerminalHeader {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// The value of `TERM`.
    pub term: String,
    /// The command, if it is not a login shell.
    pub command: Option<String>,
    /// The account that the client asked for.
    pub requested: String,
    /// The account on the target.
    pub account: String,
}

/// The first line of a `.cast`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CastHeader {
    /// 2
    pub version: u32,
    /// Columns at the start.
    pub width: u16,
    /// Rows at the start.
    pub height: u16,
    /// When the terminal was opened, in seconds since 1970.
    pub timestamp: i64,
    /// The command, if it is not a login shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `TERM`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The caller's device.
    #[serde(rename = "srcNode", default)]
    pub src_node: String,
    /// Its WireGuard key.
    #[serde(rename = "srcNodeID", default)]
    pub src_node_id: String,
    /// The tags of a tagged machine.
    #[serde(rename = "srcNodeTags", default, skip_serializing_if = "Vec::is_empty")]
    pub src_node_tags: Vec<String>,
    /// The user.
    #[serde(rename = "srcNodeUser", default, skip_serializing_if = "Option::is_none")]
    pub src_node_user: Option<String>,
    /// The account that the client asked for.
    #[serde(rename = "sshUser", default)]
    pub ssh_user: String,
    /// The account on the target.
    #[serde(rename = "localUser", default)]
    pub local_user: String,
    /// The session's name.
    #[serde(rename = "connectionID")]
    pub connection_id: SessionId,
    /// When the terminal was opened, in microseconds since the session's start. Ours alone.
    #[serde(rename = "sessionOffsetUs", default)]
    pub session_offset_us: u64,
}

impl CastHeader {
    /// The header of a terminal that was opened `at_us` after the session's start.
    pub(crate) fn new(session: &Header, terminal: TerminalHeader, at_us: u64) -> Self {
        let timestamp = session.started.as_second().saturating_add_unsigned(at_us / 1_000_000);
        Self {
            version: 2,
            width: terminal.width,
            height: terminal.height,
            timestamp,
            command: terminal.command,
            env: BTreeMap::from([("TERM".to_owned(), terminal.term)]),
            src_node: session.caller.device.clone(),
            src_node_id: session.caller.key.clone(),
            src_node_tags: session.caller.tags.clone(),
            src_node_user: session.caller.user.clone(),
            ssh_user: terminal.requested,
            local_user: terminal.account,
            connection_id: session.id,
            session_offset_us: at_us,
        }
    }
}

/// Output as it arrived → text: a character cut in two by a packet waits for its second half.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    carry: Vec<u8>,
}

impl Decoder {
    /// Calls `each` with the text of `bytes`, in pieces of at most [`MAX_TEXT`]; what is not UTF-8 becomes U+FFFD.
    pub(crate) fn decode(&mut self, bytes: &[u8], each: impl FnMut(&str)) {
        let joined;
        let bytes = if self.carry.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.carry).as_slice(), bytes].concat();
            &joined
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => pieces(text, each),
            Err(_) => pieces(&self.mend(bytes), each),
        }
    }

    fn mend(&mut self, bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let half = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if half && chunks.peek().is_none() {
                self.carry = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push('\u{FFFD}');
            }
        }
        text
    }

    /// What was left half-done when the terminal closed.
    pub(crate) fn finish(&mut self) -> Option<&'static str> {
        (!std::mem::take(&mut self.carry).is_empty()).then_some("\u{FFFD}")
    }
}

fn pieces(mut text: &str, mut each: impl FnMut(&str)) {
    while text.len() > MAX_TEXT {
        let end = (MAX_TEXT - 3..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let (piece, rest) = text.split_at(end);
        each(piece);
        text = rest;
    }
    if !text.is_empty() {
        each(text);
    }
}

/// Appends the line of some output, `after_us` microseconds after the terminal was opened.
pub(crate) fn output_line(line: &mut Vec<u8>, after_us: u64, text: &str) {
    line.reserve(text.len() + text.len() / 8 + 32);
    time(line, after_us);
    line.extend(b", \"o\", \"");
    escape(line, text);
    line.extend(b"\"]\n");
}

/// Appends the line of a change of size.
pub(crate) fn resize_line(line: &mut Vec<u8>, after_us: u64, width: u16, height: u16) {
    time(line, after_us);
    line.extend(format!(", \"r\", \"{width}x{height}\"]\n").into_bytes());
}

fn time(line: &mut Vec<u8>, after_us: u64) {
    let mut text = String::with_capacity(24);
    // Writing to a string cannot fail.
    let _ = write!(text, "[{}.{:06}", after_us / 1_000_000, after_us % 1_000_000);
    line.extend(text.into_bytes());
}

/// JSON's escapes (RFC 8259, 7): runs of plain bytes are copied whole.
fn escape(line: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(plain) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        let (run, special) = rest.split_at(plain);
        line.extend_from_slice(run);
        let Some((&byte, after)) = special.split_first() else { break };
        match byte {
            b'"' => line.extend(b"\\\""),
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            b'\t' => line.extend(b"\\t"),
            control => line.extend([b'\\', b'u', b'0', b'0', hex(control >> 4), hex(control & 15)]),
        }
        rest = after;
    }
    line.extend_from_slice(rest);
}

fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

/// A line of a `.cast` after the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CastLine {
    /// `o`
    Output { after_us: u64, text: String },
    /// `r`
    Resize { after_us: u64, width: u16, height: u16 },
    /// A code that we do not write: input, markers.
    Other,
}

impl CastLine {
    /// When it was, in microseconds after the terminal was opened.
    pub(crate) fn after_us(&self) -> Option<u64> {
        match self {
            Self::Output { after_us, .. } | Self::Resize { after_us, .. } => Some(*after_us),
            Self::Other => None,
        }
    }
}

/// Reads a line of a `.cast` after the first; `None` when it is not one.
pub(crate) fn parse_line(line: &[u8]) -> Option<CastLine> {
    let (time, code, data): (&serde_json::value::RawValue, String, String) = serde_json::from_slice(line).ok()?;
    let after_us = parse_time(time.get())?;
    Some(match code.as_str() {
        "o" => CastLine::Output { after_us, text: data },
        "r" => {
            let (width, height) = data.split_once('x')?;
            CastLine::Resize { after_us, width: width.parse().ok()?, height: height.parse().ok()? }
        }
        _ => CastLine::Other,
    })
}

/// Seconds with up to six decimals, exactly: a float would move events by a microsecond.
fn parse_time(text: &str) -> Option<u64> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(decimals) || decimals.len() > 6 {
        return None;
    }
    let micros: u64 = format!("{decimals:0<6}").parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]]) -> String {
        let mut decoder = Decoder::default();
        let mut text = String::new();
        for chunk in chunks {
            decoder.decode(chunk, |piece| text.push_str(piece));
        }
        text.push_str(decoder.finish().unwrap_or_default());
        text
    }

    #[test]
    fn a_character_cut_by_a_packet_is_put_together() {
        assert_eq!(decode(&[b"caf\xc3", b"\xa9 \xf0\x9f", b"\x90", b"\xb8!"]), "café 🐸!");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(decode(&[b"a\xffb\xc3(\xe2\x82"]), "a\u{FFFD}b\u{FFFD}(\u{FFFD}");
    }

    #[test]
    fn a_line_is_what_asciicast_says() {
        let mut line = vec![];
        output_line(&mut line, 61_000_007, "\u{1b}[1mit's \"é\" \\ \r\n\t\u{0}\u{7f}");
        let expected = "[61.000007, \"o\", \"\\u001b[1mit's \\\"é\\\" \\\\ \\r\\n\\t\\u0000\u{7f}\"]\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn text_of_any_kind_comes_back(chunks in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let joined = chunks.concat();
            prop_assert_eq!(decode(&chunks), String::from_utf8_lossy(&joined));
        }

        #[test]
        fn lines_come_back(after_us in 0..u64::MAX / 2, text in any::<String>(), width: u16, height: u16) {
            let (mut output, mut resize) = (vec![], vec![]);
            output_line(&mut output, after_us, &text);
            resize_line(&mut resize, after_us, width, height);
            prop_assert_eq!(parse_line(&output).unwrap(), CastLine::Output { after_us, text });
            prop_assert_eq!(parse_line(&resize).unwrap(), CastLine::Resize { after_us, width, height });
        }

        #[test]
        fn pieces_are_bounded_and_lossless(text in ".{0,40}", times in 1500_usize..6000) {
            let text = text.repeat(times);
            let mut decoder = Decoder::default();
            let mut joined = String::new();
            decoder.decode(text.as_bytes(), |piece| {
                assert!(piece.len() <= MAX_TEXT);
                joined.push_str(piece);
            });
            prop_assert_eq!(joined, text);
        }
    }
}
