//! The name of a session: a UUID of version 7, so that names sort by the time at which sessions began.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Timestamp, Uuid};

/// Names one session and its recording. Lower-case and hyphenated in text: `01890a5d-ac96-774b-bcce-b302099a8057`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A new name for a session that begins at `now`; the rest of it is random.
    #[must_use]
    pub fn new(now: jiff::Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Self(Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), seconds, nanoseconds)))
    }

    /// The 16 bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The name with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The text is not the name of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a session: give 36 characters like 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct NotASessionId(String);

impl FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Uuid::try_parse(text).map(Self).map_err(|_| NotASessionId(text.to_owned()))?;
        // One spelling only: a folder, a database row and a command line must agree on it.
        if id.to_string() == text { Ok(id) } else { Err(NotASessionId(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_nothing_else() {
        let id = SessionId::new("2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<SessionId>().is_err());
        assert!(id.to_string().replace('-', "").parse::<SessionId>().is_err());
        assert!("../../etc/passwd".parse::<SessionId>().is_err());
    }

    #[test]
    fn sorts_by_the_time_of_the_session() {
        let early = SessionId::new("2026-01-02T03:04:05Z".parse().unwrap());
        let late = SessionId::new("2026-01-02T03:04:06Z".parse().unwrap());
        assert!(early.to_string() < late.to_string());
    }
}
