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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_hours_only_when_there_are_some() {
        assert_eq!(short(Duration::from_millis(7_999)), "0:07");
        assert_eq!(short(Duration::from_secs(754)), "12:34");
        assert_eq!(short(Duration::from_secs(3_723)), "1:02:03");
        assert_eq!(exact(Duration::from_millis(61_005)), "1:01.005");
    }
}
