//! A recording at a glance: what was run, what was refused, and whether it is whole. Who, when and under which rule, the list
//! of sessions knows without it.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use sallyport_recorder::read::Item;
use sallyport_recorder::{Event, State, StreamId};
use serde::Serialize;

use crate::database::Database;
use crate::reel::Reel;
use crate::{clock, harmless, timeline};

/// What only the recording of a session knows.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Whether the recording is finished.
    pub state: State,
    /// Size of the recording on disk.
    pub bytes: u64,
    /// The channels, by number.
    pub channels: BTreeMap<u32, Channel>,
    /// What was done on a database, where that is what the session was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// What was refused, and what was not recorded, in the order of time.
    pub incidents: Vec<Incident>,
    /// How many more channels and incidents there were than are listed.
    pub more: usize,
    /// What could not be read.
    pub damage: Vec<String>,
}

/// What happened on one channel.
#[derive(Debug, Default, Serialize)]
pub struct Channel {
    /// `shell`, `exec …`, `subsystem …`
    pub what: Option<String>,
    /// Its terminal, with its size at the start.
    pub terminal: Option<(u32, u16, u16)>,
    /// How it ended: an exit status or a signal.
    pub exit: Option<String>,
    /// Bytes from the caller.
    pub sent: u64,
    /// Bytes to the caller.
    pub received: u64,
    /// What was done with files, in the order of time, the first of it.
    pub files: Vec<FileLine>,
    /// How many more there were.
    pub more_files: usize,
}

/// One file that was sent, or another thing that was done to one.
#[derive(Debug, Serialize)]
pub struct FileLine {
    /// When it was over, since the start.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

/// A refusal or a gap.
#[derive(Debug, Serialize)]
pub struct Incident {
    /// When, since the start.
    pub at_ms: u64,
    /// What and why.
    pub what: String,
}

impl Summary {
    /// Reads the timeline.
    #[must_use]
    pub fn of(reel: &Reel) -> Self {
        let reader = reel.reader();
        let size = |stream: &StreamId| std::fs::metadata(reader.path(*stream)).map_or(0, |metadata| metadata.len());
        let mut summary = Self {
            state: reader.manifest().state,
            bytes: reader.streams().iter().map(size).sum(),
            channels: BTreeMap::new(),
            database: None,
            incidents: Vec::new(),
            more: 0,
            damage: Vec::new(),
        };
        for entry in reader.entries_of(&[StreamId::Timeline], 0) {
            match entry {
                Ok(entry) => {
                    if let Item::Event(event) = entry.item {
                        summary.add(entry.at_ms, event);
                    }
                }
                Err(damage) => summary.damage.push(damage.to_string()),
            }
        }
        summary
    }

    fn add(&mut self, at_ms: u64, event: Event) {
        Database::count(&mut self.database, &event);
        match event {
            Event::Refused { .. }
            | Event::ForwardRefused { .. }
            | Event::StatementRefused { .. }
            | Event::TooLong { .. }
            | Event::Gap { .. } => {
                if self.incidents.len() < MOST {
                    self.incidents.push(Incident { at_ms, what: timeline::sentence(&event) });
                } else {
                    self.more += 1;
                }
            }
            Event::ChannelOpen { channel, .. } => self.begin(channel),
            Event::Shell { channel } => self.change(channel, |of| of.what = Some("shell".to_owned())),
            Event::Exec { channel, command } => self.change(channel, |of| of.what = Some(format!("exec {command}"))),
            Event::Subsystem { channel, name } => {
                self.change(channel, |of| of.what = Some(format!("subsystem {name}")))
            }
            Event::Pty { channel, terminal, width, height, .. } => {
                self.change(channel, |of| of.terminal = Some((terminal, width, height)));
            }
            Event::ExitStatus { channel, status } => {
                self.change(channel, |of| of.exit = Some(format!("exit {status}")))
            }
            Event::ExitSignal { channel, signal, .. } => {
                self.change(channel, |of| of.exit = Some(format!("signal {signal}")));
            }
            Event::File { channel, .. } | Event::FileChange { channel, .. } | Event::FileLooks { channel, .. } => {
                let what = timeline::sentence(&event);
                let what = what.split_once(' ').map_or(what.clone(), |(_, rest)| rest.to_owned());
                self.change(channel, |of| of.file(FileLine { at_ms, what }));
            }
            Event::ForwardOpened { channel, kind, address, .. } => {
                self.begin(channel);
                self.change(channel, |of| of.what = Some(timeline::forward(&kind, &address)));
            }
            Event::ForwardClosed { channel, sent, received, .. } | Event::ChannelClose { channel, sent, received } => {
                self.change(channel, |of| (of.sent, of.received) = (sent, received));
            }
            _ => {}
        }
    }

