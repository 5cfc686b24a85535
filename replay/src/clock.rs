//! How times within a recording are written.

use std::time::Duration;

/// `0:07`, `12:34` or `1:02:03`.
#[must_use]
pub fn short(at: Duration) -> String {
    let seconds = at.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `0:07.250`: with the milliseconds, for lists.
#[must_use]
pub fn exact(at: Duration) -> String {
    format!("{}.{:03}", short(at), at.subsec_millis())
}

/// Reads what [`short`] and [`exact`] write, or seconds: `1:02:03`, `0:07.250`, `83`, `83.5s`.
#[must_use]
pub fn read(text: &str) -> Option<Duration> {
    let text = text.trim().trim_end_matches('s');
    let (whole, last) = text.rsplit_once(':').map_or((None, text), |(whole, last)| (Some(whole), last));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = plain(last).then(|| last.parse::<f64>().ok()).flatten()?;
    let mut minutes = 0_u64;
    for part in whole.into_iter().flat_map(|whole| whole.split(':')) {
        minutes = minutes.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    let seconds = Duration::try_from_secs_f64(seconds).ok()?;
    Duration::from_secs(minutes.checked_mul(60)?).checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_seconds() {
        for at in [0, 7_250, 61_005, 3_723_999] {
            let at = Duration::from_millis(at);
            assert_eq!(read(&exact(at)), Some(at));
        }
        assert_eq!(read("83"), Some(Duration::from_secs(83)));
        assert_eq!(read("1:30.5s"), Some(Duration::from_millis(90_500)));
        for wrong in ["", "x", "1:", ":1", "-1", "1e9", "1:x:2", "inf", "99999999999999999999:0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn writes_hours_only_when_there_are_some() {
        assert_eq!(short(Duration::from_millis(7_999)), "0:07");
        assert_eq!(short(Duration::from_secs(754)), "12:34");
        assert_eq!(short(Duration::from_secs(3_723)), "1:02:03");
        assert_eq!(exact(Duration::from_millis(61_005)), "1:01.005");
    }
}
