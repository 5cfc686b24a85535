//! The viewer's own terminal: taken over, and put back as it was, whatever happens.

use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossterm::style::{Attribute, SetAttribute};
use crossterm::terminal::{self, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The viewer's terminal in raw mode with its other screen; as it was again when this is dropped, also by a panic.
pub(crate) struct Screen {
    pub(crate) out: io::BufWriter<io::Stdout>,
    hook: Arc<Hook>,
}

type Hook = dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync;

impl Screen {
    pub(crate) fn enter() -> io::Result<Self> {
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
pub(crate) struct Signals {
    last: Arc<AtomicUsize>,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    pub(crate) fn watch() -> io::Result<Self> {
        let mut signals = Self { last: Arc::default(), ids: Vec::new() };
        for (signal, number) in [(SIGHUP, 1), (SIGINT, 2), (SIGTERM, 15)] {
            let id = signal_hook::flag::register_usize(signal, Arc::clone(&signals.last), number)?;
            signals.ids.push(id);
        }
        Ok(signals)
    }

    pub(crate) fn seen(&self) -> Option<i32> {
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
