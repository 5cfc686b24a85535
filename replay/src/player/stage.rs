//! What a session shows at one moment: its terminals and the tail of its timeline.
//!
//! Memory is bounded whatever the recording holds: a terminal keeps its screen and no scrollback, its size has a limit,
//! and the timeline keeps its last lines only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use avt::Terminal;

use crate::moment::{Change, Moment, Stream};
use crate::text::Lines;
use crate::{Failure, clock, harmless};

/// The widest and highest terminal that is shown as it was. A recording may claim any size up to 65,535 × 65,535, which
/// would be gigabytes of cells; this is beyond what a wall of screens shows.
const LARGEST: (u16, u16) = (1_000, 400);
/// What a terminal without a size is shown as.
const USUAL: (u16, u16) = (80, 24);
/// Lines of the timeline that are kept.
const TIMELINE_LINES: usize = 500;
/// Characters of a timeline's line that are kept.
const TIMELINE_LINE: usize = 400;

/// The terminals and the timeline as they stand.
#[derive(Default)]
pub struct Stage {
    terminals: BTreeMap<u32, Terminal>,
    lines: BTreeMap<(u32, Stream), Lines>,
    timeline: VecDeque<Arc<str>>,
}

/// Enough of a [`Stage`] to put it up again.
pub(super) struct Snapshot {
    terminals: BTreeMap<u32, (usize, usize, String)>,
    lines: BTreeMap<(u32, Stream), Lines>,
    timeline: VecDeque<Arc<str>>,
}

impl Stage {
    /// The terminals that have been opened so far, by number.
    pub fn terminals(&self) -> impl ExactSizeIterator<Item = u32> {
        self.terminals.keys().copied()
    }

    /// The screen of a terminal.
    #[must_use]
    pub fn terminal(&self, id: u32) -> Option<&Terminal> {
        self.terminals.get(&id)
    }

    /// The last lines of the timeline, oldest first, already harmless.
    pub fn timeline(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.timeline.iter().map(AsRef::as_ref)
    }

    /// Shows one moment.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub fn apply(&mut self, moment: Moment) -> Result<(), Failure> {
        match moment.change {
            Change::Opened { terminal, columns, rows } => {
                let (columns, rows) = size(columns, rows);
                let blank = Terminal::new(columns, rows).map_err(|error| Failure::Terminal(error.to_string()))?;
                self.terminals.insert(terminal, blank);
            }
            Change::Printed { terminal, text } => {
                if let Some(terminal) = self.terminals.get_mut(&terminal) {
                    terminal.feed(text.as_str());
                }
            }
            Change::Resized { terminal, columns, rows } => {
                let (columns, rows) = size(columns, rows);
                if let Some(terminal) = self.terminals.get_mut(&terminal) {
                    terminal.resize(columns, rows);
                }
            }
            Change::Wrote { channel, stream, bytes } => {
                let Self { lines, timeline, .. } = self;
                lines.entry((channel, stream)).or_default().feed(&bytes, |line| {
                    note(timeline, moment.at, &output_line(channel, stream, line));
                });
            }
            Change::Noted(text) => note(&mut self.timeline, moment.at, &harmless::line(&text)),
        }
        Ok(())
    }

    /// A copy to come back to.
    #[must_use]
    pub(super) fn snapshot(&self) -> Snapshot {
        let dump = |terminal: &Terminal| {
            let (columns, rows) = terminal.size();
            (columns, rows, terminal.dump())
        };
        Snapshot {
            terminals: self.terminals.iter().map(|(id, terminal)| (*id, dump(terminal))).collect(),
            lines: self.lines.clone(),
            timeline: self.timeline.clone(),
        }
    }
}

impl Snapshot {
    /// The stage as it was.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub(super) fn restore(&self) -> Result<Stage, Failure> {
        let mut stage =
            Stage { terminals: BTreeMap::new(), lines: self.lines.clone(), timeline: self.timeline.clone() };
        for (id, (columns, rows, dump)) in &self.terminals {
            let mut terminal = Terminal::new(*columns, *rows).map_err(|error| Failure::Terminal(error.to_string()))?;
            terminal.feed(dump.as_str());
            stage.terminals.insert(*id, terminal);
        }
        Ok(stage)
    }

    /// Roughly how many bytes this holds; timeline lines are shared with other snapshots and count once, elsewhere.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        self.terminals.values().map(|(_, _, dump)| dump.len()).sum::<usize>()
            + self.timeline.len() * size_of::<Arc<str>>()
    }
}

/// A line of a command's output as the timeline shows it.
#[must_use]
pub fn output_line(channel: u32, stream: Stream, line: &str) -> String {
    let mark = match stream {
        Stream::Stdout => "│",
        Stream::Stderr => "┃",
    };
    format!("  #{channel} {mark} {}", harmless::line(line))
}

fn note(timeline: &mut VecDeque<Arc<str>>, at: Duration, text: &str) {
    if timeline.len() == TIMELINE_LINES {
        timeline.pop_front();
    }
    let mut line = format!("{:>9}  {text}", clock::exact(at));
    if let Some((cut, _)) = line.char_indices().nth(TIMELINE_LINE) {
        line.truncate(cut);
        line.push('…');
    }
    timeline.push_back(line.into());
}

/// The size at which a terminal is shown, in cells: what the recording says, within limits. A client without a window of
/// its own says 0 × 0 (RFC 4254, section 6.2), and programs then take the usual size.
#[must_use]
pub fn size(columns: u16, rows: u16) -> (usize, usize) {
    let fit = |cells: u16, usual: u16, largest: u16| usize::from(if cells == 0 { usual } else { cells.min(largest) });
    (fit(columns, USUAL.0, LARGEST.0), fit(rows, USUAL.1, LARGEST.1))
}
