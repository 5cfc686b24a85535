//! A recording as something that other programs read: an asciicast, text, or JSON lines.
//!
//! All of them read the recording once from front to back in flat memory, and none writes a byte that acts on a terminal.

use std::io::{self, Write};
use std::time::Duration;

use avt::Terminal;
use jiff::Timestamp;
use sallyport_recorder::read::{Entry, Item, RecordingReader};
use sallyport_recorder::{OutputStream, StreamId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::moment::{Change, Source};
use crate::output::Begun;
use crate::player::{Options, Player};
use crate::reel::Reel;
use crate::text::Lines;
use crate::transcript::Transcript;
use crate::{Failure, clock, harmless, json, sql};

/// What to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// asciicast v2, for asciinema.
    Cast,
    /// What stood on the terminal, as text.
    Text,
    /// Everything, one JSON object a line, each with its absolute time.
    JsonLines,
    /// The statements of a database session, as SQL.
    Sql,
}

/// Writes a recording in this format; `terminal` chooses one where there are several.
///
/// # Errors
/// When the recording cannot be read, has no such terminal, or the output cannot be written to.
pub fn export(reel: &Reel, format: Format, terminal: Option<u32>, out: &mut impl Write) -> Result<(), Failure> {
    match format {
        Format::Cast => cast(reel.reader(), terminal, out),
        Format::Text => text(reel, terminal, out),
        Format::JsonLines => json_lines(reel.reader(), terminal, out),
        Format::Sql => sql::write(reel.reader(), out),
    }?;
    Ok(out.flush()?)
}

/// What a replay writes where there is no terminal to play on: the text of the terminals, or the timeline of a session
/// without any.
///
/// # Errors
/// When the recording cannot be read, or the output cannot be written to.
pub fn plain(reel: &Reel, out: &mut impl Write) -> Result<(), Failure> {
    if reel.has_terminal() {
        text(reel, None, out)?
    } else {
        timeline(reel, out)?
    }
    Ok(out.flush()?)
}

