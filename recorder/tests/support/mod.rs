//! A store in a temporary folder, and something to record.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod made;
#[path = "../../../tests/src/skip.rs"]
mod skip;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bytes::Bytes;
use sallyport_recorder::{
    Checkpoint, End, Event, Outcome, OutputStream, Recording, Signer, Store, TerminalHeader, read::RecordingReader,
};

pub use made::header;
pub use skip::skip;

/// A store of its own, removed with the test.
pub struct World {
    pub store: Store,
    pub signer: Arc<Signer>,
    _folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("recordings")).unwrap();
        Self { store, signer: signer(), _folder: folder }
    }

    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// A recording that was just opened, and where it lies.
    pub async fn record(&self) -> (Recording, PathBuf) {
        let header = header();
        let folder = self.store.folder(&header);
        (self.store.create(header, Arc::clone(&self.signer)).await.unwrap(), folder)
    }

    pub fn end(&self) -> End {
        let at = "2026-01-02T03:05:00Z".parse().unwrap();
        End { outcome: Outcome::Completed, reason: "the client is done".into(), at }
    }
}

pub fn signer() -> Arc<Signer> {
    Arc::new(Signer::new(ed25519_dalek::SigningKey::from_bytes(&[7; 32])))
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Text, noise and zeros by turns.
pub fn mixture(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + (1 << 20));
    while bytes.len() < length {
        for line in 0..5000 {
            bytes.extend(format!("{line:06} naïve café \u{1b}[32mgreen\u{1b}[0m \"quoted\"\r\n").into_bytes());
        }
        bytes.extend(noise(300_000));
        bytes.extend(vec![0; 100_000]);
    }
    bytes.truncate(length);
    bytes
}

/// What stock zstd makes of a file.
pub fn content(path: &Path) -> Vec<u8> {
    let output = Command::new("zstd").args(["-dcq"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Says which program a test is skipped for.
pub fn missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        skip(program);
    }
    missing
}

/// Waits until `segments` are on disk.
pub async fn durable(recording: &Recording, segments: u64) -> Checkpoint {
    let mut checkpoints = recording.checkpoints();
    let enough = |noted: &Option<Checkpoint>| noted.as_ref().is_some_and(|noted| noted.segments >= segments);
    let noted = tokio::time::timeout(std::time::Duration::from_secs(20), checkpoints.wait_for(enough)).await;
    noted.unwrap().unwrap().clone().unwrap()
}

/// The same recording in a store of its own, where nobody writes it: what a killed gateway leaves behind.
pub fn left_behind(folder: &Path) -> (World, PathBuf) {
    let world = World::new();
    let mut parts = folder.components().rev().map(|part| part.as_os_str());
    let (id, day) = (parts.next().unwrap(), parts.next().unwrap());
    let copy = world.root().join(day).join(id);
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    (world, copy)
}

/// The stream files of a recording.
pub fn stream_files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "zst")).collect();
    files.sort();
    files
}

/// A recording with three streams of several segments each, that was not closed.
pub async fn unsealed(world: &World) -> (Recording, PathBuf, Checkpoint) {
    let (recording, folder) = world.record().await;
    let header = TerminalHeader { width: 80, height: 24, ..TerminalHeader::default() };
    let terminal = recording.terminal(0, header).await.unwrap();
    let stdout = recording.output(1, OutputStream::Stdout).await.unwrap();
    for round in 0..3_u32 {
        terminal.output(&Bytes::from(format!("round {round}\r\n"))).await.unwrap();
        stdout.output(&Bytes::from(noise(5000))).await.unwrap();
        recording.event(Event::Shell { channel: round }).await.unwrap();
        durable(&recording, u64::from(round + 1) * 3).await;
    }
    let noted = durable(&recording, 9).await;
    (recording, folder, noted)
}

/// Everything of one stream, as text that can be compared.
pub fn everything(folder: &Path) -> Vec<String> {
    let reader = RecordingReader::open(folder).unwrap();
    reader.entries().map(|entry| format!("{:?}", entry.unwrap())).collect()
}
