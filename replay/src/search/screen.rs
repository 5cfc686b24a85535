//! Text as it stood on a terminal's screen: typed in pieces, coloured, moved about and redrawn, it is found as a person
//! would have read it.
//!
//! A line that matches is watched for as long as it stands, through scrolling and while it grows, and told once, with the
//! moment at which it first matched and as it was when it was last seen to.

use std::ops::Range;
use std::time::Duration;

use avt::observer::{Observation, Observer};
use avt::operation::Operation;
use avt::parser::Function;
use avt::{Line, Terminal};
use sallyport_recorder::read::Item;

use super::{Query, Seeker};
use crate::player;

/// A terminal, and the matching lines on it.
pub(super) struct Screen<'a> {
    terminal: Option<Terminal>,
    reader: Reader<'a>,
}

/// Looks at a screen whenever it has changed.
struct Reader<'a> {
    query: &'a Query,
    at: Duration,
    standing: Vec<Standing>,
    /// The rows that were touched since they were last looked at.
    touched: Option<Range<usize>>,
    /// Whether lines moved since then.
    moved: bool,
    /// The beginning of a line that goes on on the screen, and has scrolled away.
    gone: String,
    found: Vec<(Duration, String)>,
}

/// A line that matches.
struct Standing {
    row: usize,
    text: String,
    since: Duration,
}

impl<'a> Screen<'a> {
    pub(super) fn new(query: &'a Query) -> Self {
        let reader = Reader {
            query,
            at: Duration::ZERO,
            standing: Vec::new(),
            touched: None,
            moved: false,
            gone: String::new(),
            found: Vec::new(),
        };
        Self { terminal: None, reader }
    }
}

impl Seeker for Screen<'_> {
    fn take(&mut self, at: Duration, item: Item, found: &mut dyn FnMut(Duration, String)) {
        self.reader.at = at;
        match (item, &mut self.terminal) {
            (Item::TerminalStart { header, .. }, None) => {
                let (columns, rows) = player::size(header.width, header.height);
                self.terminal = Terminal::new(columns, rows).ok();
            }
            (Item::TerminalOutput { text, .. }, Some(terminal)) => terminal.feed_with(text.as_str(), &mut self.reader),
            (Item::Resize { width, height, .. }, Some(terminal)) => {
                let (columns, rows) = player::size(width, height);
                terminal.resize_with(columns, rows, &mut self.reader);
            }
            _ => {}
        }
        self.reader.tell(found);
    }

    fn finish(mut self, found: &mut dyn FnMut(Duration, String)) {
        let rest = std::mem::take(&mut self.reader.standing);
        rest.into_iter().for_each(|line| self.reader.over(line));
        self.reader.tell(found);
    }
}

impl Observer for Reader<'_> {
    type Output = ();

    /// What is about to be wiped away stood there, however short.
    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let wipes = |function: &Function| {
            matches!(function, Function::Ed(_) | Function::Ris | Function::Decset(_) | Function::Decrst(_))
        };
        if matches!(operation, Operation::Function(function) if wipes(function)) {
            self.look(context.terminal());
        }
    }

    fn resized(&mut self, _: usize, rows: usize) {
        (self.touched, self.moved) = (Some(0..rows), true);
    }

    fn dirty(&mut self, rows: Range<usize>) {
        // More than one row at a time is scrolling, wiping or a resize.
        self.moved |= rows.len() > 1;
        self.touched = Some(match &self.touched {
            Some(touched) => touched.start.min(rows.start)..touched.end.max(rows.end),
            None => rows,
        });
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.moved = true;
        self.gone.extend(line.chars());
        if !line.is_wrapped() || self.gone.len() > MOST {
            let text = std::mem::take(&mut self.gone);
            self.scrolled_away(text.trim_end());
        }
    }

    fn end(&mut self, context: &mut Observation<'_>) {
        self.look(context.terminal());
    }
}

