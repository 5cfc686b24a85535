//! JSON that is harmless to look at: serde_json escapes what JSON demands; this escapes whatever acts on a terminal too.
//! Both mean the same to a reader of JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::harmless;

/// Writes one value in one line, without the line's end.
///
/// # Errors
/// When the output cannot be written to, or the value has no JSON.
pub fn write(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Harmless)).map_err(io::Error::from)
}

/// Writes one value in indented lines, the last one's end included.
///
/// # Errors
/// When the output cannot be written to, or the value has no JSON.
pub fn write_pretty(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    // Lines end between values only: inside of them serde_json has escaped the character.
    for line in serde_json::to_string_pretty(value)?.lines() {
        escape(out, line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        escape(out, fragment)
    }
}

fn escape<W: ?Sized + Write>(out: &mut W, text: &str) -> io::Result<()> {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| harmless::character(*c) != *c) {
        let (before, after) = rest.split_at(at);
        out.write_all(before.as_bytes())?;
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}")?;
        }
        rest = after.strip_prefix(c).unwrap_or_default();
    }
    out.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_acts_and_loses_nothing() {
        let text = "a\u{9b}2J\u{7f}\u{202e}\u{e0041}\u{1b}[0m\"\\ 日\n";
        let mut json = Vec::new();
        write(&mut json, &text).unwrap();
        let json = String::from_utf8(json).unwrap();
        assert_eq!(json, r#""a\u009b2J\u007f\u202e\udb40\udc41\u001b[0m\"\\ 日\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn escapes_as_much_in_several_lines() {
        let value = serde_json::json!({ "k\u{9b}": ["a\u{202e}\n", 1] });
        let mut json = Vec::new();
        write_pretty(&mut json, &value).unwrap();
        let json = String::from_utf8(json).unwrap();
        assert_eq!(json, "{\n  \"k\\u009b\": [\n    \"a\\u202e\\n\",\n    1\n  ]\n}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
