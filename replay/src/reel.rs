//! A recording as moments to play.
//!
//! A damaged place does not end the show: it becomes a line of the timeline, and the streams that are whole play on.

use std::path::Path;
use std::time::Duration;

use sallyport_recorder::read::{Entries, Entry, Item, RecordingReader};
use sallyport_recorder::scan::Scan;
use sallyport_recorder::{Manifest, OutputStream, StreamId};

use crate::moment::{Change, Moment, Source, Stream};
use crate::{Failure, timeline};

/// A recording, opened to be played.
pub struct Reel {
    reader: RecordingReader,
    length: Duration,
}

impl Reel {
    /// Opens a recording's folder.
    ///
    /// # Errors
    /// When the folder or its manifest cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let reader = RecordingReader::open(folder)?;
        let length = length(&reader);
        Ok(Self { reader, length })
    }

    /// The reader underneath.
    #[must_use]
    pub fn reader(&self) -> &RecordingReader {
        &self.reader
    }

    /// A few words that name the session: the front of its id, the caller, the target.
    #[must_use]
    pub fn title(&self) -> String {
        title(self.reader.manifest())
    }

    /// Whether there is a terminal to look at.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.reader.streams().iter().any(|stream| matches!(stream, StreamId::Terminal(_)))
    }
}

impl Source for &Reel {
    type Moments = Moments;
    type Events = Times;

    fn moments(&self, from: Duration) -> Result<Moments, Failure> {
        let entries = self.reader.entries_of(self.reader.streams(), millis(from));
        Ok(Moments { entries, from, at: from })
    }

    fn events(&self) -> Result<Times, Failure> {
        Ok(Times(Moments {
            entries: self.reader.entries_of(&[StreamId::Timeline], 0),
            from: Duration::ZERO,
            at: Duration::ZERO,
        }))
    }

    fn length(&self) -> Duration {
        self.length
    }
}

/// The moments of a recording.
pub struct Moments {
    entries: Entries,
    from: Duration,
    at: Duration,
}

impl Iterator for Moments {
    type Item = Result<Moment, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let moment = match self.entries.next()? {
                Ok(entry) => moment(entry),
                Err(damage) => Moment { at: self.at, change: Change::Noted(format!("DAMAGED: {damage}")) },
            };
            self.at = self.at.max(moment.at);
            if moment.at >= self.from {
                return Some(Ok(moment));
            }
        }
    }
}

/// The times of the events of a recording.
pub struct Times(Moments);

impl Iterator for Times {
    type Item = Result<Duration, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|moment| moment.map(|moment| moment.at))
    }
}

pub(crate) fn moment(entry: Entry) -> Moment {
    let change = match entry.item {
        Item::Event(event) => Change::Noted(timeline::sentence(&event)),
        Item::TerminalStart { terminal, header } => {
            Change::Opened { terminal, columns: header.width, rows: header.height }
        }
        Item::TerminalOutput { terminal, text } => Change::Printed { terminal, text },
        Item::Resize { terminal, width, height } => Change::Resized { terminal, columns: width, rows: height },
        Item::Output { channel, stream, bytes } => {
            Change::Wrote { channel, stream: stream_of(stream), bytes: bytes.to_vec() }
        }
    };
    Moment { at: Duration::from_millis(entry.at_ms), change }
}

fn stream_of(output: OutputStream) -> Stream {
    match output {
        OutputStream::Stdout => Stream::Stdout,
        OutputStream::Stderr => Stream::Stderr,
    }
}

/// A few words that name a session: the front of its id, the target, the caller.
pub(crate) fn title(manifest: &Manifest) -> String {
    let header = &manifest.header;
    let id = header.id.to_string();
    format!("{} {} · {}", id.split('-').next().unwrap_or(&id), header.target.name, header.caller.name())
}

/// How long a session took: its seal says so; without one, the last thing that is on disk does.
pub(crate) fn length(reader: &RecordingReader) -> Duration {
    if let Some(seal) = &reader.manifest().seal {
        return Duration::from_millis(seal.duration_ms);
    }
    let last = |stream: &StreamId| {
        let mut scan = Scan::open(&reader.path(*stream)).ok()?;
        let mut last = None;
        while let Ok(Some(found)) = scan.next_segment() {
            last = Some(found.linked.header.last_us);
        }
        last
    };
    Duration::from_micros(reader.streams().iter().filter_map(last).max().unwrap_or(0))
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
