//! The bytes of a stream file come from a stranger: nothing may panic, hang or grow, whatever they are.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use sallyport_recorder::{Caller, Header, Manifest, PolicyStamp, SessionId, Signer, Target, read::RecordingReader, verify};

const FILES: [&str; 3] = ["timeline.jsonl.zst", "terminal-0.cast.zst", "channel-1.stdout.zst"];

fuzz_target!(|bytes: &[u8]| {
    let Some((file, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().unwrap();
    let manifest = serde_json::to_vec(&Manifest::open(header())).unwrap();
    fs::write(folder.path().join("manifest.json"), manifest).unwrap();
    fs::write(folder.path().join(FILES[usize::from(*file) % FILES.len()]), bytes).unwrap();
    let reader = RecordingReader::open(folder.path()).unwrap();
    for entry in reader.entries().take(10_000) {
        drop(entry);
    }
    let key = Signer::new(ed25519_dalek::SigningKey::from_bytes(&[7; 32])).public_key();
    assert!(!verify(folder.path(), &key, None).is_ok(), "an unsealed recording never verifies");
});

fn header() -> Header {
    Header {
        id: SessionId::from_bytes([7; 16]),
        protocol: "ssh".into(),
        caller: Caller::default(),
        target: Target::default(),
        policy: PolicyStamp::default(),
        gateway: "gateway".into(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}
