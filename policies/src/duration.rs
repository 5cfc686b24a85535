//! Durations as Go writes them: `90s`, `30m`, `12h`, `1h30m`.

use std::time::Duration;

/// Reads a duration of at most a year; whole hours, minutes and seconds, in this order.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    for (unit, size) in [('h', 3_600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            if number.is_empty() || number.len() > 8 || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(size)?)?;
            rest = after;
        }
    }
    let whole = rest.is_empty() && !text.is_empty() && seconds <= A_YEAR;
    whole.then(|| Duration::from_secs(seconds))
}

/// A duration in the policy's own units, the largest that it is a whole number of.
pub(crate) fn said(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds % 3_600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3_600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// In seconds.
const A_YEAR: u64 = 366 * 24 * 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("1h30m", 5400), ("1h0m0s", 3600)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "12", "h", "1d", "-1h", "1m1h", "1h 30m", "1.5h", "99999999h", "1hh"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_read_again() {
        for text in ["0h", "12h", "90m", "61s"] {
            assert_eq!(said(parse(text).unwrap()), text);
        }
    }
}
