//! The live view as lines: for a pipe, as text; for programs, as JSON.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::time::{Duration, Instant};

use avt::Terminal;

use super::{Left, Live, Seen, Word};
use crate::moment::{Change, Moment};
use crate::output::Begun;
use crate::player::{MOST_PANELS, Standing, one_too_many};
use crate::transcript::Transcript;
use crate::{Failure, clock, export, harmless, json, player, reel};

/// Writes each thing that was recorded as a line of JSON, from the beginning on, and goes on until the session ends.
///
/// # Errors
/// When the recording cannot be read, or the output cannot be written to.
pub fn json(live: &mut Live, out: &mut impl Write, word: impl Fn() -> Word) -> Result<Left, Failure> {
    let started = live.manifest.header.started;
    each(live, word, out, |seen, out| match seen {
        Seen::Entry(entry) => export::json_line(started, entry, out),
        Seen::Damage(damage) => {
            json::write(out, &serde_json::json!({ "type": "damage", "why": damage }))?;
            Ok(out.write_all(b"\n")?)
        }
    })
}

/// Writes events, the output of commands and what scrolls off terminals as lines, until the session ends.
///
/// # Errors
/// When the recording cannot be read, or the output cannot be written to.
pub fn text(live: &mut Live, out: &mut impl Write, word: impl Fn() -> Word) -> Result<Left, Failure> {
    let mut writer = Writer::default();
    let left = each(live, word, out, |seen, out| match seen {
        Seen::Entry(entry) => writer.write(reel::moment(entry), out),
        Seen::Damage(damage) => Ok(writeln!(out, "{}", harmless::line(&damage))?),
    })?;
    writer.finish(out)?;
    out.flush()?;
    Ok(left)
}

/// Hands on everything that is seen, until the session ends. What was written is flushed whenever nothing is new.
fn each<W: Write>(
    live: &mut Live,
    word: impl Fn() -> Word,
    out: &mut W,
    mut write: impl FnMut(Seen, &mut W) -> Result<(), Failure>,
) -> Result<Left, Failure> {
    let mut moved = Instant::now();
    loop {
        while let Some(seen) = live.next()? {
            moved = Instant::now();
            write(seen, out)?;
        }
        out.flush()?;
        if let Some(left) = live.left(&word(), moved.elapsed()) {
            return Ok(left);
        }
        std::thread::sleep(LOOK);
    }
}

/// Turns moments into lines.
#[derive(Default)]
struct Writer {
    sizes: BTreeMap<u32, (usize, usize)>,
    terminals: BTreeMap<u32, Written>,
    begun: Begun,
    turn: u64,
}

/// A terminal that has printed.
struct Written {
    screen: Terminal,
    transcript: Transcript,
    /// The turn in which it printed last.
    last: u64,
}

impl Writer {
    fn write(&mut self, moment: Moment, out: &mut impl Write) -> Result<(), Failure> {
        match moment.change {
            Change::Noted(text) => writeln!(out, "{:>9}  {}", clock::exact(moment.at), harmless::line(&text))?,
            Change::Wrote { channel, stream, bytes } => {
                let mut ready = Vec::new();
                self.begun.feed(channel, stream, &bytes, |line| ready.push(line.to_owned()));
                for line in ready {
                    writeln!(out, "{:>9}  {line}", clock::exact(moment.at))?;
                }
            }
            Change::Opened { terminal, columns, rows } => {
                self.sizes.insert(terminal, player::size(columns, rows));
                while self.sizes.len() > MOST_PANELS {
                    self.sizes.pop_first();
                }
            }
            Change::Printed { terminal, text } => {
                if let Some(Written { screen, transcript, .. }) = self.written(terminal)? {
                    screen.feed_with(text.as_str(), &mut *transcript);
                    of_terminal(&clock::exact(moment.at), terminal, &transcript.take(), out)?;
                }
                self.make_room(terminal, out)?;
            }
            Change::Resized { terminal, columns, rows } => {
                let (columns, rows) = player::size(columns, rows);
                if let Some(size) = self.sizes.get_mut(&terminal) {
                    *size = (columns, rows);
                }
                if let Some(Written { screen, transcript, .. }) = self.terminals.get_mut(&terminal) {
                    screen.resize_with(columns, rows, &mut *transcript);
                    of_terminal(&clock::exact(moment.at), terminal, &transcript.take(), out)?;
                }
                self.make_room(terminal, out)?;
            }
        }
        Ok(())
    }

    /// A terminal to print on, made when it first does.
    fn written(&mut self, number: u32) -> Result<Option<&mut Written>, Failure> {
        self.turn += 1;
        let Some((columns, rows)) = self.sizes.get(&number) else { return Ok(None) };
        let written = match self.terminals.entry(number) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let screen = Terminal::new(*columns, *rows).map_err(|error| Failure::Terminal(error.to_string()))?;
                place.insert(Written { screen, transcript: Transcript::default(), last: 0 })
            }
        };
        written.last = self.turn;
        Ok(Some(written))
    }

    /// Writes out the screens that printed longest ago, but not `kept`, until the rest is small enough.
    fn make_room(&mut self, kept: u32, out: &mut impl Write) -> Result<(), Failure> {
        while let Some(oldest) = one_too_many(self.terminals.iter().map(Written::standing), kept) {
            if let Some(written) = self.terminals.remove(&oldest) {
                written.finish(oldest, out)?;
            }
        }
        Ok(())
    }

    /// What stood on the screens at the end, and lines without an end.
    fn finish(self, out: &mut impl Write) -> Result<(), Failure> {
        for line in self.begun.finish() {
            writeln!(out, "{:>9}  {line}", "")?;
        }
        self.terminals.into_iter().try_for_each(|(number, written)| written.finish(number, out))
    }
}

impl Written {
    fn standing((number, written): (&u32, &Self)) -> Standing {
        let (columns, rows) = written.screen.size();
        Standing { number: *number, cells: columns * rows, last: written.last }
    }

    /// What stands on the screen.
    fn finish(self, number: u32, out: &mut impl Write) -> Result<(), Failure> {
        of_terminal("", number, &self.transcript.finish(&self.screen), out)
    }
}

/// Lines of a terminal, with the time where one belongs to them.
fn of_terminal(time: &str, number: u32, text: &str, out: &mut impl Write) -> Result<(), Failure> {
    for line in text.lines() {
        writeln!(out, "{time:>9}  terminal {number} │ {line}")?;
    }
    Ok(())
}

/// How often the recording is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_terminals_without_end_are_written_out_in_time() {
        let (mut writer, mut out) = (Writer::default(), Vec::new());
        for terminal in 0..40 {
            let opened = Change::Opened { terminal, columns: 1_000, rows: 400 };
            let printed = Change::Printed { terminal, text: format!("of {terminal}") };
            for change in [opened, printed] {
                writer.write(Moment { at: Duration::ZERO, change }, &mut out).unwrap();
            }
        }
        assert_eq!(writer.terminals.len(), 10);
        writer.finish(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!((0..40).all(|number| text.contains(&format!("terminal {number} │ of {number}\n"))), "{text}");
    }
}
