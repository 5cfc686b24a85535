//! Makes text from a recording harmless to the terminal that shows it.
//!
//! Everything a target printed, and every name a client chose, is hostile: it may carry escape sequences that write to
//! the viewer's clipboard, rename the window or answer as if typed, and direction overrides that show another text than
//! was there. Nothing of a recording reaches a viewer's terminal without passing through here, cell by cell or line by
//! line. (Trojan Source, CVE-2021-42574; terminal injection, CVE-2003-0063 and its many heirs.)

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// The character itself if it does nothing but show, and [`REPLACEMENT`] otherwise.
#[must_use]
pub fn character(c: char) -> char {
    if acts(c) { REPLACEMENT } else { c }
}

/// One line of text with whatever acts spelled out (`\n`, `\t`, `\e`, `\x07`, `\u{202e}`), so that nothing is hidden and
/// nothing is obeyed.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\u{1b}' => shown.push_str("\\e"),
            c if !acts(c) => shown.push(c),
            c if u32::from(c) < 0x100 => _ = write!(shown, "\\x{:02x}", u32::from(c)),
            c => _ = write!(shown, "\\u{{{:x}}}", u32::from(c)),
        }
    }
    Cow::Owned(shown)
}

/// The columns that a character takes in a terminal.
#[must_use]
pub fn width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// As much of the front of `text` as fits into so many columns, with an ellipsis where something was cut.
#[must_use]
pub fn clip(text: &str, columns: usize) -> Cow<'_, str> {
    if text.chars().map(width).sum::<usize>() <= columns {
        return Cow::Borrowed(text);
    }
    let mut room = columns.saturating_sub(1);
    let mut clipped = String::new();
    for c in text.chars() {
        let Some(left) = room.checked_sub(width(c)) else { break };
        room = left;
        clipped.push(c);
    }
    if columns > 0 {
        clipped.push('…');
    }
    Cow::Owned(clipped)
}

/// Whether a character is an order to the terminal or to the layout of text instead of a sign: controls (C0, DEL, C1),
/// separators of lines, and the invisible format characters.
#[must_use]
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What is shown in the place of a character that would act rather than show.
pub const REPLACEMENT: char = '\u{fffd}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_out_whatever_acts() {
        let rows = [
            ("plain", "ls -l /srv", "ls -l /srv"),
            ("clipboard", "\u{1b}]52;c;cm0gLXJm\u{7}", "\\e]52;c;cm0gLXJm\\x07"),
            ("eight-bit introducer", "\u{9b}2J", "\\x9b2J"),
            ("two lines", "a\r\nb\tc", "a\\r\\nb\\tc"),
            ("override", "gnp.\u{202e}sh", "gnp.\\u{202e}sh"),
            ("delete", "a\u{7f}", "a\\x7f"),
            ("accents", "naïve 日本", "naïve 日本"),
        ];
        for (name, text, shown) in rows {
            assert_eq!(line(text), shown, "{name}");
        }
    }

    #[test]
    fn replaces_a_cell_that_acts() {
        assert_eq!(character('a'), 'a');
        assert_eq!(character('日'), '日');
        for c in ['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{200d}', '\u{e0041}'] {
            assert_eq!(character(c), REPLACEMENT, "{c:?}");
        }
    }

    #[test]
    fn clips_by_columns_not_characters() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("abcd", 3), "ab…");
        assert_eq!(clip("日本語", 6), "日本語");
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("abc", 0), "");
    }
}
