//! The player: a session played back with pause, step, seek and speed.
//!
//! [`Player`] is the whole of it without a terminal and without a clock: actions and the time go in, a [`Stage`] comes out.
//! [`tty`] puts it on the viewer's terminal. Memory stays flat however long the recording is: moments are read as they are
//! shown, and [`keyframes`] bounds what is kept for seeking back.

mod draw;
mod keyframes;
mod keys;
mod stage;
mod status;
mod tty;
mod wall;

use std::time::Duration;

pub use draw::Frame;
pub use keys::{Action, Key, Seek, action};
pub use stage::{Stage, size};
pub use status::Status;
pub(crate) use status::fill;
pub use tty::{Ended, run};
pub use wall::Shown;
pub(crate) use wall::{MOST_PANELS, Standing, one_too_many};

use crate::Failure;
use crate::moment::{Moment, Source};
use keyframes::Keyframes;

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many times faster than it happened.
    pub speed: f64,
    /// Pauses longer than this are cut to it.
    pub idle_limit: Option<Duration>,
    /// Begin there, standing still.
    pub at: Option<Duration>,
}

/// What the player is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Time passes.
    Playing,
    /// Time stands.
    Paused,
    /// Everything has been shown.
    Ended,
}

/// What the viewer looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The screen of one terminal.
    Terminal(u32),
    /// The lines of the timeline.
    Timeline,
}

/// A session being played.
pub struct Player<S: Source> {
    source: S,
    tape: Tape<S::Moments>,
    stage: Stage,
    keyframes: Keyframes,
    mode: Mode,
    view: Option<View>,
    position: Duration,
    /// Where an unfinished seek is going.
    seeking: Option<Duration>,
    /// Since when nothing has happened, for the idle limit.
    quiet_since: Duration,
    speed: f64,
    idle_limit: Option<Duration>,
    now: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { speed: 1.0, idle_limit: None, at: None }
    }
}

