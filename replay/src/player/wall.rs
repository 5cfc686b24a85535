//! The terminals of a session, in bounded memory.
//!
//! A session may open terminals without end, each of the largest size. Those that printed last stand as they are; older ones
//! are kept as the text that puts them up again, and of these the oldest are forgotten when they become too many.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use avt::Terminal;

use crate::Failure;

/// Terminals, by number.
#[derive(Default)]
pub(super) struct Wall {
    panels: BTreeMap<u32, Panel>,
    turn: u64,
}

/// The place of one terminal.
struct Panel {
    size: (usize, usize),
    /// The turn in which it was opened, or printed last.
    last: u64,
    screen: Screen,
}

enum Screen {
    /// It printed nothing yet.
    Blank,
    Standing(Box<Terminal>),
    /// What it takes to put it up again.
    Away(Arc<str>),
}

/// A [`Wall`] with everything put away.
pub(super) struct Stored {
    panels: Vec<Kept>,
    standing: Vec<u32>,
    turn: u64,
}

/// One terminal of it.
struct Kept {
    number: u32,
    size: (usize, usize),
    last: u64,
    /// None of one that printed nothing.
    text: Option<Arc<str>>,
}

/// A terminal to look at.
pub enum Shown<'a> {
    /// One that stands.
    Standing(&'a Terminal),
    /// One that was put up again for this.
    Again(Box<Terminal>),
}

impl Wall {
    /// The terminals that have been opened, by number.
    pub(super) fn numbers(&self) -> impl ExactSizeIterator<Item = u32> {
        self.panels.keys().copied()
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.panels.contains_key(&number)
    }

    pub(super) fn shown(&self, number: u32) -> Option<Shown<'_>> {
        let panel = self.panels.get(&number)?;
        match &panel.screen {
            Screen::Standing(terminal) => Some(Shown::Standing(terminal)),
            Screen::Blank | Screen::Away(_) => panel.made().ok().map(Shown::Again),
        }
    }

    /// Keeps a place for a terminal. It costs nothing before it prints.
    pub(super) fn open(&mut self, number: u32, size: (usize, usize)) {
        self.turn += 1;
        self.panels.insert(number, Panel { size, last: self.turn, screen: Screen::Blank });
        if self.panels.len() > MOST_PANELS {
            self.forget(|_| true);
        }
    }

    /// Prints on a terminal; says how much work it was beside that.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub(super) fn print(&mut self, number: u32, text: &str) -> Result<usize, Failure> {
        let work = self.put_up(number)?;
        if let Some(Panel { screen: Screen::Standing(terminal), .. }) = self.panels.get_mut(&number) {
            terminal.feed(text);
        }
        Ok(work)
    }

    /// Gives a terminal another size; says how much work it was.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub(super) fn resize(&mut self, number: u32, size: (usize, usize)) -> Result<usize, Failure> {
        let Some(panel) = self.panels.get_mut(&number) else { return Ok(0) };
        if matches!(panel.screen, Screen::Blank) {
            panel.size = size;
            return Ok(0);
        }
        let work = self.put_up(number)?;
        if let Some(Panel { screen: Screen::Standing(terminal), size: was, .. }) = self.panels.get_mut(&number) {
            terminal.resize(size.0, size.1);
            *was = size;
        }
        self.make_room(number);
        Ok(work + size.0 * size.1)
    }

    /// A copy to come back to.
    pub(super) fn store(&self) -> Stored {
        let text = |screen: &Screen| match screen {
            Screen::Blank => None,
            Screen::Standing(terminal) => Some(terminal.dump().into()),
            Screen::Away(text) => Some(Arc::clone(text)),
        };
        let mut standing: Vec<(u64, u32)> = self.standing().map(|(number, panel)| (panel.last, number)).collect();
        standing.sort_unstable();
        let panel = |(number, panel): (&u32, &Panel)| Kept {
            number: *number,
            size: panel.size,
            last: panel.last,
            text: text(&panel.screen),
        };
        Stored {
            panels: self.panels.iter().map(panel).collect(),
            standing: standing.into_iter().map(|(_, number)| number).collect(),
            turn: self.turn,
        }
    }

    /// Has a terminal stand, and says how much work that was.
    fn put_up(&mut self, number: u32) -> Result<usize, Failure> {
        self.turn += 1;
        let Some(panel) = self.panels.get_mut(&number) else { return Ok(0) };
        panel.last = self.turn;
        if matches!(panel.screen, Screen::Standing(_)) {
            return Ok(0);
        }
        panel.screen = Screen::Standing(panel.made()?);
        let work = panel.cells();
        Ok(work + self.make_room(number))
    }

    /// Puts away what printed longest ago, but not `kept`, until the rest is small enough; says how much work it was.
    fn make_room(&mut self, kept: u32) -> usize {
        let mut work = 0;
        while let Some(number) = one_too_many(self.standing().map(Panel::standing), kept) {
            let Some(panel) = self.panels.get_mut(&number) else { break };
            work += panel.cells();
            if let Screen::Standing(terminal) = &panel.screen {
                panel.screen = Screen::Away(terminal.dump().into());
            }
        }
        while self.panels.values().map(|panel| panel.away()).sum::<usize>() > MOST_AWAY {
            self.forget(|panel| matches!(panel.screen, Screen::Away(_)));
        }
        work
    }

    fn standing(&self) -> impl Iterator<Item = (u32, &Panel)> {
        let standing = |panel: &Panel| matches!(panel.screen, Screen::Standing(_));
        self.panels.iter().filter(move |(_, panel)| standing(panel)).map(|(number, panel)| (*number, panel))
    }

    fn forget(&mut self, which: impl Fn(&Panel) -> bool) {
        let oldest = self.panels.iter().filter(|(_, panel)| which(panel)).min_by_key(|(_, panel)| panel.last);
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.panels.remove(&number);
        }
    }
}

