//! Snapshots to seek from, few enough to stay small.
//!
//! Going back means starting again from something earlier. A keyframe is taken after so many bytes of output; when there
//! are too many, every second one goes and the distance doubles. So a session of any length costs the same memory, and a
//! seek costs at most the distance, which stays a small part of the whole.

use std::time::Duration;

use super::stage::{Snapshot, Stage};

/// Keyframes, in the order of time.
pub(super) struct Keyframes {
    frames: Vec<Keyframe>,
    distance: usize,
    since: usize,
}

/// The stage with everything before `resume` shown and nothing of `resume` or later.
pub(super) struct Keyframe {
    /// Read on from the moments at this time.
    pub(super) resume: Duration,
    /// What stood then.
    pub(super) snapshot: Snapshot,
}

impl Default for Keyframes {
    fn default() -> Self {
        Self { frames: Vec::new(), distance: FIRST_DISTANCE, since: 0 }
    }
}

impl Keyframes {
    /// Counts output that has been shown.
    pub(super) fn shown(&mut self, bytes: usize) {
        self.since = self.since.saturating_add(bytes);
    }

    /// Whether the next moment, at `resume`, is a good place for a keyframe: far enough from the last one, and beyond all
    /// that there are.
    #[must_use]
    pub(super) fn due(&self, resume: Duration) -> bool {
        self.since >= self.distance && self.frames.last().is_none_or(|last| resume > last.resume)
    }

    /// Keeps a keyframe.
    pub(super) fn keep(&mut self, resume: Duration, stage: &Stage) {
        self.since = 0;
        let snapshot = stage.snapshot();
        if snapshot.size() > BUDGET {
            self.distance = self.distance.saturating_mul(2);
            return;
        }
        self.frames.push(Keyframe { resume, snapshot });
        while self.frames.len() > MOST || (self.frames.len() > 1 && self.bytes() > BUDGET) {
            let mut odd = false;
            self.frames.retain(|_| {
                odd = !odd;
                !odd
            });
            self.distance = self.distance.saturating_mul(2);
        }
    }

    /// The last keyframe at or before a time.
    #[must_use]
    pub(super) fn before(&self, at: Duration) -> Option<&Keyframe> {
        self.frames.iter().rev().find(|frame| frame.resume <= at)
    }

    /// What all keyframes together hold.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.snapshot.size()).sum()
    }

    /// After a jump the count starts anew.
    pub(super) fn jumped(&mut self) {
        self.since = 0;
    }
}

/// Bytes of output between keyframes, at first.
const FIRST_DISTANCE: usize = 512 * 1024;
/// Keyframes kept.
const MOST: usize = 32;
/// Bytes that all keyframes together may hold.
const BUDGET: usize = 24 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::{Change, Moment};

    #[test]
    fn stays_within_its_budget_and_still_covers_the_whole_session() {
        let mut stage = Stage::default();
        let opened = Change::Opened { terminal: 0, columns: 1000, rows: 400 };
        stage.apply(Moment { at: Duration::ZERO, change: opened }).unwrap();
        let text = "x".repeat(400_000);
        stage.apply(Moment { at: Duration::ZERO, change: Change::Printed { terminal: 0, text } }).unwrap();

        let mut keyframes = Keyframes::default();
        for second in 1..400 {
            keyframes.shown(FIRST_DISTANCE);
            let at = Duration::from_secs(second);
            if keyframes.due(at) {
                keyframes.keep(at, &stage);
            }
        }
        assert!(keyframes.frames.len() <= MOST);
        assert!(keyframes.bytes() <= BUDGET, "{} bytes", keyframes.bytes());
        assert!(keyframes.frames.len() >= 8, "only {} left", keyframes.frames.len());
        let gap = Duration::from_secs(399) - keyframes.before(Duration::from_secs(399)).unwrap().resume;
        assert!(gap <= Duration::from_secs(64), "the last is {gap:?} back");
        assert!(keyframes.before(Duration::ZERO).is_none());
    }
}
