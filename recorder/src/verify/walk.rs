//! One stream file, segment by segment: finds what is wrong within it, and finds the way again behind damage.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{Problem, ProblemKind, Verification};
use crate::{
    SessionId, StreamId, StreamTotal,
    hash::Hash,
    locate::{self, Spot},
    scan::{Found, Lost, Scan},
    segment::{self, MAX_FRAME},
};

/// Bytes that are looked at at a time in the search for the next segment.
const STRIDE: usize = 64 << 10;

/// The place in one stream file.
pub(super) struct Walk {
    id: StreamId,
    session: Option<SessionId>,
    scan: Scan,
    next: Option<Found>,
    /// Where the next segment's content should begin; unknown behind damage.
    offset: Option<u64>,
    /// Whether the end of the file was reported as damaged.
    ended: bool,
}

/// A segment in its place.
pub(super) struct At {
    file: String,
    byte: u64,
    length: u64,
    pub(super) seq: u64,
    pub(super) prev: Hash,
    pub(super) link: Hash,
}

impl At {
    pub(super) fn problem(&self, kind: ProblemKind) -> Problem {
        Problem { file: self.file.clone(), segment: Some(self.seq), byte: self.byte, length: self.length, kind }
    }
}

impl Walk {
    pub(super) fn open(
        folder: &Path,
        id: StreamId,
        session: Option<SessionId>,
        found: &mut Verification,
    ) -> io::Result<Self> {
        let scan = Scan::open(&folder.join(id.to_string()))?;
        let mut walk = Self { id, session, scan, next: None, offset: Some(0), ended: false };
        walk.advance(found);
        Ok(walk)
    }

    pub(super) fn file(&self) -> String {
        self.id.to_string()
    }

    pub(super) fn length(&self) -> u64 {
        self.scan.length()
    }

    /// The place in the chain of the next segment.
    pub(super) fn seq(&self) -> Option<u64> {
        self.next.as_ref().map(|next| next.linked.header.seq)
    }

    /// Checks the next segment and goes on to the one behind it.
    pub(super) fn take(&mut self, found: &mut Verification) -> Option<At> {
        let next = self.next.take()?;
        let header = &next.linked.header;
        let at = At {
            file: self.file(),
            byte: next.at,
            length: next.end - next.at,
            seq: header.seq,
            prev: header.prev,
            link: next.linked.link,
        };
        if header.stream != self.id || self.session.is_some_and(|session| session != header.session) {
            found.report_at(at.problem(ProblemKind::OutOfPlace));
        }
        match self.offset {
            Some(offset) if header.offset > offset => found.report_at(at.problem(ProblemKind::Missing)),
            Some(offset) if header.offset < offset => found.report_at(at.problem(ProblemKind::OutOfPlace)),
            _ => {}
        }
        self.check_data(&next, found);
        self.offset = Some(header.offset.saturating_add(u64::from(header.length)));
        let seq = header.seq;
        self.advance(found);
        // A segment whose place in the chain runs backwards within its file would never be reached in order.
        while self.seq().is_some_and(|next| next <= seq) {
            let Some(wrong) = self.next.take() else { break };
            let length = wrong.end - wrong.at;
            self.report(found, Some(wrong.linked.header.seq), wrong.at, length, ProblemKind::OutOfPlace);
            self.advance(found);
        }
        Some(at)
    }

    fn check_data(&self, next: &Found, found: &mut Verification) {
        let header = &next.linked.header;
        match self.scan.data(next) {
            Ok(data) if Hash::of(&[&data]) == header.data => {}
            Ok(data) => {
                let locate = if found.may_search() { locate::wrong_data } else { locate::wrong_blocks };
                let spot = locate(header, &data);
                let byte = next.data_at + spot.start as u64;
                self.report(found, Some(header.seq), byte, spot.length as u64, ProblemKind::Wrong);
            }
            Err(_) => self.report(found, Some(header.seq), next.at, next.end - next.at, ProblemKind::Unreadable),
        }
    }

    fn report(&self, found: &mut Verification, segment: Option<u64>, byte: u64, length: u64, kind: ProblemKind) {
        found.report_at(Problem { file: self.file(), segment, byte, length, kind });
    }

    /// Finds the next segment whose header holds.
    fn advance(&mut self, found: &mut Verification) {
        if found.is_full() {
            return;
        }
        let lost = match self.scan.next_segment() {
            Ok(Some(next)) if next.linked.holds => {
                self.next = Some(next);
                return;
            }
            Ok(None) => return,
            Ok(Some(next)) => Lost::Cut { at: next.at },
            Err(lost) => lost,
        };
        let (at, cut) = match lost {
            Lost::Cut { at } => (at, true),
            Lost::Malformed { at, .. } => (at, false),
            Lost::Unreadable(_) => {
                self.ended = true;
                return self.report(found, None, self.scan.position(), 0, ProblemKind::Unreadable);
            }
        };
        if found.may_search()
            && let Some((spot, next)) = self.mend(at)
        {
            self.report(found, Some(next.linked.header.seq), at + spot.start as u64, 1, ProblemKind::Wrong);
            self.scan.seek(next.end);
            self.next = Some(next);
            return;
        }
        self.offset = None;
        let end = self.scan.length();
        match self.resume(at + 1) {
            Some(next) => {
                self.report(found, None, at, next.at - at, ProblemKind::Wrong);
                self.scan.seek(next.end);
                self.next = Some(next);
            }
            None => {
                self.ended = true;
                let kind = if cut { ProblemKind::Cut } else { ProblemKind::Wrong };
                let byte = if cut { end } else { at };
                self.report(found, None, byte, end - byte, kind);
            }
        }
    }

    /// The header at `at`, if a single byte of it is wrong.
    fn mend(&self, at: u64) -> Option<(Spot, Found)> {
        let bytes = self.read(at, MAX_FRAME)?;
        let (spot, linked) = locate::mend_header(&bytes)?;
        let data_at = at + linked.header.encode().0.len() as u64;
        let end = data_at + u64::from(linked.header.packed);
        (end <= self.scan.length()).then_some((spot, Found { linked, at, data_at, end }))
    }

    /// The first segment from `from` on whose header holds. What only begins like one costs no read of its own: a file may be
    /// full of it.
    fn resume(&self, from: u64) -> Option<Found> {
        let mut from = from;
        loop {
            let bytes = self.read(from, STRIDE + MAX_FRAME)?;
            let last = bytes.len() < STRIDE + MAX_FRAME;
            let looked_at = if last { bytes.len() } else { STRIDE };
            let next = (0..looked_at).find_map(|start| {
                let rest = bytes.get(start..)?;
                let length = segment::frame_length(*rest.first_chunk()?).ok()?;
                let next = self.scan.found(from + start as u64, rest.get(..length)?).ok()?;
                next.linked.holds.then_some(next)
            });
            if next.is_some() || last {
                return next;
            }
            from += STRIDE as u64;
        }
    }

    fn read(&self, at: u64, most: usize) -> Option<Vec<u8>> {
        let left = usize::try_from(self.scan.length().checked_sub(at)?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        File::open(self.scan.path()).and_then(|file| file.read_exact_at(&mut bytes, at)).ok()?;
        Some(bytes)
    }

    /// Compares the file with what the seal says of it.
    pub(super) fn check_total(&self, total: &StreamTotal, found: &mut Verification) {
        let length = self.scan.length();
        if !self.ended && length < total.bytes {
            self.report(found, None, length, total.bytes - length, ProblemKind::Cut);
        } else if length > total.bytes {
            self.report(found, None, total.bytes, length - total.bytes, ProblemKind::OutOfPlace);
        }
    }
}
