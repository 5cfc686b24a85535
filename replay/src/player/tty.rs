//! The player on the viewer's own terminal: keys in, pictures out.

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};
use crossterm::terminal;

use super::keys::{self, Key};
use super::{Frame, Options, Player};
use crate::Failure;
use crate::moment::Source;
use crate::window::{Screen, Signals};

/// Why playing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The viewer left.
    Left,
    /// The process got this signal.
    Signal(i32),
}

impl Ended {
    /// Ends the process as the signal would have, had the terminal not been put back first.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn obey(self) -> io::Result<()> {
        match self {
            Self::Left => Ok(()),
            Self::Signal(signal) => signal_hook::low_level::emulate_default_handler(signal),
        }
    }
}

/// Plays on standard output, which must be a terminal, until the viewer leaves. `title` names the session.
///
/// # Errors
/// When the recording cannot be read, or the terminal be used.
pub fn run<S: Source>(source: S, options: Options, title: &str) -> Result<Ended, Failure> {
    let signals = Signals::watch()?;
    let mut screen = Screen::enter()?;
    let start = Instant::now();
    let mut player = Player::new(source, options, Duration::ZERO)?;
    let mut help = false;
    let mut standing = None;
    loop {
        player.tick(start.elapsed())?;
        let frame = Frame::of(&player, title, help, terminal::size()?);
        frame.draw(standing.as_ref(), &mut screen.out)?;
        standing = Some(frame);

        let mut wait = player.rest().map_or(LOOK, |rest| rest.clamp(PICTURE, LOOK));
        if player.status().seeking.is_some() {
            wait = Duration::ZERO;
        }
        while event::poll(wait)? {
            wait = Duration::ZERO;
            match event::read()? {
                Event::Key(key) => match keys::action(key) {
                    Some(Key::Act(action)) => player.act(action)?,
                    Some(Key::Help) => help = !help,
                    Some(Key::Quit) => return Ok(Ended::Left),
                    None => {}
                },
                Event::Resize(..) => standing = None,
                _ => {}
            }
        }
        if let Some(signal) = signals.seen() {
            return Ok(Ended::Signal(signal));
        }
    }
}

/// The longest that a signal waits to be seen, and the clock in the status line stands.
const LOOK: Duration = Duration::from_millis(100);
/// The least time between two pictures.
const PICTURE: Duration = Duration::from_millis(12);
