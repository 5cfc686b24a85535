//! How long a session may last, in all and without activity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Session, Standing};
use crate::access::Limits;
use crate::failure::Ending;

/// When a session began, and when something last came from one of its sides.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// Milliseconds from `began` to the last activity.
    last: AtomicU64,
}

impl Activity {
    /// Of a session that begins now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    pub(super) fn touch(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Resolves when the session has reached a limit of the permit that it has by then.
pub(super) async fn reached(session: &Session) -> Ending {
    let mut standing = session.standing.subscribe();
    loop {
        let limits = match &*standing.borrow_and_update() {
            Standing::Permitted(held) => held.rights.limits(),
            Standing::Approaching | Standing::Refused { .. } => Limits::default(),
        };
        tokio::select! {
            _ = standing.changed() => {}
            length = after(limits.longest, || session.activity.began) => return Ending::Overran(length),
            length = after(limits.idle, || session.activity.last()) => return Ending::Idle(length),
        }
    }
}

/// Resolves once `length` has passed since `moment`, which may move on meanwhile; never without a `length`.
async fn after(length: Option<Duration>, moment: impl Fn() -> Instant) -> Duration {
    let Some(length) = length else { return std::future::pending().await };
    loop {
        let end = moment() + length;
        if end <= Instant::now() {
            return length;
        }
        sleep_until(end).await;
    }
}