impl<S: Source> Player<S> {
    /// Starts playing from the beginning; `now` is the time on any steady clock.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn new(source: S, options: Options, now: Duration) -> Result<Self, Failure> {
        let tape = Tape::new(source.moments(Duration::ZERO)?)?;
        let mut player = Self {
            source,
            tape,
            stage: Stage::default(),
            keyframes: Keyframes::default(),
            mode: Mode::Playing,
            view: None,
            position: Duration::ZERO,
            seeking: None,
            quiet_since: Duration::ZERO,
            speed: if options.speed.is_finite() { options.speed.clamp(SPEEDS.0, SPEEDS.1) } else { 1.0 },
            idle_limit: options.idle_limit,
            now,
        };
        if let Some(at) = options.at {
            player.mode = Mode::Paused;
            player.seek(at.min(player.source.length()))?;
        }
        Ok(player)
    }

    /// Does what the viewer asked for. Long seeks are only begun: [`Player::tick`] carries them on.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Pause => match self.mode {
                Mode::Playing => self.mode = Mode::Paused,
                Mode::Paused => self.mode = Mode::Playing,
                Mode::Ended => {
                    self.seek(Duration::ZERO)?;
                    self.mode = Mode::Playing;
                }
            },
            Action::Step => self.step()?,
            Action::Seek(seek) => {
                if let Some(target) = self.target(seek)? {
                    self.seek(target)?;
                }
            }
            Action::Faster => self.speed = (self.speed * 2.0).min(SPEEDS.1),
            Action::Slower => self.speed = (self.speed / 2.0).max(SPEEDS.0),
            Action::NextView => self.turn(1),
            Action::PreviousView => self.turn(-1),
        }
        Ok(())
    }

    /// Lets time pass until `now`, or carries on a seek.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn tick(&mut self, now: Duration) -> Result<(), Failure> {
        let passed = now.saturating_sub(self.now);
        self.now = now;
        match (self.seeking, self.mode) {
            (Some(target), _) => self.carry_on(target),
            (None, Mode::Playing) => self.play(passed.mul_f64(self.speed)),
            (None, Mode::Paused | Mode::Ended) => Ok(()),
        }
    }

    /// How long nothing will change by itself; `None` if it never will.
    #[must_use]
    pub fn rest(&self) -> Option<Duration> {
        match (self.seeking, self.mode) {
            (Some(_), _) => Some(Duration::ZERO),
            (None, Mode::Playing) => {
                let wait = self.tape.next.as_ref().map_or(Duration::ZERO, |next| self.wait_for(next.at));
                Some(wait.div_f64(self.speed))
            }
            (None, Mode::Paused | Mode::Ended) => None,
        }
    }

    /// What is shown now.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// What the viewer looks at: what they chose if it is there, else the first terminal, else the timeline.
    #[must_use]
    pub fn view(&self) -> View {
        match self.view {
            Some(View::Timeline) => View::Timeline,
            Some(View::Terminal(id)) if self.stage.has_terminal(id) => View::Terminal(id),
            _ => self.stage.terminals().next().map_or(View::Timeline, View::Terminal),
        }
    }

    /// Where in the session it stands.
    #[must_use]
    pub fn position(&self) -> Duration {
        self.position
    }

    /// What the player is doing.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Everything that the status line says.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            mode: self.mode,
            seeking: self.seeking,
            position: self.position,
            length: self.source.length(),
            speed: self.speed,
            idle_limit: self.idle_limit,
            view: self.view(),
            terminals: self.stage.terminals().len(),
        }
    }

    fn play(&mut self, mut left: Duration) -> Result<(), Failure> {
        let mut work = 0;
        while let Some(next) = &self.tape.next {
            let (at, wait) = (next.at, self.wait_for(next.at));
            if wait > left {
                self.position += left;
                return Ok(());
            }
            left -= wait;
            self.position = self.position.max(at);
            work += self.show_next()?;
            if work > SLICE {
                return Ok(());
            }
        }
        let end = self.source.length();
        let wait = self.wait_for(end);
        if wait > left {
            self.position += left;
        } else {
            self.position = self.position.max(end);
            self.mode = Mode::Ended;
        }
        Ok(())
    }

    /// How much playing time passes until a moment: the time between, cut by the idle limit.
    fn wait_for(&self, at: Duration) -> Duration {
        let whole = at.saturating_sub(self.position);
        match self.idle_limit {
            Some(limit) if at > self.quiet_since + limit => {
                (self.quiet_since + limit).saturating_sub(self.position).min(whole)
            }
            _ => whole,
        }
    }

    /// Shows the next moment and tells how much work it was.
    fn show_next(&mut self) -> Result<usize, Failure> {
        let Some(moment) = self.tape.take()? else { return Ok(0) };
        let (size, at) = (moment.change.size(), moment.at);
        let more = self.stage.apply(moment)?;
        self.quiet_since = at;
        self.keyframes.shown(size);
        if let Some(next) = &self.tape.next
            && next.at > at
            && self.keyframes.due(next.at)
        {
            self.keyframes.keep(next.at, &self.stage);
        }
        // Even an empty moment is some work, so that a million of them do not keep the keyboard waiting.
        Ok(size + more + 64)
    }

    /// Shows the next moment, and others of the same instant, and stands still there.
    fn step(&mut self) -> Result<(), Failure> {
        let Some(at) = self.tape.next.as_ref().map(|next| next.at) else {
            self.position = self.source.length().max(self.position);
            self.mode = Mode::Ended;
            return Ok(());
        };
        self.mode = Mode::Paused;
        self.seek(at.max(self.position))
    }

    /// Where a jump leads; `None` if there is nothing there.
    fn target(&self, seek: Seek) -> Result<Option<Duration>, Failure> {
        // While a seek is under way the next one counts from its target, so that five presses of a key are five jumps.
        let from = self.seeking.unwrap_or(self.position);
        let length = self.source.length();
        Ok(match seek {
            Seek::Forward(by) => Some((from + by).min(length)),
            Seek::Back(by) => Some(from.saturating_sub(by)),
            Seek::Tenth(tenth) => Some(length * u32::from(tenth) / 10),
            Seek::End => Some(length),
            Seek::NextEvent => {
                let mut events = self.source.events()?;
                events.find(|at| !at.as_ref().is_ok_and(|at| *at <= from)).transpose()?
            }
            Seek::PreviousEvent => {
                let mut last = None;
                for at in self.source.events()? {
                    match at? {
                        at if at < from => last = Some(at),
                        _ => break,
                    }
                }
                last
            }
        })
    }

    fn seek(&mut self, target: Duration) -> Result<(), Failure> {
        let keyframe = self.keyframes.before(target);
        if target < self.position {
            // Everything at `target` itself is shown again, so the way there must start before it or at it.
            let (resume, stage) = match keyframe {
                Some(keyframe) => (keyframe.resume, keyframe.snapshot.restore()?),
                None => (Duration::ZERO, Stage::default()),
            };
            self.rewind(resume, stage)?;
        } else if let Some(keyframe) = keyframe.filter(|keyframe| keyframe.resume > self.position) {
            let (resume, stage) = (keyframe.resume, keyframe.snapshot.restore()?);
            self.rewind(resume, stage)?;
        }
        if self.mode == Mode::Ended {
            self.mode = Mode::Paused;
        }
        self.carry_on(target)
    }

    fn rewind(&mut self, resume: Duration, stage: Stage) -> Result<(), Failure> {
        self.tape = Tape::new(self.source.moments(resume)?)?;
        self.stage = stage;
        self.position = resume;
        self.keyframes.jumped();
        Ok(())
    }

    fn carry_on(&mut self, target: Duration) -> Result<(), Failure> {
        let mut work = 0;
        while self.tape.next.as_ref().is_some_and(|next| next.at <= target) {
            if work > SLICE {
                self.seeking = Some(target);
                return Ok(());
            }
            if let Some(next) = &self.tape.next {
                self.position = self.position.max(next.at);
            }
            work += self.show_next()?;
        }
        self.seeking = None;
        self.position = target;
        self.quiet_since = target;
        if self.tape.next.is_none() && target >= self.source.length() {
            self.mode = Mode::Ended;
        }
        Ok(())
    }

    fn turn(&mut self, by: isize) {
        let mut views: Vec<View> = self.stage.terminals().map(View::Terminal).collect();
        views.push(View::Timeline);
        let here = views.iter().position(|view| *view == self.view()).unwrap_or(0);
        let there = here.checked_add_signed(by).map_or(views.len() - 1, |there| there % views.len());
        self.view = views.get(there).copied();
    }
}

/// The moments still to come, with the next one in sight.
struct Tape<I> {
    moments: I,
    next: Option<Moment>,
}

impl<I: Iterator<Item = Result<Moment, Failure>>> Tape<I> {
    fn new(mut moments: I) -> Result<Self, Failure> {
        let next = moments.next().transpose()?;
        Ok(Self { moments, next })
    }

    fn take(&mut self) -> Result<Option<Moment>, Failure> {
        let following = self.moments.next().transpose()?;
        Ok(std::mem::replace(&mut self.next, following))
    }
}

/// The slowest and the fastest speed.
const SPEEDS: (f64, f64) = (1.0 / 16.0, 1024.0);
/// Bytes of output shown between two looks at the keyboard: some tens of milliseconds of work.
const SLICE: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
