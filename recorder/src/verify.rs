//! Proves a recording, or says which byte of which segment is wrong, missing or cut. Memory stays flat: one segment of one
//! stream at a time. The folder may be hostile.

mod walk;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt, fs,
    path::Path,
};

use ed25519_dalek::VerifyingKey;

use crate::{
    Checkpoint, Head, MANIFEST, Manifest, State, StreamId, StreamTotal, VERSION,
    read::{self, ReadError},
};
use walk::Walk;

/// No more problems than these are listed: one wreck is enough.
const MAX_PROBLEMS: usize = 1000;
/// The search for a single wrong byte is dear: a wreck of thousands of segments gets this many.
const MAX_SEARCHES: u32 = 32;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Nothing in here: the recording is whole and is what the gateway wrote.
    pub problems: Vec<Problem>,
    /// Segments that were looked at.
    pub segments: u64,
    /// Bytes of stream files that were looked at.
    pub bytes: u64,
    /// How often a single wrong byte was searched for.
    searches: u32,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The segment's place in the chain, if it is known.
    pub segment: Option<u64>,
    /// The first byte of the file that is concerned.
    pub byte: u64,
    /// How many bytes are.
    pub length: u64,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// Bytes were changed.
    Wrong,
    /// Segments were taken out before this byte, or a file is gone.
    Missing,
    /// The end was cut off at this byte.
    Cut,
    /// A segment is whole but does not belong there: moved, repeated, or of another recording.
    OutOfPlace,
    /// The recording was never sealed: it is being written, or waits for recovery.
    Unsealed,
    /// The manifest is not signed by this gateway's key, or was changed.
    BadSignature,
    /// The chain does not have the head that the gateway noted while it was written.
    CheckpointMismatch,
    /// A file that no recording has.
    ExtraFile,
    /// The file cannot be read.
    Unreadable,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, byte, length, .. } = self;
        let segment = self.segment.map_or_else(String::new, |segment| format!(" of segment {segment}"));
        match self.kind {
            ProblemKind::Wrong if *length == 1 => write!(f, "{file}: byte {byte}{segment} is wrong"),
            ProblemKind::Wrong => {
                write!(f, "{file}: something in the {length} bytes from byte {byte}{segment} is wrong")
            }
            ProblemKind::Missing if *byte == 0 && self.segment.is_none() => write!(f, "{file}: missing"),
            ProblemKind::Missing => write!(f, "{file}: content is missing before byte {byte}{segment}"),
            ProblemKind::Cut => write!(f, "{file}: cut off at byte {byte}{segment}"),
            ProblemKind::OutOfPlace => write!(f, "{file}: what stands at byte {byte}{segment} does not belong there"),
            ProblemKind::Unsealed => write!(f, "{file}: the recording is not sealed"),
            ProblemKind::BadSignature => write!(f, "{file}: not signed by this gateway, or changed afterwards"),
            ProblemKind::CheckpointMismatch => {
                write!(f, "{file}: the chain is not the one that the gateway noted while it was recorded")
            }
            ProblemKind::ExtraFile => write!(f, "{file}: does not belong to the recording"),
            ProblemKind::Unreadable => write!(f, "{file}: cannot be read"),
        }
    }
}

impl Verification {
    /// Whether all is well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn report(&mut self, file: &str, kind: ProblemKind) {
        self.report_at(Problem { file: file.to_owned(), segment: None, byte: 0, length: 0, kind });
    }

    fn report_at(&mut self, problem: Problem) {
        if !self.is_full() {
            self.problems.push(problem);
        }
    }

    /// Whether so much is wrong that nothing more is looked for.
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Whether one more search may be made, which is counted.
    fn may_search(&mut self) -> bool {
        self.searches += 1;
        self.searches <= MAX_SEARCHES
    }

    /// Whether damage is known that explains a gap in the chain.
    fn is_damaged(&self) -> bool {
        use ProblemKind::{Cut, Missing, OutOfPlace, Unreadable, Wrong};
        self.problems.iter().any(|problem| matches!(problem.kind, Wrong | Missing | Cut | OutOfPlace | Unreadable))
    }
}

