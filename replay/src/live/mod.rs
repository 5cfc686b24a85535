//! A session that is going on, looked at: the whole screen as it stands when one joins, then what comes.
//!
//! It reads the recording's files along while the gateway writes them, so that whoever watches slowly falls behind by
//! themselves and holds up nobody. [`tty`] puts it on the viewer's terminal, [`lines`] writes it for programs and pipes.

mod lines;
mod tty;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use sallyport_recorder::follow::Follow;
use sallyport_recorder::read::{Entry, Item, RecordingReader};
use sallyport_recorder::{Event, Manifest, Outcome};

pub use lines::{json, text};
pub use tty::run;

use crate::moment::{Change, Moment};
use crate::player::{Stage, View};
use crate::{Failure, reel};

/// A live session's recording, followed.
pub struct Live {
    follow: Follow,
    manifest: Manifest,
    stirred: Arc<AtomicBool>,
    /// Sets `stirred`; without it one looks all the time.
    watcher: Option<RecommendedWatcher>,
    looked: Instant,
    end: Option<End>,
}

/// How the session ended, as its recording says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: String,
}

/// What whoever watches hears from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The session goes on; and why not all of it can be seen, if that is so.
    On(Option<String>),
    /// The gateway knows of no such session any more, or is gone itself.
    Over,
}

/// Why watching ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The session ended.
    Ended(End),
    /// The session is over, and its recording has no end.
    Lost,
    /// The viewer left, or the process got this signal.
    Viewer(crate::player::Ended),
}

impl Live {
    /// Follows the recording in `folder`, for a person: of what commands wrote, the last seconds and what comes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let reader = RecordingReader::open(folder)?;
        let recent = reel::length(&reader).saturating_sub(RECENT);
        Self::from(folder, &reader, recent)
    }

    /// Follows the recording in `folder`, all of it from the beginning on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn whole(folder: &Path) -> Result<Self, Failure> {
        Self::from(folder, &RecordingReader::open(folder)?, Duration::ZERO)
    }

    fn from(folder: &Path, reader: &RecordingReader, outputs: Duration) -> Result<Self, Failure> {
        let stirred = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&stirred);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event as well, and nothing new.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                flag.store(true, Ordering::Relaxed);
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        Ok(Self {
            follow: Follow::open(folder, u64::try_from(outputs.as_millis()).unwrap_or(u64::MAX))?,
            manifest: reader.manifest().clone(),
            stirred,
            watcher: watcher.ok(),
            looked: Instant::now(),
            end: None,
        })
    }

    /// A few words that name the session.
    #[must_use]
    pub fn title(&self) -> String {
        reel::title(&self.manifest)
    }

    /// The next thing that was recorded, or `None` where there is nothing new for now.
    fn next(&mut self) -> Result<Option<Seen>, Failure> {
        if let Some(entry) = self.follow.next() {
            return Ok(Some(self.seen(entry)));
        }
        let blind = self.watcher.is_none() || self.looked.elapsed() > SLOW_LOOK;
        if !self.stirred.swap(false, Ordering::Relaxed) && !blind {
            return Ok(None);
        }
        self.looked = Instant::now();
        self.follow.look()?;
        Ok(self.follow.next().map(|entry| self.seen(entry)))
    }

    fn seen(&mut self, entry: Result<Entry, sallyport_recorder::read::ReadError>) -> Seen {
        match entry {
            Ok(entry) => {
                if let Item::Event(Event::End { outcome, reason }) = &entry.item {
                    self.end = Some(End { outcome: *outcome, reason: reason.clone() });
                }
                Seen::Entry(entry)
            }
            Err(damage) => Seen::Damage(format!("DAMAGED: {damage}")),
        }
    }

    /// Whether all is over: the session has ended and everything was seen, or there is no more to wait for.
    fn left(&self, word: &Word, quiet: Duration) -> Option<Left> {
        match (&self.end, word) {
            (Some(end), _) => Some(Left::Ended(end.clone())),
            (None, Word::Over) if quiet > LAST_WORDS => Some(Left::Lost),
            (None, _) => None,
        }
    }
}

/// Something that a follower saw.
enum Seen {
    Entry(Entry),
    Damage(String),
}

/// What is shown of a live session, and which part of it the viewer looks at.
#[derive(Default)]
struct Watch {
    stage: Stage,
    at: Duration,
    /// What the viewer chose to look at.
    chosen: Option<View>,
    /// The channels that are open, and the terminals in them.
    open: BTreeMap<u32, Option<u32>>,
}

