//! Draws what the player shows on the viewer's terminal, cell by cell.
//!
//! INVARIANT: nothing that a target printed is written to the viewer's terminal as it came. The recorded terminal is a
//! virtual one (avt); only its cells are drawn, through [`harmless`], with styles that we spell ourselves.

use std::io::{self, Write};

use avt::{Cell, Line, Pen, Terminal};
use crossterm::style::{Attribute, Attributes, Color, ContentStyle, PrintStyledContent, ResetColor, SetAttribute};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::{cursor, queue};

use super::{Player, Stage, Status, View};
use crate::harmless;
use crate::moment::Source;

/// A picture of the whole window, status line included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    rows: Vec<Row>,
    cursor: Option<(u16, u16)>,
}

type Row = Vec<Span>;

/// A run of characters in one style.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    style: ContentStyle,
    text: String,
}

/// The part of a recorded terminal that fits into the window.
struct Part {
    left: usize,
    top: usize,
    columns: usize,
    rows: usize,
}

impl Frame {
    /// The picture of a player in a window of so many columns and rows.
    #[must_use]
    pub fn of<S: Source>(player: &Player<S>, title: &str, help: bool, size: (u16, u16)) -> Self {
        Self::of_stage(player.stage(), player.view(), size, |note, columns| match help {
            true => Status::help(columns),
            false => player.status().line(title, note, columns),
        })
    }

    /// The picture of a stage in a window of so many columns and rows. `status` makes the last line, of a note about what
    /// is shown and the columns.
    pub(crate) fn of_stage(
        stage: &Stage,
        view: View,
        (columns, rows): (u16, u16),
        status: impl FnOnce(&str, usize) -> String,
    ) -> Self {
        let (columns, height) = (usize::from(columns), usize::from(rows.saturating_sub(1)));
        let (mut frame, note) = match view {
            View::Terminal(id) => match stage.terminal(id) {
                Some(terminal) => Self::of_terminal(&terminal, columns, height),
                None => Default::default(),
            },
            View::Timeline => (Self::of_timeline(stage, columns, height), String::new()),
        };
        frame.rows.resize(height, Row::new());
        let text = status(&note, columns);
        let attributes = Attributes::none().with(Attribute::Reverse);
        frame.rows.push(vec![Span { style: ContentStyle { attributes, ..ContentStyle::default() }, text }]);
        frame
    }

    fn of_terminal(terminal: &Terminal, columns: usize, height: usize) -> (Self, String) {
        let part = Part::of(terminal, columns, height);
        let lines = terminal.screen().visible_lines().skip(part.top).take(part.rows);
        let rows = lines.map(|line| row(line, part.left, part.columns)).collect();
        let cursor = terminal.cursor().position().and_then(|(column, row)| {
            let (column, row) = (column.checked_sub(part.left)?, row.checked_sub(part.top)?);
            let seen = column < part.columns && row < part.rows;
            if seen { Some((u16::try_from(column).ok()?, u16::try_from(row).ok()?)) } else { None }
        });
        (Self { rows, cursor }, part.note(terminal.size()))
    }

    fn of_timeline(stage: &Stage, columns: usize, height: usize) -> Self {
        let lines = stage.timeline();
        let skipped = lines.len().saturating_sub(height);
        let span =
            |line: &str| Span { style: ContentStyle::default(), text: harmless::clip(line, columns).into_owned() };
        Self { rows: lines.skip(skipped).map(|line| vec![span(line)]).collect(), cursor: None }
    }

