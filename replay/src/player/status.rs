//! The line at the bottom: where we are, how fast, and in whose session.

use std::time::Duration;

use super::keys::HELP;
use super::{Mode, View};
use crate::{clock, harmless};

/// What the status line says.
#[derive(Clone, Debug)]
pub struct Status {
    /// Playing, paused or over.
    pub mode: Mode,
    /// Where a seek that takes a while is going.
    pub seeking: Option<Duration>,
    /// Where in the session it stands.
    pub position: Duration,
    /// How long the session took.
    pub length: Duration,
    /// How many times faster than it happened.
    pub speed: f64,
    /// The longest pause that is played in full.
    pub idle_limit: Option<Duration>,
    /// What is looked at.
    pub view: View,
    /// How many terminals there are.
    pub terminals: usize,
}

impl Status {
    /// The line, exactly `width` columns; `title` names the session and `note` whatever the view has to add.
    #[must_use]
    pub fn line(&self, title: &str, note: &str, width: usize) -> String {
        let title = harmless::line(title);
        let left = format!(" {} {}  {}  {title}", self.sign(), self.times(), self.pace());
        let right = format!(" {}{note} ? keys ", self.looking_at());
        fill(&left, &right, width)
    }

    /// The keys instead.
    #[must_use]
    pub fn help(width: usize) -> String {
        fill(&format!(" {HELP}"), "", width)
    }

    fn sign(&self) -> &'static str {
        match (self.seeking, self.mode) {
            (Some(_), _) => "»",
            (None, Mode::Playing) => "▶",
            (None, Mode::Paused) => "‖",
            (None, Mode::Ended) => "■",
        }
    }

    fn times(&self) -> String {
        match self.seeking {
            Some(target) => format!("{} → {}", clock::short(self.position), clock::short(target)),
            None => format!("{} / {}", clock::short(self.position), clock::short(self.length)),
        }
    }

    fn pace(&self) -> String {
        let speed = if self.speed < 1.0 { format!("1/{:.0}×", 1.0 / self.speed) } else { format!("{}×", self.speed) };
        self.idle_limit.map_or(speed.clone(), |limit| format!("{speed} idle ≤ {}s", limit.as_secs_f64()))
    }

    fn looking_at(&self) -> String {
        match self.view {
            View::Timeline => "timeline".to_owned(),
            View::Terminal(id) if self.terminals > 1 => format!("terminal {id}"),
            View::Terminal(_) => String::new(),
        }
    }
}

/// The right text at the right edge, where it takes no more than half of the line, and the left one before it.
pub(crate) fn fill(left: &str, right: &str, width: usize) -> String {
    let columns = |text: &str| text.chars().map(harmless::width).sum::<usize>();
    let right = if columns(right) * 2 <= width { right } else { "" };
    let room = width - columns(right);
    let mut line = harmless::clip(left, room).into_owned();
    line.extend(std::iter::repeat_n(' ', room.saturating_sub(columns(&line))));
    line.push_str(right);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            mode: Mode::Playing,
            seeking: None,
            position: Duration::from_secs(12),
            length: Duration::from_secs(225),
            speed: 1.0,
            idle_limit: None,
            view: View::Terminal(0),
            terminals: 1,
        }
    }

    #[test]
    fn says_time_total_speed_and_whose_session() {
        let line = status().line("01890a5d web1 · alice@example.com", "", 70);
        assert!(line.starts_with(" ▶ 0:12 / 3:45  1×  01890a5d web1 · alice@example.com"), "{line}");
        assert!(line.ends_with("? keys "), "{line}");
        assert_eq!(line.chars().map(harmless::width).sum::<usize>(), 70);
    }

    #[test]
    fn fits_any_width() {
        for width in 0..120 {
            let line = status().line("web1 日本語 \u{1b}]0;x\u{7}", " 80×24 of 132×50", width);
            assert_eq!(line.chars().map(harmless::width).sum::<usize>(), width, "{line:?}");
            assert!(!line.contains('\u{1b}'));
        }
    }

    #[test]
    fn names_slow_speeds_and_limits() {
        let status = Status { speed: 0.25, idle_limit: Some(Duration::from_millis(1500)), ..status() };
        assert!(status.line("", "", 80).contains("1/4× idle ≤ 1.5s"));
    }
}
