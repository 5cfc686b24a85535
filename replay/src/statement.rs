//! A database statement for a person: in a line, and what came of it.

use std::time::Duration;

use sallyport_recorder::{Parameter, RunBy, Statement};

use crate::show::{bytes, counted};

/// `SELECT * FROM orders WHERE id = $1 [7] → SELECT 1, 1 row, 1.2 ms`. What came from outside is in it as it came.
#[must_use]
pub fn sentence(one: &Statement) -> String {
    let values: Vec<String> = one.parameters.iter().map(value).collect();
    let more = if one.more_parameters > 0 { ", …" } else { "" };
    let values = if values.is_empty() { String::new() } else { format!(" [{}{more}]", values.join(", ")) };
    format!("{}{values} → {}", flat(one), result(one))
}

/// What came of it: the tag or the error, then rows, copied data and time.
#[must_use]
pub fn result(one: &Statement) -> String {
    let mut parts = Vec::new();
    match &one.error {
        Some(error) => parts.push(error.to_string()),
        None if one.unfinished && one.by == RunBy::Parse => parts.push("PREPARED".to_owned()),
        None if one.unfinished => parts.push("NOT FINISHED".to_owned()),
        None if one.suspended => parts.push("suspended".to_owned()),
        None => parts.push(one.tag.clone()),
    }
    match one.rows {
        0 => {}
        rows => parts.push(format!("{} ({})", counted(rows, "row"), bytes(one.bytes))),
    }
    if let Some(copied) = &one.copy {
        if copied.bytes_in > 0 || copied.messages_in > 0 {
            parts.push(format!("{} copied in", bytes(copied.bytes_in)));
        }
        if copied.bytes_out > 0 || copied.messages_out > 0 {
            parts.push(format!("{} copied out", bytes(copied.bytes_out)));
        }
    }
    parts.push(took(Duration::from_micros(one.duration_us)));
    parts.join(", ")
}

/// A bound value as it stands in a list.
#[must_use]
pub fn value(parameter: &Parameter) -> String {
    match (&parameter.value, parameter.bytes) {
        (Some(value), None) => format!("{value:?}"),
        (Some(value), Some(length)) => format!("{value:?}… {length} bytes"),
        (None, Some(length)) => format!("({length} bytes, not recorded)"),
        (None, None) => "NULL".to_owned(),
    }
}

/// The text on one line, blanks drawn together.
fn flat(one: &Statement) -> String {
    let text = one.sql.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = if one.sql.length.is_some() { " …" } else { "" };
    match (text.is_empty(), one.portal.is_empty()) {
        (false, _) => format!("{text}{cut}"),
        (true, false) => format!("portal {}", one.portal),
        (true, true) if one.statement.is_empty() => "(a statement that is not known)".to_owned(),
        (true, true) => format!("statement {}", one.statement),
    }
}

/// `0.3 ms`, `1.25 s`.
fn took(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{:.1} ms", time.as_secs_f64() * 1e3);
    }
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use sallyport_recorder::{Copied, DatabaseError, Sql};

    use super::*;

    #[test]
    fn says_what_was_run_and_what_came_of_it() {
        let sql = |text: &str| Sql { text: text.into(), ..Sql::default() };
        let read = Statement {
            sql: sql("SELECT *\n  FROM t WHERE id = $1"),
            parameters: vec![
                Parameter { kind: "int4".into(), value: Some("7".into()), bytes: None },
                Parameter::default(),
                Parameter { bytes: Some(9), ..Parameter::default() },
            ],
            rows: 3,
            bytes: 1_200,
            tag: "SELECT 3".into(),
            duration_us: 1_250,
            ..Statement::default()
        };
        let error = DatabaseError { severity: "ERROR".into(), sqlstate: "42P01".into(), message: "no table".into() };
        let failed = Statement { sql: sql("DROP TABLE x"), error: Some(error), ..Statement::default() };
        let copied = Statement {
            sql: sql("COPY t FROM STDIN"),
            copy: Some(Copied { messages_in: 2, bytes_in: 52_400_000, ..Copied::default() }),
            tag: "COPY 9".into(),
            duration_us: 2_000_000,
            ..Statement::default()
        };
        let lost = Statement { portal: "c1".into(), unfinished: true, ..Statement::default() };
        let prepared =
            Statement { sql: sql("DELETE FROM t"), by: RunBy::Parse, unfinished: true, ..Statement::default() };
        for (one, expected) in [
            (
                read,
                "SELECT * FROM t WHERE id = $1 [\"7\", NULL, (9 bytes, not recorded)] → SELECT 3, 3 rows (1.2 kB), 1.2 ms",
            ),
            (failed, "DROP TABLE x → ERROR 42P01: no table, 0.0 ms"),
            (copied, "COPY t FROM STDIN → COPY 9, 52.4 MB copied in, 2.00 s"),
            (prepared, "DELETE FROM t → PREPARED, 0.0 ms"),
            (lost, "portal c1 → NOT FINISHED, 0.0 ms"),
        ] {
            assert_eq!(sentence(&one), expected);
        }
    }
}