    /// Writes what differs from the picture that stands there now.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn draw(&self, standing: Option<&Self>, out: &mut impl Write) -> io::Result<()> {
        if standing == Some(self) {
            return Ok(());
        }
        queue!(out, BeginSynchronizedUpdate, cursor::Hide)?;
        if standing.is_none_or(|standing| standing.rows.len() != self.rows.len()) {
            queue!(out, ResetColor, SetAttribute(Attribute::Reset), Clear(ClearType::All))?;
        }
        for (number, row) in self.rows.iter().enumerate() {
            if standing.is_some_and(|standing| standing.rows.get(number) == Some(row)) {
                continue;
            }
            let Ok(number) = u16::try_from(number) else { break };
            // Cleared before, not after: behind a character in the last column some terminals clear that character.
            queue!(out, cursor::MoveTo(0, number), SetAttribute(Attribute::Reset), Clear(ClearType::CurrentLine))?;
            for span in row {
                queue!(out, SetAttribute(Attribute::Reset), PrintStyledContent(span.style.apply(span.text.as_str())))?;
            }
        }
        queue!(out, SetAttribute(Attribute::Reset))?;
        if let Some((column, row)) = self.cursor {
            queue!(out, cursor::MoveTo(column, row), cursor::Show)?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Part {
    /// A larger terminal is shown where its cursor is, for that is where something happens.
    fn of(terminal: &Terminal, columns: usize, height: usize) -> Self {
        let (width, rows) = terminal.size();
        let cursor = terminal.cursor();
        let fit = |size: usize, at: usize, room: usize| (at + 1).saturating_sub(room).min(size.saturating_sub(room));
        Self {
            left: fit(width, cursor.col, columns),
            top: fit(rows, cursor.row, height),
            columns: columns.min(width),
            rows: height.min(rows),
        }
    }

    /// Says so in the status line if this is not the whole.
    fn note(&self, (columns, rows): (usize, usize)) -> String {
        if (self.columns, self.rows) == (columns, rows) {
            return String::new();
        }
        format!(" {}×{} of {columns}×{rows}", self.columns, self.rows)
    }
}

fn row(line: &Line, left: usize, columns: usize) -> Row {
    let mut row = Row::new();
    let mut room = columns;
    for (number, cell) in line.cells().iter().skip(left).enumerate() {
        if room == 0 {
            break;
        }
        let style = style(cell.pen());
        let Some(span) = (match row.last_mut() {
            Some(span) if span.style == style => Some(span),
            _ => {
                row.push(Span { style, text: String::new() });
                row.last_mut()
            }
        }) else {
            break;
        };
        room -= put(cell, number == 0, room, &mut span.text);
    }
    row
}

/// Puts one cell into a row and tells the columns that it took there.
fn put(cell: &Cell, first: bool, room: usize, text: &mut String) -> usize {
    match usize::from(cell.width()) {
        // The right half of a wide character, whose left half is outside of the window.
        0 if first => {
            text.push(' ');
            1
        }
        0 => 0,
        wide if wide > room => {
            text.push(' ');
            1
        }
        wide => {
            let shown = harmless::character(cell.char());
            text.push(shown);
            // What takes no column joins the character before it, and its own cell stays empty.
            text.extend(std::iter::repeat_n(' ', wide.saturating_sub(harmless::width(shown))));
            wide
        }
    }
}

fn style(pen: &Pen) -> ContentStyle {
    let attributes = [
        (pen.is_bold(), Attribute::Bold),
        (pen.is_faint(), Attribute::Dim),
        (pen.is_italic(), Attribute::Italic),
        (pen.is_underline(), Attribute::Underlined),
        (pen.is_strikethrough(), Attribute::CrossedOut),
        (pen.is_blink(), Attribute::SlowBlink),
        (pen.is_inverse(), Attribute::Reverse),
    ];
    let set = attributes.into_iter().filter(|(set, _)| *set);
    ContentStyle {
        foreground_color: pen.foreground().map(color),
        background_color: pen.background().map(color),
        underline_color: None,
        attributes: set.fold(Attributes::none(), |all, (_, attribute)| all.with(attribute)),
    }
}

fn color(color: avt::Color) -> Color {
    match color {
        avt::Color::Indexed(index) => Color::AnsiValue(index),
        avt::Color::RGB(avt::Rgb { r, g, b }) => Color::Rgb { r, g, b },
    }
}
