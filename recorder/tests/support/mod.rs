//! A store in a temporary folder, and something to record.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests may unwrap, and say what they skip")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use sallyport_recorder::{Caller, End, Header, Outcome, PolicyStamp, Recording, SessionId, Signer, Store, Target};

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

pub fn header() -> Header {
    let started = "2026-01-02T03:04:05.678Z".parse().unwrap();
    Header {
        id: SessionId::new(started),
        protocol: "ssh".into(),
        caller: Caller {
            user: Some("alice@example.com".into()),
            tags: vec![],
            device: "alice-laptop".into(),
            key: "kkEFqJzMbGlJ8iBCQjPzYGBw1sFC5HLmHvhXsQfGHDM=".into(),
            address: "100.64.0.7".into(),
        },
        target: Target { name: "web1".into(), address: "10.0.3.7:22".into() },
        policy: PolicyStamp { revision: "0123456789ab".into(), rules: vec!["ssh[0] 12:5".into()] },
        gateway: "gateway".into(),
        started,
    }
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
        eprintln!("skipped: {program} is not installed");
    }
    missing
}