    /// Lists a channel that begins, or counts it.
    fn begin(&mut self, channel: u32) {
        if self.channels.len() < MOST {
            self.channels.entry(channel).or_default();
        } else if !self.channels.contains_key(&channel) {
            self.more += 1;
        }
    }

    fn change(&mut self, channel: u32, change: impl FnOnce(&mut Channel)) {
        if self.channels.len() < MOST || self.channels.contains_key(&channel) {
            change(self.channels.entry(channel).or_default());
        }
    }

    fn about_recording(&self) -> String {
        let state = match self.state {
            State::Open => "open: the session is live, or its gateway stopped without a word",
            State::Sealed => "sealed",
            State::Interrupted => "interrupted: its gateway stopped without a word; sealed at the next start",
        };
        format!("{state}, {}", bytes(self.bytes))
    }
}

/// For a person, harmless, one fact a line: its state, the channels, the incidents.
impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut lines = vec![("recording", self.about_recording())];
        lines.extend(self.damage.iter().map(|damage| ("DAMAGED", damage.clone())));
        lines.extend(self.database.iter().map(|database| ("database", database.to_string())));
        for (number, channel) in &self.channels {
            lines.push(("channel", format!("#{number} {channel}")));
            lines.extend(channel.files.iter().map(|file| {
                let at = clock::exact(Duration::from_millis(file.at_ms));
                ("  file", format!("{at} {}", file.what))
            }));
            if channel.more_files > 0 {
                lines.push((
                    "",
                    format!("and {} more: `sallyport export --format jsonl` lists all", channel.more_files),
                ));
            }
        }
        let incident = |incident: &Incident| {
            let at = clock::exact(Duration::from_millis(incident.at_ms));
            ("incident", format!("{at} {}", incident.what))
        };
        lines.extend(self.incidents.iter().map(incident));
        if self.more > 0 {
            lines.push(("", format!("and {} more: `sallyport export --format jsonl` lists all", self.more)));
        }
        lines.iter().try_for_each(|(name, value)| writeln!(f, "{name:<10} {}", harmless::line(value)))
    }
}

impl Channel {
    fn file(&mut self, file: FileLine) {
        if self.files.len() < MOST_FILES {
            self.files.push(file);
        } else {
            self.more_files += 1;
        }
    }
}

impl Display for Channel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = self.what.clone().unwrap_or_else(|| "nothing was run".to_owned());
        if let Some((terminal, width, height)) = self.terminal {
            write!(line, " in terminal {terminal} ({width}×{height})")?;
        }
        if let Some(exit) = &self.exit {
            write!(line, " · {exit}")?;
        }
        write!(f, "{line} · {} in, {} out", bytes(self.sent), bytes(self.received))
    }
}

/// A number of things for a person: `1 row`, `2 rows`.
#[must_use]
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    if count == N::from(1) { format!("{count} {what}") } else { format!("{count} {what}s") }
}

/// A size for a person: `312 B`, `4.2 kB`, `1.0 GB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut scaled = count as f64;
    let mut unit = "";
    for next in ["kB", "MB", "GB", "TB"] {
        if scaled < 999.95 && !unit.is_empty() {
            break;
        }
        scaled /= 1000.0;
        unit = next;
    }
    format!("{scaled:.1} {unit}")
}

/// Channels and incidents listed, each; a client can make as many as it likes.
const MOST: usize = 1000;
/// Files listed of each channel.
const MOST_FILES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_beyond_the_limit_are_counted_once_each() {
        let mut summary = Summary {
            state: State::Sealed,
            bytes: 0,
            channels: BTreeMap::new(),
            database: None,
            incidents: Vec::new(),
            more: 0,
            damage: Vec::new(),
        };
        let limit = u32::try_from(MOST).unwrap();
        for channel in 0..limit + 3 {
            let (kind, address) = ("local".to_owned(), "localhost:22".to_owned());
            match channel % 2 {
                0 => summary.add(0, Event::ChannelOpen { channel, kind: "session".to_owned() }),
                _ => summary.add(0, Event::ForwardOpened { channel, kind, address, originator: String::new() }),
            }
            summary.add(1, Event::Exec { channel, command: "true".to_owned() });
            summary.add(2, Event::ExitStatus { channel, status: 0 });
            summary.add(3, Event::ChannelClose { channel, sent: 1, received: 2 });
        }
        assert_eq!((summary.channels.len(), summary.more), (MOST, 3));
        assert!(summary.channels.values().all(|channel| channel.sent == 1));
    }

    #[test]
    fn one_of_a_thing_is_told_as_one() {
        assert_eq!([0_u64, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
        assert_eq!(counted(1_usize, "segment"), "1 segment");
    }

    #[test]
    fn sizes_have_one_decimal_and_never_round_to_a_thousand() {
        let rows = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (52_400_000, "52.4 MB"),
        ];
        for (count, expected) in rows {
            assert_eq!(bytes(count), expected);
        }
    }
}
