//! The live view as lines: for a pipe, as text; for programs, as JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use avt::Terminal;

use super::{Left, Live, Seen, Word};
use crate::moment::{Change, Moment, Stream};
use crate::text::Lines;
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
    terminals: BTreeMap<u32, (Terminal, Transcript)>,
    commands: BTreeMap<(u32, Stream), Lines>,
}

impl Writer {
    fn write(&mut self, moment: Moment, out: &mut impl Write) -> Result<(), Failure> {
        match moment.change {
            Change::Noted(text) => writeln!(out, "{:>9}  {}", clock::exact(moment.at), harmless::line(&text))?,
            Change::Wrote { channel, stream, bytes } => {
                let mut ready = Vec::new();
                let lines = self.commands.entry((channel, stream)).or_default();
                lines.feed(&bytes, |line| ready.push(player::output_line(channel, stream, line)));
                for line in ready {
                    writeln!(out, "{:>9}  {line}", clock::exact(moment.at))?;
                }
            }
            Change::Opened { terminal, columns, rows } => {
                let (columns, rows) = player::size(columns, rows);
                let blank = Terminal::new(columns, rows).map_err(|error| Failure::Terminal(error.to_string()))?;
                self.terminals.insert(terminal, (blank, Transcript::default()));
            }
            Change::Printed { terminal, text } => {
                if let Some((screen, transcript)) = self.terminals.get_mut(&terminal) {
                    screen.feed_with(text.as_str(), &mut *transcript);
                    scrolled(moment.at, terminal, &transcript.take(), out)?;
                }
            }
            Change::Resized { terminal, columns, rows } => {
                let (columns, rows) = player::size(columns, rows);
                if let Some((screen, transcript)) = self.terminals.get_mut(&terminal) {
                    screen.resize_with(columns, rows, &mut *transcript);
                    scrolled(moment.at, terminal, &transcript.take(), out)?;
                }
            }
        }
        Ok(())
    }

    /// What stood on the screens at the end, and lines without an end.
    fn finish(self, out: &mut impl Write) -> Result<(), Failure> {
        for ((channel, stream), lines) in self.commands {
            if let Some(line) = lines.finish() {
                writeln!(out, "{:>9}  {}", "", player::output_line(channel, stream, &line))?;
            }
        }
        for (number, (screen, transcript)) in self.terminals {
            for line in transcript.finish(&screen).lines() {
                writeln!(out, "{:>9}  terminal {number} │ {line}", "")?;
            }
        }
        Ok(())
    }
}

fn scrolled(at: Duration, terminal: u32, text: &str, out: &mut impl Write) -> Result<(), Failure> {
    for line in text.lines() {
        writeln!(out, "{:>9}  terminal {terminal} │ {line}", clock::exact(at))?;
    }
    Ok(())
}

/// How often the recording is looked at.
const LOOK: Duration = Duration::from_millis(20);
