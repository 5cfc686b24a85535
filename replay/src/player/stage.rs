//! What a session shows at one moment: its terminals and the tail of its timeline.
//!
//! Memory is bounded whatever the recording holds: a terminal keeps its screen and no scrollback, its size has a limit, few
//! stand at a time ([`wall`](super::wall)), and the timeline keeps its last lines only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::wall::{Shown, Stored, Wall};
use crate::moment::{Change, Moment};
use crate::output::Begun;
use crate::{Failure, clock, harmless};

/// The terminals and the timeline as they stand.
#[derive(Default)]
pub struct Stage {
    terminals: Wall,
    begun: Begun,
    timeline: VecDeque<Arc<str>>,
}

/// Enough of a [`Stage`] to put it up again.
pub(super) struct Snapshot {
    terminals: Stored,
    begun: Begun,
    timeline: VecDeque<Arc<str>>,
}

impl Stage {
    /// The terminals that have been opened so far, by number.
    pub fn terminals(&self) -> impl ExactSizeIterator<Item = u32> {
        self.terminals.numbers()
    }

    /// Whether a terminal has been opened.
    #[must_use]
    pub fn has_terminal(&self, id: u32) -> bool {
        self.terminals.has(id)
    }

    /// The screen of a terminal.
    #[must_use]
    pub fn terminal(&self, id: u32) -> Option<Shown<'_>> {
        self.terminals.shown(id)
    }

    /// The last lines of the timeline, oldest first, already harmless.
    pub fn timeline(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.timeline.iter().map(AsRef::as_ref)
    }

    /// Shows one moment, and says how much work it was beyond the moment's own size.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub fn apply(&mut self, moment: Moment) -> Result<usize, Failure> {
        let Self { terminals, begun, timeline } = self;
        match moment.change {
            Change::Opened { terminal, columns, rows } => terminals.open(terminal, size(columns, rows)),
            Change::Printed { terminal, text } => return terminals.print(terminal, &text),
            Change::Resized { terminal, columns, rows } => return terminals.resize(terminal, size(columns, rows)),
            Change::Wrote { channel, stream, bytes } => {
                begun.feed(channel, stream, &bytes, |line| note(timeline, moment.at, line));
            }
            Change::Noted(text) => note(timeline, moment.at, &harmless::line(&text)),
        }
        Ok(0)
    }

    /// A copy to come back to.
    #[must_use]
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { terminals: self.terminals.store(), begun: self.begun.clone(), timeline: self.timeline.clone() }
    }
}

impl Snapshot {
    /// The stage as it was.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub(super) fn restore(&self) -> Result<Stage, Failure> {
        let terminals = self.terminals.restore()?;
        Ok(Stage { terminals, begun: self.begun.clone(), timeline: self.timeline.clone() })
    }

    /// Roughly how many bytes this holds; timeline lines are shared with other snapshots and count once, elsewhere.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        self.terminals.size() + self.begun.size() + self.timeline.len() * size_of::<Arc<str>>()
    }
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

/// The widest and highest terminal that is shown as it was. A recording may claim any size up to 65,535 × 65,535, which
/// would be gigabytes of cells; this is beyond what a wall of screens shows.
const LARGEST: (u16, u16) = (1_000, 400);
/// What a terminal without a size is shown as.
const USUAL: (u16, u16) = (80, 24);
/// Lines of the timeline that are kept.
const TIMELINE_LINES: usize = 500;
/// Characters of a timeline's line that are kept.
const TIMELINE_LINE: usize = 400;
