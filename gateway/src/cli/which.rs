//! Which sessions a command is about: the words that `sessions ls` and `search` share.

use jiff::Timestamp;

use super::{BadInput, expiry};

/// Which sessions; without a word, all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Sessions of this user or tag
    #[arg(long)]
    pub(super) caller: Option<String>,
    /// Sessions to this target
    #[arg(long)]
    pub(super) target: Option<String>,
    /// Sessions that began since: 2h, 1week, a date or a time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Sessions that began before: 2h, a date or a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Which {
    /// The first moment that a session may have begun at, seen from `now`.
    pub(super) fn since(&self, now: Timestamp) -> Result<Option<Timestamp>, BadInput> {
        self.since.as_deref().map(|text| expiry::before(text, now)).transpose()
    }

    /// The moment that it began before.
    pub(super) fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, BadInput> {
        self.until.as_deref().map(|text| expiry::before(text, now)).transpose()
    }
}
