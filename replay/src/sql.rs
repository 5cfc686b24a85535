//! A database session as SQL: each statement that ran, with what came of it in comments.
//!
//! What failed, was refused, was cut or moved copied data is a comment as a whole, so that the rest can be run again as it
//! is. Bound values stand in comments before their statement.

use std::io::Write;
use std::time::Duration;

use sallyport_recorder::read::{Entry, Item, RecordingReader};
use sallyport_recorder::{Event, Sql, Statement, StreamId};

use crate::{Failure, clock, harmless, statement};

/// Writes all statements of a recording.
///
/// # Errors
/// When the recording cannot be read, or the output cannot be written to.
pub fn write(reader: &RecordingReader, out: &mut impl Write) -> Result<(), Failure> {
    let header = &reader.manifest().header;
    comment(out, &format!("session {}, {:.0}", header.id, header.started))?;
    for entry in reader.entries_of(&[StreamId::Timeline], 0) {
        let Entry { at_ms, item } = entry?;
        let Item::Event(event) = item else { continue };
        let at = clock::exact(Duration::from_millis(at_ms));
        match event {
            Event::DatabaseSession(session) => {
                comment(out, &format!("{at} {} in {}", session.role, session.database))?;
            }
            Event::Statement(one) => ran(&at, &one, out)?,
            Event::StatementRefused { sql, why, .. } => {
                comment(out, &format!("{at} REFUSED: {why}"))?;
                commented(out, &sql)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn ran(at: &str, one: &Statement, out: &mut impl Write) -> Result<(), Failure> {
    comment(out, &format!("{at} {}", statement::result(one)))?;
    for (number, parameter) in one.parameters.iter().enumerate() {
        let kind = if parameter.kind.is_empty() { String::new() } else { format!(" ({})", parameter.kind) };
        comment(out, &format!("  ${} = {}{kind}", number + 1, statement::value(parameter)))?;
    }
    let whole = one.sql.length.is_none() && !one.sql.text.trim().is_empty();
    let can_run = whole && one.error.is_none() && !one.unfinished && one.copy.is_none();
    if !can_run {
        return commented(out, &one.sql);
    }
    let text = one.sql.text.trim_end().trim_end_matches(';');
    for line in text.lines() {
        writeln!(out, "{}", shown(line))?;
    }
    // A comment at the end of the text must not swallow the semicolon.
    writeln!(out, ";")?;
    Ok(())
}

/// A statement that is not to be run again.
fn commented(out: &mut impl Write, sql: &Sql) -> Result<(), Failure> {
    for line in sql.text.lines() {
        comment(out, line)?;
    }
    if let Some(length) = sql.length {
        let hash = sql.sha256.as_ref().map_or(String::new(), |hash| format!(", SHA-256 {hash}"));
        comment(out, &format!("… {length} bytes in all{hash}"))?;
    }
    Ok(())
}

fn comment(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    Ok(writeln!(out, "-- {}", shown(text))?)
}

/// Harmless, but with its tabs.
fn shown(line: &str) -> String {
    line.split('\t').map(harmless::line).collect::<Vec<_>>().join("\t")
}
