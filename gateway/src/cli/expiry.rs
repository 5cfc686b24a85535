//! Times as people give them: `90d`, `12h`, a date, a time, `never`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::BadInput;

/// A time from `now` on, such as `90d` or `6months`, or a time itself.
pub(super) fn after(text: &str, now: Timestamp) -> Result<Timestamp, BadInput> {
    shifted(text, now, false)
}

/// A time before `now`, such as `2h` or `1week`, or a time itself.
pub(super) fn before(text: &str, now: Timestamp) -> Result<Timestamp, BadInput> {
    shifted(text, now, true)
}

fn shifted(text: &str, now: Timestamp, back: bool) -> Result<Timestamp, BadInput> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let wrong = || BadInput(format!("{text:?} is no time: write 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z"));
    // Before spans: "2027-01-31" must not be taken for anything else.
    if let Ok(date) = text.parse::<Date>() {
        return date.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp()).map_err(|_| wrong());
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let span = if back { span.negate() } else { span };
    now.to_zoned(TimeZone::UTC).checked_add(span).map(|zoned| zoned.timestamp()).map_err(|_| wrong())
}

/// A time as a table shows it: local, to the minute.
pub(super) fn shown(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// How long ago, in the largest unit that is at least one.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// How long something took.
pub(super) fn lasted(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_spans_dates_and_times() {
        let now: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(after("90d", now).unwrap().to_string(), "2026-05-01T00:00:00Z");
        assert_eq!(after("12h", now).unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(before("1week", now).unwrap().to_string(), "2026-01-24T00:00:00Z");
        assert_eq!(before("2025-06-01T01:02:03Z", now).unwrap().to_string(), "2025-06-01T01:02:03Z");
        assert!(after("2027-01-31", now).is_ok());
        for wrong in ["", "soon", "90", "2027-13-01"] {
            assert!(after(wrong, now).is_err(), "{wrong}");
        }
    }
}
