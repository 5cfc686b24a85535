//! What the player plays: the moments of a session in the order of time, and where they come from.
//!
//! The player knows no recording format: [`crate::reel`] turns a recording into moments, tests make their own.

use std::time::Duration;

use crate::Failure;

/// One thing that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since the session started.
    pub at: Duration,
    /// What happened.
    pub change: Change,
}

/// What a moment changes in what the viewer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A terminal of this size was opened.
    Opened {
        /// Its number within the session.
        terminal: u32,
        /// Its width in cells.
        columns: u16,
        /// Its height in cells.
        rows: u16,
    },
    /// The target printed to a terminal.
    Printed {
        /// Its number within the session.
        terminal: u32,
        /// Text and control sequences, exactly as printed.
        text: String,
    },
    /// The caller's window changed its size.
    Resized {
        /// Its number within the session.
        terminal: u32,
        /// Its new width in cells.
        columns: u16,
        /// Its new height in cells.
        rows: u16,
    },
    /// A command without a terminal wrote bytes.
    Wrote {
        /// The channel that the command ran in.
        channel: u32,
        /// Which of its streams.
        stream: Stream,
        /// What it wrote, exactly.
        bytes: Vec<u8>,
    },
    /// Something else worth a line in the timeline.
    Noted(String),
}

/// One of the two streams of a command without a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Change {
    /// How much work it is to show this, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Printed { text, .. } | Self::Noted(text) => text.len(),
            Self::Wrote { bytes, .. } => bytes.len(),
            Self::Opened { .. } | Self::Resized { .. } => 0,
        }
    }
}

/// Where moments come from, as often as wanted and from any point on: seeking back reads again.
pub trait Source {
    /// The moments in the order of time, read as they are asked for.
    type Moments: Iterator<Item = Result<Moment, Failure>>;
    /// The times of the events, in order.
    type Events: Iterator<Item = Result<Duration, Failure>>;

    /// The moments at and after a time.
    ///
    /// # Errors
    /// When the recording cannot be read.
    fn moments(&self, from: Duration) -> Result<Self::Moments, Failure>;

    /// The times of everything that stands in the timeline: what the viewer may want to jump to.
    ///
    /// # Errors
    /// When the recording cannot be read.
    fn events(&self) -> Result<Self::Events, Failure>;

    /// How long the session took.
    fn length(&self) -> Duration;
}
