//! Finds text in recordings: on terminals as it stood there, in what commands wrote, and in the events.
//!
//! Recordings are read as they are, several at a time, and nothing is kept of them: an index would be a second copy of
//! everything that was ever shown, without the first one's seal. Memory stays flat: one stream at a time, one screen.

mod output;
mod screen;

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use jiff::Timestamp;
use regex::bytes::{Regex, RegexBuilder};
use sallyport_recorder::read::{Item, RecordingReader};
use sallyport_recorder::{Header, SessionId, Stored, StreamId};

use crate::{harmless, timeline};
use output::Output;
use screen::Screen;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Query {
    pattern: Regex,
}

/// How the text is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meant {
    /// Capitals and small letters are the same.
    pub any_case: bool,
    /// It is a regular expression.
    pub regex: bool,
}

/// Which recordings. What is unset leaves everything in.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this caller: the whole user, or one of the tags.
    pub caller: Option<String>,
    /// To this target.
    pub target: Option<String>,
    /// Begun at this time or later.
    pub since: Option<Timestamp>,
    /// Begun before this time.
    pub until: Option<Timestamp>,
}

/// Text that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// When it stood there first, since the session's start.
    pub at: Duration,
    /// Where.
    pub place: Place,
    /// The line around it, cut where it is long. Make it [`crate::harmless`] to show it.
    pub line: String,
}

/// Where text can be found in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this terminal.
    Terminal(u32),
    /// In what the command on this channel wrote to its standard output.
    Stdout(u32),
    /// In what the command on this channel wrote to its standard error.
    Stderr(u32),
    /// In an event: a command line, a path, a refusal.
    Event,
}

/// What came of the search in one recording.
#[derive(Debug)]
pub enum Found {
    /// Some of what was found in it.
    Hits(Box<Header>, Vec<Hit>),
    /// It cannot be read, or not all of it; what can be was searched.
    Unreadable(SessionId, String),
}

impl Query {
    /// Looks for `text`.
    ///
    /// # Errors
    /// When it is empty, or no regular expression.
    pub fn new(text: &str, meant: Meant) -> Result<Self, String> {
        if text.is_empty() {
            return Err("there is nothing to look for: give some text".to_owned());
        }
        let pattern = if meant.regex { text.to_owned() } else { regex::escape(text) };
        let built = RegexBuilder::new(&pattern).case_insensitive(meant.any_case).size_limit(MAX_PATTERN).build();
        built.map(|pattern| Self { pattern }).map_err(|error| error.to_string())
    }

    /// The part of a line around the first place where it matches.
    fn excerpt(&self, line: &str) -> Option<String> {
        let place = self.pattern.find(line.as_bytes())?;
        let boundary = |at: usize| (at..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
        let start = if line.len() > LONGEST { boundary(place.start().saturating_sub(LONGEST / 4)) } else { 0 };
        let end = boundary((start + LONGEST).min(line.len()));
        let cut = line.get(start..end).unwrap_or_default();
        let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
        Some(format!("{before}{}{after}", cut.trim_end()))
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.pattern.is_match(text)
    }
}

impl Filter {
    fn lets(&self, header: &Header) -> bool {
        let of_caller = |caller: &String| {
            header.caller.user.as_ref() == Some(caller) || header.caller.tags.iter().any(|tag| tag == caller)
        };
        self.caller.as_ref().is_none_or(of_caller)
            && self.target.as_ref().is_none_or(|target| header.target.name == *target)
            && self.since.is_none_or(|since| header.started >= since)
            && self.until.is_none_or(|until| header.started < until)
    }
}

/// Searches these recordings on all cores, and hands each find to `each` as soon as it is made, until it breaks off.
pub fn search(recordings: Vec<Stored>, filter: &Filter, query: &Query, mut each: impl FnMut(Found) -> ControlFlow<()>) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(recordings.len());
    let left = Mutex::new(recordings.into_iter());
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whoever shows the finds slows down the search when they come too fast.
        let (sender, finds) = sync_channel(workers * 2);
        for _ in 0..workers {
            let (sender, left, enough) = (sender.clone(), &left, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let next = left.lock().ok().and_then(|mut left| left.next());
                    let Some(stored) = next else { return };
                    Worker { query, filter, enough, sender: &sender }.search(&stored);
                }
            });
        }
        drop(sender);
        for found in finds {
            if !enough.load(Ordering::Relaxed) && each(found).is_break() {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
}

struct Worker<'a> {
    query: &'a Query,
    filter: &'a Filter,
    enough: &'a AtomicBool,
    sender: &'a SyncSender<Found>,
}

