//! Keys and what they ask for. The letters are asciinema's where asciinema has them.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a viewer can ask of the player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pause, or play on; at the end, play again.
    Pause,
    /// Show the next moment and stand still.
    Step,
    /// Jump.
    Seek(Seek),
    /// Twice the speed.
    Faster,
    /// Half the speed.
    Slower,
    /// Look at the next terminal, or the timeline.
    NextView,
    /// Look at the one before.
    PreviousView,
}

/// Where to jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// So far ahead.
    Forward(Duration),
    /// So far back.
    Back(Duration),
    /// To so many tenths of the whole.
    Tenth(u8),
    /// To the end.
    End,
    /// To the next event of the timeline.
    NextEvent,
    /// To the event before.
    PreviousEvent,
}

/// What a key press means to the viewer of a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Something for the player.
    Act(Action),
    /// Show or hide the list of keys.
    Help,
    /// Leave.
    Quit,
}

/// What a key asks for, if anything.
#[must_use]
pub fn action(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let jump = if key.modifiers.contains(KeyModifiers::SHIFT) { FAR } else { NEAR };
    let action = match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => return Some(Key::Quit),
        KeyCode::Char('?' | 'h') => return Some(Key::Help),
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('.') => Action::Step,
        KeyCode::Right => Action::Seek(Seek::Forward(jump)),
        KeyCode::Left => Action::Seek(Seek::Back(jump)),
        KeyCode::PageDown => Action::Seek(Seek::Forward(FAR)),
        KeyCode::PageUp => Action::Seek(Seek::Back(FAR)),
        KeyCode::Home => Action::Seek(Seek::Tenth(0)),
        KeyCode::End => Action::Seek(Seek::End),
        KeyCode::Char(']') => Action::Seek(Seek::NextEvent),
        KeyCode::Char('[') => Action::Seek(Seek::PreviousEvent),
        KeyCode::Char('+' | '=') => Action::Faster,
        KeyCode::Char('-') => Action::Slower,
        KeyCode::Tab => Action::NextView,
        KeyCode::BackTab => Action::PreviousView,
        KeyCode::Char(digit) => Action::Seek(Seek::Tenth(u8::try_from(digit.to_digit(10)?).ok()?)),
        _ => return None,
    };
    Some(Key::Act(action))
}

/// The keys in one line.
pub(super) const HELP: &str =
    "space pause · . step · ←→ 5s · shift/PgUp/PgDn 60s · [ ] event · 0-9 tenth · +- speed · Tab view · q quit";
/// The small jump.
const NEAR: Duration = Duration::from_secs(5);
/// The large jump.
const FAR: Duration = Duration::from_secs(60);