impl Watch {
    /// Shows something, and says how much work it was.
    fn show(&mut self, seen: Seen) -> Result<usize, Failure> {
        let moment = match seen {
            Seen::Damage(damage) => Moment { at: self.at, change: Change::Noted(damage) },
            Seen::Entry(entry) => {
                if let Item::Event(event) = &entry.item {
                    self.note(event);
                }
                reel::moment(entry)
            }
        };
        self.at = self.at.max(moment.at);
        let size = moment.change.size();
        let more = self.stage.apply(moment)?;
        Ok(size + more + 64)
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::ChannelOpen { channel, .. } => drop(self.open.insert(*channel, None)),
            Event::Pty { channel, terminal, .. } => drop(self.open.insert(*channel, Some(*terminal))),
            Event::ChannelClose { channel, .. } => drop(self.open.remove(channel)),
            _ => {}
        }
        // A client can open channels without end; the oldest are the least likely to be looked at.
        while self.open.len() > MOST_CHANNELS {
            self.open.pop_first();
        }
    }

    /// What is looked at: what was chosen, else the newest terminal that is live, else, where commands run, the timeline,
    /// and when all has ended the last terminal.
    fn view(&self) -> View {
        let there = |terminal: &u32| self.stage.has_terminal(*terminal);
        match self.chosen {
            Some(View::Terminal(terminal)) if there(&terminal) => return View::Terminal(terminal),
            Some(View::Timeline) => return View::Timeline,
            _ => {}
        }
        let live = self.open.values().flatten().copied().filter(there).max();
        let last = self.stage.terminals().max().filter(|_| self.open.is_empty());
        live.or(last).map_or(View::Timeline, View::Terminal)
    }

    /// Looks at the next terminal, or the timeline.
    fn turn(&mut self) {
        let mut views: Vec<View> = self.stage.terminals().map(View::Terminal).collect();
        views.push(View::Timeline);
        let here = views.iter().position(|view| *view == self.view()).unwrap_or(0);
        self.chosen = views.get((here + 1) % views.len()).copied();
    }
}

/// What commands wrote before a viewer joined is shown from so long before.
const RECENT: Duration = Duration::from_secs(10);
/// How often one looks when nothing stirs.
const SLOW_LOOK: Duration = Duration::from_millis(500);
/// How long one waits for a session's end to be written when the gateway says that it is over.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Open channels that are kept in mind.
const MOST_CHANNELS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(watch: &mut Watch, event: Event) {
        let entry = Entry { at_ms: 0, item: Item::Event(event) };
        watch.show(Seen::Entry(entry)).unwrap();
    }

    fn terminal(watch: &mut Watch, channel: u32, terminal: u32) {
        event(watch, Event::ChannelOpen { channel, kind: "session".into() });
        event(watch, Event::Pty { channel, terminal, term: "xterm".into(), width: 80, height: 24 });
        let change = Change::Opened { terminal, columns: 80, rows: 24 };
        watch.stage.apply(Moment { at: Duration::ZERO, change }).unwrap();
    }

    #[test]
    fn looks_at_the_newest_terminal_that_is_live_unless_one_was_chosen() {
        let mut watch = Watch::default();
        assert_eq!(watch.view(), View::Timeline);
        terminal(&mut watch, 0, 0);
        terminal(&mut watch, 1, 1);
        assert_eq!(watch.view(), View::Terminal(1));
        event(&mut watch, Event::ChannelClose { channel: 1, sent: 0, received: 0 });
        assert_eq!(watch.view(), View::Terminal(0), "the newest has ended");
        watch.chosen = Some(View::Terminal(1));
        assert_eq!(watch.view(), View::Terminal(1), "chosen");
        watch.chosen = Some(View::Terminal(7));
        assert_eq!(watch.view(), View::Terminal(0), "chosen, and not there yet");
        watch.chosen = None;
        event(&mut watch, Event::ChannelClose { channel: 0, sent: 0, received: 0 });
        assert_eq!(watch.view(), View::Terminal(1), "the last screen of all");
        event(&mut watch, Event::ChannelOpen { channel: 2, kind: "session".into() });
        assert_eq!(watch.view(), View::Timeline, "a command runs");
    }

    #[test]
    fn the_viewer_turns_through_terminals_and_timeline() {
        let mut watch = Watch::default();
        terminal(&mut watch, 0, 0);
        terminal(&mut watch, 1, 1);
        let mut seen = Vec::new();
        for _ in 0..3 {
            watch.turn();
            seen.push(watch.view());
        }
        assert_eq!(seen, [View::Timeline, View::Terminal(0), View::Terminal(1)]);
    }

    #[test]
    fn channels_without_end_cost_no_memory_without_end() {
        let mut watch = Watch::default();
        for channel in 0..5_000 {
            event(&mut watch, Event::ChannelOpen { channel, kind: "session".into() });
        }
        assert_eq!(watch.open.len(), MOST_CHANNELS);
    }
}