impl Worker<'_> {
    fn search(&self, stored: &Stored) {
        let reader = match RecordingReader::open(&stored.folder) {
            Ok(reader) => reader,
            Err(error) => return self.tell(Found::Unreadable(stored.id, error.to_string())),
        };
        let header = &reader.manifest().header;
        if !self.filter.lets(header) {
            return;
        }
        for stream in reader.streams() {
            if self.enough.load(Ordering::Relaxed) {
                return;
            }
            match stream {
                StreamId::Timeline => self.stream(&reader, *stream, Events { query: self.query }),
                StreamId::Terminal(_) => self.stream(&reader, *stream, Screen::new(self.query)),
                StreamId::Stdout(_) | StreamId::Stderr(_) => self.stream(&reader, *stream, Output::new(self.query)),
            }
        }
    }

    /// Searches one stream; what is found goes out in small lots, so that the first is seen early.
    fn stream(&self, reader: &RecordingReader, stream: StreamId, mut seeker: impl Seeker) {
        let place = match stream {
            StreamId::Timeline => Place::Event,
            StreamId::Terminal(number) => Place::Terminal(number),
            StreamId::Stdout(number) => Place::Stdout(number),
            StreamId::Stderr(number) => Place::Stderr(number),
        };
        let header = &reader.manifest().header;
        let mut lot = Vec::new();
        for entry in reader.entries_of(&[stream], 0) {
            match entry {
                Ok(entry) => {
                    seeker.take(Duration::from_millis(entry.at_ms), entry.item, &mut |at, line| {
                        lot.push(Hit { at, place, line });
                    });
                }
                Err(damage) => self.tell(Found::Unreadable(header.id, damage.to_string())),
            }
            if lot.len() >= LOT {
                self.tell(Found::Hits(Box::new(header.clone()), std::mem::take(&mut lot)));
            }
            if self.enough.load(Ordering::Relaxed) {
                return;
            }
        }
        seeker.finish(&mut |at, line| lot.push(Hit { at, place, line }));
        if !lot.is_empty() {
            lot.sort_by_key(|hit| hit.at);
            self.tell(Found::Hits(Box::new(header.clone()), lot));
        }
    }

    fn tell(&self, found: Found) {
        // Nobody listens any more once there was enough.
        let _ = self.sender.send(found);
    }
}

/// Takes what is in one stream, piece by piece, and tells what it finds.
trait Seeker {
    fn take(&mut self, at: Duration, item: Item, found: &mut dyn FnMut(Duration, String));

    /// Nothing more comes.
    fn finish(self, found: &mut dyn FnMut(Duration, String));
}

/// Looks at events as sentences.
struct Events<'a> {
    query: &'a Query,
}

impl Seeker for Events<'_> {
    fn take(&mut self, at: Duration, item: Item, found: &mut dyn FnMut(Duration, String)) {
        if let Item::Event(event) = item
            && let Some(line) = self.query.excerpt(&timeline::sentence(&event))
        {
            found(at, line);
        }
    }

    fn finish(self, _: &mut dyn FnMut(Duration, String)) {}
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Terminal(number) => write!(f, "terminal {number}"),
            Self::Stdout(channel) => write!(f, "#{channel} stdout"),
            Self::Stderr(channel) => write!(f, "#{channel} stderr"),
            Self::Event => f.write_str("event"),
        }
    }
}

impl Hit {
    /// The line, harmless.
    #[must_use]
    pub fn shown(&self) -> String {
        harmless::line(&self.line).into_owned()
    }
}

/// Bytes of a line that are shown.
const LONGEST: usize = 240;
/// Finds that go out together.
const LOT: usize = 32;
/// Bytes that a pattern may take as a program.
const MAX_PATTERN: usize = 1 << 20;
