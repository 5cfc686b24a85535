//! The live view on the viewer's own terminal.

use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use crossterm::terminal;

use super::{Left, Live, Watch, Word};
use crate::player::{Ended, Frame, View, fill};
use crate::window::{Screen, Signals};
use crate::{Failure, clock, harmless};

/// Shows a session on standard output, which must be a terminal, until it ends or the viewer leaves. `terminal` is looked
/// at where one was asked for; `word` says what the gateway says.
///
/// # Errors
/// When the recording cannot be read, or the terminal be used.
pub fn run(live: &mut Live, terminal: Option<u32>, word: impl Fn() -> Word) -> Result<Left, Failure> {
    let title = live.title();
    let signals = Signals::watch()?;
    let mut screen = Screen::enter()?;
    let mut watch = Watch { chosen: terminal.map(View::Terminal), ..Watch::default() };
    let mut standing = None;
    let mut moved = Instant::now();
    loop {
        let behind = catch_up(live, &mut watch, &mut moved)?;
        let word = word();
        let size = terminal::size()?;
        let frame = Frame::of_stage(&watch.stage, watch.view(), size, |note, columns| {
            status(&watch, &title, &word, behind, (note, columns))
        });
        frame.draw(standing.as_ref(), &mut screen.out)?;
        standing = Some(frame);
        if !behind && let Some(left) = live.left(&word, moved.elapsed()) {
            return Ok(left);
        }
        let mut wait = if behind { Duration::ZERO } else { LOOK };
        while event::poll(wait)? {
            wait = Duration::ZERO;
            match event::read()? {
                Event::Key(key) if key.kind == event::KeyEventKind::Release => {}
                Event::Key(key) => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(Left::Viewer(Ended::Left)),
                    KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        return Ok(Left::Viewer(Ended::Left));
                    }
                    KeyCode::Tab => watch.turn(),
                    _ => {}
                },
                Event::Resize(..) => standing = None,
                _ => {}
            }
        }
        if let Some(signal) = signals.seen() {
            return Ok(Left::Viewer(Ended::Signal(signal)));
        }
    }
}

/// Shows what is new, up to some tens of milliseconds of work; says whether there is more.
fn catch_up(live: &mut Live, watch: &mut Watch, moved: &mut Instant) -> Result<bool, Failure> {
    let mut work = 0;
    while let Some(seen) = live.next()? {
        *moved = Instant::now();
        work += watch.show(seen)?;
        if work > SLICE {
            return Ok(true);
        }
    }
    Ok(false)
}

fn status(watch: &Watch, title: &str, word: &Word, behind: bool, (note, columns): (&str, usize)) -> String {
    let sign = match (behind, word) {
        (true, _) => "» catching up",
        (false, Word::On(_)) => "● live",
        (false, Word::Over) => "■ over",
    };
    let unseen = match word {
        Word::On(Some(why)) => format!("  {}", harmless::line(why)),
        _ => String::new(),
    };
    let left = format!(" {sign}  {}  {}{unseen}", clock::short(watch.at), harmless::line(title));
    let (view, several) = (watch.view(), watch.stage.terminals().len() > 1);
    let what = match view {
        View::Timeline => "timeline".to_owned(),
        View::Terminal(number) if several => format!("terminal {number}"),
        View::Terminal(_) => String::new(),
    };
    fill(&left, &format!(" {what}{note}  Tab view · q leave "), columns)
}

/// How often the keyboard and the recording are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of output shown between two pictures.
const SLICE: usize = 1024 * 1024;
