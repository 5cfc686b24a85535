//! What an operator may see of a session that is going on: its recording, while it is written. Nothing is copied for them,
//! so that nobody who looks on holds up the session.

use std::time::Duration;

use sallyport_policies::RecordingRule;
use sallyport_recorder::{Recording, SessionId, Viewing};
use tokio::sync::watch;
use tracing::info;

use super::Standing;

/// A live session's side of being looked at.
#[derive(Debug)]
pub(super) struct Sight {
    viewing: Option<Viewing>,
    standing: watch::Receiver<Standing>,
}

impl Sight {
    /// Of a session with this recording.
    pub(super) fn new(recording: Option<&Recording>, standing: watch::Receiver<Standing>) -> Self {
        Self { viewing: recording.map(Recording::viewing), standing }
    }

    /// Has what comes put into the recording's files at once, for [`LOOK`]. Says why not all of it is there to be seen, if
    /// that is so.
    pub(super) fn look(&self, session: SessionId) -> Option<String> {
        let Some(viewing) = &self.viewing else {
            return Some("its recording could not be opened, and the policy lets it go on without".to_owned());
        };
        if viewing.look(LOOK) {
            info!(%session, "an operator looks on");
        }
        if let Some(failure) = viewing.failure() {
            return Some(format!("its recording has failed: {failure}"));
        }
        match &*self.standing.borrow() {
            Standing::Permitted(given) if given.recording() == RecordingRule::Off => {
                Some("the policy keeps its output out of the recording, so that only its events are seen".to_owned())
            }
            _ => None,
        }
    }
}

/// How long one look holds: whoever goes on looking says so more often than that.
const LOOK: Duration = Duration::from_secs(5);
