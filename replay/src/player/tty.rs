//! The player on the viewer's own terminal: keys in, pictures out, and the terminal put back as it was, whatever happens.

use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};
use crossterm::style::{Attribute, SetAttribute};
use crossterm::terminal::{self, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::keys::{self, Key};
use super::{Frame, Options, Player};
use crate::Failure;
use crate::moment::Source;

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

/// The longest that a signal waits to be seen, and the clock in the status line stands.
const LOOK: Duration = Duration::from_millis(100);
/// The least time between two pictures.
const PICTURE: Duration = Duration::from_millis(12);

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

/// The viewer's terminal in raw mode with its other screen; as it was again when this is dropped, also by a panic.
struct Screen {
    out: io::BufWriter<io::Stdout>,
    hook: Arc<Hook>,
}

type Hook = dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync;

impl Screen {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let hook: Arc<Hook> = panic::take_hook().into();
        let mut screen = Self { out: io::BufWriter::with_capacity(1 << 16, io::stdout()), hook };
        // What a panic has to say must not vanish with the other screen.
        let before = Arc::clone(&screen.hook);
        panic::set_hook(Box::new(move |info| {
            restore(&mut io::stdout());
            before(info);
        }));
        execute!(screen.out, EnterAlternateScreen, terminal::DisableLineWrap, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(&mut self.out);
        // Hooks cannot be changed while a panic is on its way, and the process is ending then.
        if !std::thread::panicking() {
            let before = Arc::clone(&self.hook);
            panic::set_hook(Box::new(move |info| before(info)));
        }
    }
}

/// Puts the terminal back. Does what it can: with the terminal gone there is nobody left to tell.
fn restore(out: &mut impl Write) {
    let _ = execute!(
        out,
        SetAttribute(Attribute::Reset),
        EndSynchronizedUpdate,
        terminal::EnableLineWrap,
        cursor::Show,
        LeaveAlternateScreen
    );
    let _ = terminal::disable_raw_mode();
}

/// Watches for the signals that end a process, so that the terminal is put back first.
struct Signals {
    last: Arc<AtomicUsize>,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let mut signals = Self { last: Arc::default(), ids: Vec::new() };
        for (signal, number) in [(SIGHUP, 1), (SIGINT, 2), (SIGTERM, 15)] {
            let id = signal_hook::flag::register_usize(signal, Arc::clone(&signals.last), number)?;
            signals.ids.push(id);
        }
        Ok(signals)
    }

    fn seen(&self) -> Option<i32> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