/// Verifies the recording in `folder` against the gateway's public key and, where there is one, the last checkpoint that
/// the gateway noted elsewhere: without it, an unsealed recording that lost its tail looks like one that just ended there.
#[must_use]
pub fn verify(folder: &Path, key: &VerifyingKey, checkpoint: Option<&Checkpoint>) -> Verification {
    let mut found = Verification::default();
    let manifest = match read::manifest(folder) {
        Ok(manifest) => Some(manifest),
        Err(ReadError::Unreadable { .. }) => {
            found.report(MANIFEST, ProblemKind::Missing);
            None
        }
        Err(_) => {
            found.report(MANIFEST, ProblemKind::Wrong);
            None
        }
    };
    if let Some(manifest) = &manifest {
        check_seal(manifest, key, &mut found);
    }
    let streams = check_files(folder, manifest.as_ref(), &mut found);
    let head = walk_chain(folder, streams, manifest.as_ref(), checkpoint, &mut found);
    if let Some(seal) = manifest.as_ref().and_then(|manifest| manifest.seal.as_ref())
        && seal.head != head
        && !found.is_damaged()
    {
        found.report(MANIFEST, ProblemKind::Missing);
    }
    if checkpoint.is_some_and(|checkpoint| checkpoint.segments > head.segments) {
        found.report(MANIFEST, ProblemKind::CheckpointMismatch);
    }
    found
}

fn check_seal(manifest: &Manifest, key: &VerifyingKey, found: &mut Verification) {
    if manifest.version != VERSION {
        found.report(MANIFEST, ProblemKind::Wrong);
    }
    match manifest.state {
        State::Open => found.report(MANIFEST, ProblemKind::Unsealed),
        State::Sealed | State::Interrupted if manifest.is_signed_by(key) => {}
        State::Sealed | State::Interrupted => found.report(MANIFEST, ProblemKind::BadSignature),
    }
}

/// Compares the folder's files with the seal's list.
fn check_files(folder: &Path, manifest: Option<&Manifest>, found: &mut Verification) -> BTreeSet<StreamId> {
    let mut streams = BTreeSet::new();
    let Ok(entries) = fs::read_dir(folder) else {
        found.report(".", ProblemKind::Unreadable);
        return streams;
    };
    let sealed = manifest.and_then(totals);
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let listed = sealed.as_ref().is_none_or(|sealed| sealed.contains_key(name.as_str()));
        match StreamId::of_file(&name) {
            Some(id) if listed => drop(streams.insert(id)),
            None if name == MANIFEST => {}
            _ => found.report(&name, ProblemKind::ExtraFile),
        }
    }
    for file in sealed.iter().flat_map(BTreeMap::keys) {
        if !StreamId::of_file(file).is_some_and(|id| streams.contains(&id)) {
            found.report(file, ProblemKind::Missing);
        }
    }
    streams
}

/// What the seal says of each stream's file.
fn totals(manifest: &Manifest) -> Option<BTreeMap<&str, &StreamTotal>> {
    let seal = manifest.seal.as_ref()?;
    Some(seal.streams.iter().map(|total| (total.file.as_str(), total)).collect())
}

/// Walks all streams along the chain and returns its head.
fn walk_chain(
    folder: &Path,
    streams: BTreeSet<StreamId>,
    manifest: Option<&Manifest>,
    checkpoint: Option<&Checkpoint>,
    found: &mut Verification,
) -> Head {
    let root = manifest.and_then(|manifest| manifest.header.root().ok());
    let session = manifest.map(|manifest| manifest.header.id);
    let mut walks = vec![];
    for id in streams {
        match Walk::open(folder, id, session, found) {
            Ok(walk) => walks.push(walk),
            Err(_) => found.report(&id.to_string(), ProblemKind::Unreadable),
        }
    }
    let mut link = root;
    let mut segments = 0;
    let next = |place: usize, walk: &Walk| walk.seq().map(|seq| Reverse((seq, place)));
    let mut order: BinaryHeap<_> = walks.iter().enumerate().filter_map(|(place, walk)| next(place, walk)).collect();
    while let Some(Reverse((_, place))) = order.pop() {
        let Some(walk) = walks.get_mut(place) else { break };
        let Some(at) = walk.take(found) else { break };
        order.extend(next(place, walk));
        found.segments += 1;
        let prev = (at.seq == segments).then_some(link).flatten();
        if at.seq < segments || prev.is_some_and(|prev| prev != at.prev) {
            found.report_at(at.problem(ProblemKind::OutOfPlace));
        }
        segments = segments.max(at.seq.saturating_add(1));
        link = Some(at.link);
        if checkpoint.is_some_and(|noted| noted.segments == at.seq.saturating_add(1) && noted.hash != at.link) {
            found.report_at(at.problem(ProblemKind::CheckpointMismatch));
        }
    }
    let sealed = manifest.and_then(totals).unwrap_or_default();
    for walk in &walks {
        found.bytes += walk.length();
        if let Some(total) = sealed.get(walk.file().as_str()) {
            walk.check_total(total, found);
        }
    }
    let gap = found.segments < segments && !found.is_damaged();
    if gap {
        found.report(MANIFEST, ProblemKind::Missing);
    }
    match link {
        Some(hash) => Head { segments, hash },
        None => Head { segments, hash: crate::Hash::of(&[]) },
    }
}
