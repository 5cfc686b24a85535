//! What a command says, to a person or to a program.
//!
//! Names, reasons and commands come from other people. On their way to a terminal, control characters are taken out, so
//! that nobody's session can rewrite somebody else's screen; in JSON they are escaped.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use sallyport_replay::harmless::acts;
use sallyport_replay::json;
use serde::Serialize;

/// Standard output and standard error, or what stands for them in a test.
pub struct Out {
    results: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    width: Option<u16>,
}

impl Out {
    /// The process's own.
    #[must_use]
    pub fn of_process() -> Self {
        // A table that goes to a program or a file is not folded to the width of a terminal.
        let width =
            io::stdout().is_terminal().then(|| crossterm::terminal::size().ok()).flatten().map(|(columns, _)| columns);
        Self { results: Box::new(io::stdout()), notes: Box::new(io::stderr()), width }
    }

    /// Writes results and notes elsewhere.
    #[must_use]
    pub fn to(results: impl Write + Send + 'static, notes: impl Write + Send + 'static) -> Self {
        Self { results: Box::new(results), notes: Box::new(notes), width: None }
    }

    /// One or several lines of a result.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn line(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.results, "{}", harmless(text))?)
    }

    /// Where results go, for a command that writes a stream of them and has made them harmless itself.
    pub(super) fn results(&mut self) -> &mut dyn Write {
        &mut self.results
    }

    /// Something for the person beside the result.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.notes, "{}", harmless(text))?)
    }

    /// A question, without a line's end.
    pub(super) fn ask(&mut self, text: &str) -> anyhow::Result<()> {
        write!(self.notes, "{}", harmless(text))?;
        Ok(self.notes.flush()?)
    }

    /// A value for programs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(json::write_pretty(&mut self.results, value)?)
    }

    /// A value for programs in a line of its own, written out at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json_line(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        json::write(&mut self.results, value)?;
        self.results.write_all(b"\n")?;
        Ok(self.results.flush()?)
    }

    /// A table for people, with a line of headings.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings).set_content_arrangement(ContentArrangement::Dynamic);
        table.add_rows(rows.into_iter().map(|row| row.map(|cell| one_line(&cell))));
        match self.width {
            Some(width) => table.set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            writeln!(self.results, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Without what a terminal would act on; line ends and tabs stay.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !acts(*c)).collect()
}

/// As one line of a table.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c }).filter(|c| !acts(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_out_what_a_terminal_would_act_on() {
        assert_eq!(harmless("a\x1b[2Jb\u{9b}c\r\nd\te\u{202e}f"), "a[2Jbc\nd\tef");
        assert_eq!(one_line("a\nb\x07"), "a b");
    }

    #[test]
    fn json_escapes_what_a_terminal_would_act_on() {
        let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut out = Out::to(Written(std::sync::Arc::clone(&written)), io::sink());
        out.json(&["a\u{9b}2J\u{7f}\u{202e}b"]).unwrap();
        out.json_line(&"\u{9b}").unwrap();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "[\n  \"a\\u009b2J\\u007f\\u202eb\"\n]\n\"\\u009b\"\n");
    }

    struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
