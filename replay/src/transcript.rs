//! A terminal's session as text: everything that scrolled away, then the screen as it stood at the end.
//!
//! The text goes through the virtual terminal, so it is what a person saw: typos that were rubbed out are gone, progress
//! bars stand at their last state, and no escape sequence is left. Memory stays flat: lines are written as they scroll
//! away.

use avt::observer::{Observation, Observer};
use avt::operation::Operation;
use avt::parser::Function;
use avt::{Line, ScreenKind, Terminal};

use crate::harmless;

/// Collects the lines that leave a terminal.
#[derive(Default)]
pub struct Transcript {
    text: String,
    blanks: usize,
}

impl Transcript {
    /// The text that is ready, taken out.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Adds what stands on the terminal's screens.
    pub fn finish(mut self, terminal: &Terminal) -> String {
        self.screen(terminal.primary_screen().all_lines());
        if terminal.active_screen_kind() == ScreenKind::Alternate {
            self.screen(terminal.screen().visible_lines());
        }
        self.text
    }

    fn screen<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) {
        let lines: Vec<&Line> = lines.collect();
        let blank = |line: &&Line| line.chars().all(|c| c == ' ');
        let used = lines.iter().rposition(|line| !blank(line)).map_or(0, |last| last + 1);
        for line in lines.into_iter().take(used) {
            self.line(line);
        }
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.blanks = 0;
    }

    fn line(&mut self, line: &Line) {
        for c in line.chars() {
            if c == ' ' && self.blanks < MOST_BLANKS {
                self.blanks += 1;
                continue;
            }
            self.text.extend(std::iter::repeat_n(' ', std::mem::take(&mut self.blanks)));
            self.text.push(harmless::character(c));
        }
        if !line.is_wrapped() {
            self.blanks = 0;
            self.text.push('\n');
        }
    }
}

impl Observer for Transcript {
    type Output = ();

    /// A hard reset clears the screen without scrolling it away.
    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        if matches!(operation, Operation::Function(Function::Ris)) {
            self.screen(context.terminal().primary_screen().all_lines());
        }
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.line(line);
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}

/// Blanks held back in case that the line ends with them; more are written, so that an endless line of them costs nothing.
const MOST_BLANKS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(columns: usize, rows: usize, output: &str) -> String {
        let mut terminal = Terminal::new(columns, rows).unwrap();
        let mut transcript = Transcript::default();
        let mut text = String::new();
        for c in output.chars() {
            terminal.feed_with(c, &mut transcript);
            text += &transcript.take();
        }
        text + &transcript.finish(&terminal)
    }

    #[test]
    fn is_what_a_person_saw() {
        let rows = [
            ("scrolled", "a\r\nb\r\nc\r\nd\r\n", "a\nb\nc\nd\n"),
            ("rubbed out", "lz\x08s -l\r\n", "ls -l\n"),
            ("joined where it wrapped", "0123456789abcdefghijKLM\r\nx", "0123456789abcdefghijKLM\nx\n"),
            ("trailing blanks", "a   \r\n\r\nb  ", "a\n\nb\n"),
            ("editor left", "$ vi\r\n\x1b[?1049hTEXT\x1b[?1049l$ ", "$ vi\n$\n"),
            ("editor open at the end", "$ vi\r\n\x1b[?1049h\x1b[HTEXT", "$ vi\nTEXT\n"),
            ("reset", "before\x1bcafter", "before\nafter\n"),
            ("clipboard and title", "\x1b]52;c;eA==\x07\x1b]0;t\x07ok", "ok\n"),
            ("delete and override", "a\x7f\u{202e}b", "a\u{fffd}\u{fffd}b\n"),
            ("nothing", "", ""),
        ];
        for (name, output, expected) in rows {
            assert_eq!(text(10, 3, output), expected, "{name}");
        }
    }

    #[test]
    fn an_endless_line_is_written_as_it_goes() {
        let mut terminal = Terminal::new(80, 24).unwrap();
        let mut transcript = Transcript::default();
        let mut written = 0;
        for _ in 0..1000 {
            terminal.feed_with(" ".repeat(4096).as_str(), &mut transcript);
            let ready = transcript.take();
            written += ready.len();
            assert!(ready.len() < 16_384);
        }
        assert!(written > 4_000_000, "{written}");
    }
}
