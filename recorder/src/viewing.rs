//! Looking on while a session is recorded. Whoever looks reads the files, as of any other recording, so that a slow viewer
//! costs the session nothing; the writer is only told to put what it has into the files sooner.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{RecorderError, queue::Queue};

/// Leave to look at one recording that is being written. Cheap to clone; holds up nothing.
#[derive(Clone)]
pub struct Viewing {
    queue: Arc<Queue>,
}

impl Viewing {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// For so long from now on, what is recorded is in the files within [`FLUSH_AFTER`]; it is on the disk no sooner. Says
    /// whether nobody was looking before.
    pub fn look(&self, length: Duration) -> bool {
        self.queue.view_until(Instant::now() + length)
    }

    /// Why nothing is recorded any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<RecorderError> {
        self.queue.failure().borrow().clone()
    }
}

impl std::fmt::Debug for Viewing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewing").finish_non_exhaustive()
    }
}

/// How long something new may wait for its place in the files while somebody looks on.
pub const FLUSH_AFTER: Duration = Duration::from_millis(50);
