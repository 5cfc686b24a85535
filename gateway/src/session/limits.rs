//! How long a session may last, in all and without activity, and when its caller is told that the end is near.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Session, Standing};
use crate::access::Limits;
use crate::failure::{Ending, said};

/// What a caller was told of already.
#[derive(Debug, Default)]
pub(super) struct Warned {
    longest: bool,
    /// The last activity before the silence that the caller was told of.
    idle: Option<Instant>,
}

/// Resolves with the next sentence about a limit that is near.
pub(super) async fn nearing(session: &Session, warned: &mut Warned) -> String {
    let mut standing = session.standing.subscribe();
    loop {
        let Limits { longest, idle } = limits(&standing.borrow_and_update());
        let untold = longest.filter(|_| !warned.longest);
        tokio::select! {
            _ = standing.changed() => {}
            _ = after(untold.map(early), || session.activity.began) => {
                warned.longest = true;
                let whole = untold.unwrap_or_default();
                return near(whole, "", &Ending::Overran(whole).to_string());
            }
            last = silence(idle, &session.activity, warned.idle) => {
                warned.idle = Some(last);
                let whole = idle.unwrap_or_default();
                return near(whole, " unless something happens in it", &format!("it may be idle for {}", said(whole)));
            }
        }
    }
}

/// Resolves when it has been silent nearly for `idle` since an activity that is not `told`; with that activity.
async fn silence(idle: Option<Duration>, activity: &Activity, told: Option<Instant>) -> Instant {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let last = activity.last();
        let due = last + early(idle);
        match told == Some(last) {
            // At the limit the session ends; where it goes on, something has happened since.
            true => sleep_until((last + idle).max(Instant::now() + AGAIN)).await,
            false if due <= Instant::now() => return last,
            false => sleep_until(due).await,
        }
    }
}

/// How much of a limit has passed when the caller is told that it is near.
fn early(limit: Duration) -> Duration {
    limit.saturating_sub(NOTICE.min(limit / 4))
}

fn near(whole: Duration, unless: &str, why: &str) -> String {
    format!("this session ends in {}{unless}: {why}", said(whole.saturating_sub(early(whole))))
}

fn limits(standing: &Standing) -> Limits {
    match standing {
        Standing::Permitted(given) => given.limits(),
        Standing::Approaching | Standing::Refused { .. } => Limits::default(),
    }
}

/// How long before its end a caller is told; of short limits the last quarter.
const NOTICE: Duration = Duration::from_secs(5 * 60);
/// When a session that goes on past a limit is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

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

    pub(super) fn touch_at(&self, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
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
        let limits = limits(&standing.borrow_and_update());
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