impl Reader<'_> {
    fn tell(&mut self, found: &mut dyn FnMut(Duration, String)) {
        for (since, text) in self.found.drain(..) {
            if let Some(line) = self.query.excerpt(&text) {
                found(since, line);
            }
        }
    }

    /// A line that matched does not stand there any more.
    fn over(&mut self, line: Standing) {
        self.found.push((line.since, line.text));
    }

    /// A line left the screen at its top.
    fn scrolled_away(&mut self, text: &str) {
        if !self.query.is_in(text.as_bytes()) {
            return;
        }
        // It stood there before, or came and went within one piece of output.
        let since = match self.standing.iter().position(|line| same(&line.text, text)) {
            Some(place) => self.standing.remove(place).since,
            None => self.at,
        };
        self.found.push((since, text.to_owned()));
    }

    /// Looks at what was touched.
    fn look(&mut self, terminal: &Terminal) {
        let Some(touched) = self.touched.take() else { return };
        let moved = std::mem::take(&mut self.moved);
        // Lines that were not touched stand as they stood.
        let (mut before, kept): (Vec<Standing>, Vec<Standing>) =
            std::mem::take(&mut self.standing).into_iter().partition(|line| moved || touched.contains(&line.row));
        self.standing = kept;
        let mut text = std::mem::take(&mut self.gone);
        let gone = text.len();
        let mut start = 0;
        let rows = terminal.screen().visible_lines().len();
        for (row, line) in terminal.screen().visible_lines().enumerate() {
            text.extend(line.chars());
            if line.is_wrapped() && row + 1 < rows {
                continue;
            }
            let concerned = moved || (start < touched.end && touched.start <= row);
            if concerned && self.query.is_in(text.as_bytes()) {
                self.stands(start, text.trim_end(), moved, &mut before);
            }
            if start == 0 {
                // What has scrolled away is still waiting for its end.
                self.gone = text.get(..gone).unwrap_or_default().to_owned();
            }
            text.clear();
            start = row + 1;
        }
        before.into_iter().for_each(|line| self.over(line));
    }

    /// A line that matches stands there; it may be one of those that stood `before`.
    fn stands(&mut self, row: usize, text: &str, moved: bool, before: &mut Vec<Standing>) {
        let place = before.iter().position(|line| same(&line.text, text) || (!moved && line.row == row));
        let since = place.map_or(self.at, |place| before.remove(place).since);
        self.standing.push(Standing { row, text: text.to_owned(), since });
    }
}

/// Whether two texts are one line at two times: it has not changed, or it has grown or shrunk at its end.
fn same(before: &str, now: &str) -> bool {
    now.starts_with(before) || before.starts_with(now)
}

/// Bytes of a line that is longer than the screen, before it is taken for two.
const MOST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::super::Meant;
    use super::*;

    /// What is found of `text` when these pieces are printed, a second apart, on a screen of 20 × 4.
    fn found(text: &str, pieces: &[&str]) -> Vec<(u64, String)> {
        let query = Query::new(text, Meant::default()).unwrap();
        let mut screen = Screen::new(&query);
        screen.terminal = Terminal::new(20, 4).ok();
        let mut finds = Vec::new();
        for (second, piece) in (1..).zip(pieces) {
            let item = Item::TerminalOutput { terminal: 0, text: (*piece).to_owned() };
            screen.take(Duration::from_secs(second), item, &mut |at, line| finds.push((at.as_secs(), line)));
        }
        screen.finish(&mut |at, line| finds.push((at.as_secs(), line)));
        finds
    }

    /// What is printed, and what is found of it.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [(u64, &'a str)]);

    #[test]
    fn finds_text_as_it_stood_once_for_each_line() {
        let scroll = "x\r\n".repeat(9);
        let rows: [Row<'_>; 13] = [
            ("typed letter by letter", &["$ n", "e", "e", "dle", " -v", "\r\n"], &[(4, "$ needle -v")]),
            ("with colours in between", &["ne\x1b[31med\x1b[1ml\x1b[0me"], &[(1, "needle")]),
            ("rubbed out and right", &["neex\x08dle"], &[(1, "needle")]),
            ("rubbed out before it was whole", &["needl\x08\x08\x08\x08xxxx"], &[]),
            ("put together by the cursor", &["\x1b[2;4Hdle", "\x1b[2;1Hnee"], &[(2, "needle")]),
            ("wrapped", &["0123456789012345 needle!"], &[(1, "0123456789012345 needle!")]),
            ("stands and scrolls away", &["needle\r\n", "a\r\n", &scroll], &[(1, "needle")]),
            (
                "came and went at once",
                &["needle\r\n", &scroll, &format!("needle\r\n{scroll}")],
                &[(1, "needle"), (3, "needle")],
            ),
            ("wiped in the same breath", &["needle\x1b[2J\x1b[Hrest"], &[(1, "needle")]),
            ("in an editor that was left", &["$ ", "\x1b[?1049h\x1b[Hneedle\x1b[?1049l"], &[(2, "needle")]),
            ("a line that is redrawn", &["1 needle", "\r2 needle", "\r3 needle"], &[(1, "3 needle")]),
            ("two lines", &["a needle\r\nb needle"], &[(1, "a needle"), (1, "b needle")]),
            ("never shown", &["\x1b]0;needle\x07", "\x1b]52;c;needle\x07"], &[]),
        ];
        for (name, pieces, expected) in rows {
            let expected: Vec<_> = expected.iter().map(|(at, line)| (*at, (*line).to_owned())).collect();
            let mut finds = found("needle", pieces);
            finds.sort();
            assert_eq!(finds, expected, "{name}");
        }
    }

    #[test]
    fn an_endless_line_costs_no_endless_memory() {
        let query = Query::new("needle", Meant::default()).unwrap();
        let mut screen = Screen::new(&query);
        screen.terminal = Terminal::new(80, 24).ok();
        for _ in 0..200 {
            let item = Item::TerminalOutput { terminal: 0, text: "y".repeat(4096) };
            screen.take(Duration::ZERO, item, &mut |_, _| panic!("there is no needle"));
        }
        assert!(screen.reader.gone.len() <= MOST + 80);
    }
}