/// A terminal that takes the memory of its cells.
pub(crate) struct Standing {
    pub(crate) number: u32,
    pub(crate) cells: usize,
    /// The turn in which it was opened, or printed last.
    pub(crate) last: u64,
}

/// The terminal that has to go where those that stand are too large together: the one that printed longest ago, but not
/// `kept`.
pub(crate) fn one_too_many(standing: impl Iterator<Item = Standing>, kept: u32) -> Option<u32> {
    let standing: Vec<Standing> = standing.collect();
    if standing.iter().map(|one| one.cells).sum::<usize>() <= MOST_CELLS {
        return None;
    }
    let others = standing.iter().filter(|one| one.number != kept);
    others.min_by_key(|one| one.last).map(|one| one.number)
}

impl Panel {
    fn standing((number, panel): (u32, &Self)) -> Standing {
        Standing { number, cells: panel.cells(), last: panel.last }
    }

    fn cells(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Bytes of what was put away.
    fn away(&self) -> usize {
        if let Screen::Away(text) = &self.screen { text.len() } else { 0 }
    }

    /// The terminal, made anew.
    fn made(&self) -> Result<Box<Terminal>, Failure> {
        let mut terminal =
            Terminal::new(self.size.0, self.size.1).map_err(|error| Failure::Terminal(error.to_string()))?;
        if let Screen::Away(text) = &self.screen {
            terminal.feed(&**text);
        }
        Ok(Box::new(terminal))
    }
}

impl Stored {
    /// The wall as it was.
    ///
    /// # Errors
    /// When a terminal cannot be made.
    pub(super) fn restore(&self) -> Result<Wall, Failure> {
        let panel = |kept: &Kept| {
            let screen = kept.text.as_ref().map_or(Screen::Blank, |text| Screen::Away(Arc::clone(text)));
            (kept.number, Panel { size: kept.size, last: kept.last, screen })
        };
        let mut wall = Wall { panels: self.panels.iter().map(panel).collect(), turn: self.turn };
        for number in &self.standing {
            if let Some(panel) = wall.panels.get_mut(number) {
                panel.screen = Screen::Standing(panel.made()?);
            }
        }
        Ok(wall)
    }

    /// Roughly how many bytes this holds.
    pub(super) fn size(&self) -> usize {
        let text = |kept: &Kept| kept.text.as_ref().map_or(0, |text| text.len());
        self.panels.iter().map(|kept| size_of::<Kept>() + text(kept)).sum()
    }
}

impl Deref for Shown<'_> {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        match self {
            Self::Standing(terminal) => terminal,
            Self::Again(terminal) => terminal,
        }
    }
}

/// Cells of the terminals that stand: ten of the largest, about 130 MB.
const MOST_CELLS: usize = 4_000_000;
/// Bytes of all that was put away.
const MOST_AWAY: usize = 8 * 1024 * 1024;
/// Terminals of which anything is known.
pub(crate) const MOST_PANELS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: (usize, usize) = (1_000, 400);

    fn text(wall: &Wall, number: u32) -> String {
        wall.shown(number).unwrap().screen().text().join("\n").trim_end().to_owned()
    }

    #[test]
    fn the_largest_terminals_without_end_stand_in_bounded_memory() {
        let mut wall = Wall::default();
        for number in 0..40 {
            wall.open(number, LARGEST);
            assert!(wall.print(number, &format!("of {number}")).unwrap() > 0);
            assert_eq!(wall.print(number, ".").unwrap(), 0, "it stands already");
        }
        assert_eq!((wall.numbers().len(), wall.standing().count()), (40, 10));
        assert_eq!((text(&wall, 0).as_str(), text(&wall, 39).as_str()), ("of 0.", "of 39."));
        wall.print(0, "!").unwrap();
        assert_eq!((text(&wall, 0).as_str(), wall.standing().count()), ("of 0.!", 10));
        let restored = wall.store().restore().unwrap();
        assert_eq!((text(&restored, 0).as_str(), restored.standing().count()), ("of 0.!", 10));
        assert_eq!(text(&restored, 5), "of 5.");
    }

    #[test]
    fn what_was_put_away_is_bounded_and_the_oldest_is_forgotten() {
        let mut wall = Wall::default();
        for number in 0..60 {
            wall.open(number, LARGEST);
            // Nothing repeats, so that nothing can be told more shortly.
            let full: String = (0..400_000_u32).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())).collect();
            wall.print(number, &full).unwrap();
        }
        assert!(wall.panels.values().map(Panel::away).sum::<usize>() <= MOST_AWAY);
        assert!(!wall.has(0) && wall.has(59) && wall.numbers().len() > 20, "{}", wall.numbers().len());
        assert!(wall.store().size() < MOST_AWAY + 11 * 500_000);
    }

    #[test]
    fn terminals_that_print_nothing_cost_nothing() {
        let mut wall = Wall::default();
        for number in 0..20_000 {
            wall.open(number, LARGEST);
        }
        assert_eq!((wall.numbers().len(), wall.standing().count()), (MOST_PANELS, 0));
        wall.resize(19_999, (20, 3)).unwrap();
        assert_eq!(wall.shown(19_999).unwrap().size(), (20, 3));
    }
}