/// What stood on the terminals at a moment, or in the timeline of a session without any.
///
/// # Errors
/// When the recording cannot be read, or the output cannot be written to.
pub fn at(reel: &Reel, at: Duration, out: &mut impl Write) -> Result<(), Failure> {
    let mut player = Player::new(reel, Options { at: Some(at), ..Options::default() }, Duration::ZERO)?;
    while player.status().seeking.is_some() {
        player.tick(Duration::ZERO)?;
    }
    let terminals: Vec<u32> = player.stage().terminals().collect();
    for number in &terminals {
        if terminals.len() > 1 {
            writeln!(out, "── terminal {number} ──")?;
        }
        let Some(terminal) = player.stage().terminal(*number) else { continue };
        for line in terminal.screen().text() {
            writeln!(out, "{}", harmless::line(&line))?;
        }
    }
    if terminals.is_empty() {
        for line in player.stage().timeline() {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

fn cast(reader: &RecordingReader, terminal: Option<u32>, out: &mut impl Write) -> Result<(), Failure> {
    let terminal = match (terminal, terminals(reader).as_slice()) {
        (Some(number), _) => number,
        (None, [only]) => *only,
        (None, []) => return Err(Failure::NoTerminal),
        (None, several) => return Err(Failure::SeveralTerminals(several.len())),
    };
    let mut opened_ms = 0;
    for entry in entries_of_terminal(reader, terminal)? {
        let Entry { at_ms, item } = entry?;
        let at = Duration::from_millis(at_ms.saturating_sub(opened_ms)).as_secs_f64();
        match item {
            Item::TerminalStart { header, .. } => {
                opened_ms = header.session_offset_us / 1000;
                json::write(out, &*header)?;
            }
            Item::TerminalOutput { text, .. } => json::write(out, &(at, "o", text))?,
            Item::Resize { width, height, .. } => json::write(out, &(at, "r", format!("{width}x{height}")))?,
            Item::Event(_) | Item::Output { .. } => continue,
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn text(reel: &Reel, terminal: Option<u32>, out: &mut impl Write) -> Result<(), Failure> {
    let reader = reel.reader();
    let terminals = terminal.map_or_else(|| terminals(reader), |number| vec![number]);
    for number in &terminals {
        if terminals.len() > 1 {
            writeln!(out, "── terminal {number} ──")?;
        }
        terminal_text(reader, *number, out)?;
    }
    if terminal.is_none() {
        let channels = channels(reader);
        for channel in &channels {
            if terminals.len() + channels.len() > 1 {
                writeln!(out, "── channel {channel} ──")?;
            }
            channel_text(reader, *channel, out)?;
        }
    }
    Ok(())
}

fn terminal_text(reader: &RecordingReader, number: u32, out: &mut impl Write) -> Result<(), Failure> {
    let mut shown: Option<(Terminal, Transcript)> = None;
    for entry in entries_of_terminal(reader, number)? {
        match (entry?.item, &mut shown) {
            (Item::TerminalStart { header, .. }, None) => {
                let (columns, rows) = crate::player::size(header.width, header.height);
                let terminal = Terminal::new(columns, rows).map_err(|error| Failure::Terminal(error.to_string()))?;
                shown = Some((terminal, Transcript::default()));
            }
            (Item::TerminalOutput { text, .. }, Some((terminal, transcript))) => {
                terminal.feed_with(text.as_str(), &mut *transcript);
                out.write_all(transcript.take().as_bytes())?;
            }
            (Item::Resize { width, height, .. }, Some((terminal, transcript))) => {
                let (columns, rows) = crate::player::size(width, height);
                terminal.resize_with(columns, rows, &mut *transcript);
            }
            _ => {}
        }
    }
    if let Some((terminal, transcript)) = shown {
        out.write_all(transcript.finish(&terminal).as_bytes())?;
    }
    Ok(())
}

fn channel_text(reader: &RecordingReader, channel: u32, out: &mut impl Write) -> Result<(), Failure> {
    let streams = [StreamId::Stdout(channel), StreamId::Stderr(channel)];
    let present: Vec<StreamId> = streams.into_iter().filter(|stream| has(reader, *stream)).collect();
    let (mut stdout, mut stderr) = (Lines::default(), Lines::default());
    for entry in reader.entries_of(&present, 0) {
        if let Item::Output { stream, bytes, .. } = entry?.item {
            let lines = if stream == OutputStream::Stdout { &mut stdout } else { &mut stderr };
            let mut ready = String::new();
            lines.feed(&bytes, |line| push_line(&mut ready, line));
            out.write_all(ready.as_bytes())?;
        }
    }
    for rest in [stdout.finish(), stderr.finish()].into_iter().flatten() {
        let mut ready = String::new();
        push_line(&mut ready, &rest);
        out.write_all(ready.as_bytes())?;
    }
    Ok(())
}

/// A command's line, harmless but with its tabs: they are plain text, and columns are lost without them.
fn push_line(ready: &mut String, line: &str) {
    for (number, part) in line.split('\t').enumerate() {
        if number > 0 {
            ready.push('\t');
        }
        ready.push_str(&harmless::line(part));
    }
    ready.push('\n');
}

fn timeline(reel: &Reel, out: &mut impl Write) -> Result<(), Failure> {
    let mut begun = Begun::default();
    for moment in reel.moments(Duration::ZERO)? {
        let moment = moment?;
        let mut ready = Vec::new();
        match moment.change {
            Change::Noted(text) => ready.push(harmless::line(&text).into_owned()),
            Change::Wrote { channel, stream, bytes } => {
                begun.feed(channel, stream, &bytes, |line| ready.push(line.to_owned()));
            }
            Change::Opened { .. } | Change::Printed { .. } | Change::Resized { .. } => {}
        }
        for line in ready {
            writeln!(out, "{:>9}  {line}", clock::exact(moment.at))?;
        }
    }
    for line in begun.finish() {
        writeln!(out, "{:>9}  {line}", "")?;
    }
    Ok(())
}

fn json_lines(reader: &RecordingReader, terminal: Option<u32>, out: &mut impl Write) -> Result<(), Failure> {
    let started = reader.manifest().header.started;
    let entries = match terminal {
        Some(number) => entries_of_terminal(reader, number)?,
        None => reader.entries(),
    };
    for entry in entries {
        json_line(started, entry?, out)?;
    }
    Ok(())
}

/// Writes one entry of a session that began at `started` as a line of JSON.
pub(crate) fn json_line(started: Timestamp, entry: Entry, out: &mut impl Write) -> Result<(), Failure> {
    let Entry { at_ms, item } = entry;
    let time = started.checked_add(Duration::from_millis(at_ms)).unwrap_or(Timestamp::MAX);
    json::write(out, &JsonLine { time, at_ms, item: described(item)? })?;
    Ok(out.write_all(b"\n")?)
}

#[derive(Serialize)]
struct JsonLine {
    time: Timestamp,
    at_ms: u64,
    #[serde(flatten)]
    item: Value,
}

fn described(item: Item) -> Result<Value, Failure> {
    Ok(match item {
        Item::Event(event) => serde_json::to_value(event).map_err(io::Error::from)?,
        Item::TerminalStart { terminal, header } => {
            json!({ "type": "terminal_start", "terminal": terminal, "header": header })
        }
        Item::TerminalOutput { terminal, text } => {
            json!({ "type": "terminal_output", "terminal": terminal, "text": text })
        }
        Item::Resize { terminal, width, height } => {
            json!({ "type": "terminal_resize", "terminal": terminal, "width": width, "height": height })
        }
        Item::Output { channel, stream, bytes } => {
            let stream = if stream == OutputStream::Stdout { "stdout" } else { "stderr" };
            match std::str::from_utf8(&bytes) {
                Ok(text) => json!({ "type": "output", "channel": channel, "stream": stream, "text": text }),
                Err(_) => {
                    let data = data_encoding::BASE64.encode(&bytes);
                    json!({ "type": "output", "channel": channel, "stream": stream, "base64": data })
                }
            }
        }
    })
}

/// Whether a stream has a file; there may be thousands, and they are in order.
fn has(reader: &RecordingReader, stream: StreamId) -> bool {
    reader.streams().binary_search(&stream).is_ok()
}

fn terminals(reader: &RecordingReader) -> Vec<u32> {
    let number = |stream: &StreamId| if let StreamId::Terminal(number) = stream { Some(*number) } else { None };
    reader.streams().iter().filter_map(number).collect()
}

fn channels(reader: &RecordingReader) -> Vec<u32> {
    let number = |stream: &StreamId| match stream {
        StreamId::Stdout(number) | StreamId::Stderr(number) => Some(*number),
        StreamId::Timeline | StreamId::Terminal(_) => None,
    };
    let numbers: std::collections::BTreeSet<u32> = reader.streams().iter().filter_map(number).collect();
    numbers.into_iter().collect()
}

fn entries_of_terminal(reader: &RecordingReader, number: u32) -> Result<sallyport_recorder::read::Entries, Failure> {
    let stream = StreamId::Terminal(number);
    if !has(reader, stream) {
        return Err(Failure::UnknownTerminal { number, have: terminals(reader).len() });
    }
    Ok(reader.entries_of(&[stream], 0))
}
