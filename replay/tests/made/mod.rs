//! Recordings made by the recorder itself, for the tests.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sallyport_recorder::{
    Caller, End, Event, Header, Outcome, OutputStream, PolicyStamp, Recording, SessionId, Signer, Store, Target,
    TerminalHeader,
};
use sallyport_replay::reel::Reel;
use tempfile::TempDir;

/// A store with one recording in it.
pub(crate) struct Made {
    _root: TempDir,
    /// The recording's folder.
    pub(crate) folder: PathBuf,
}

impl Made {
    /// The recording, opened.
    pub(crate) fn reel(&self) -> Reel {
        Reel::open(&self.folder).unwrap()
    }
}

/// Records what `session` does, and seals it.
pub(crate) async fn record(session: impl AsyncFnOnce(&Recording)) -> Made {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let started = "2026-01-02T03:04:05Z".parse().unwrap();
    let header = Header {
        id: SessionId::new(started),
        protocol: "ssh".into(),
        caller: Caller {
            user: Some("alice@example.com".into()),
            device: "alice-laptop".into(),
            address: "100.64.0.7".into(),
            ..Caller::default()
        },
        target: Target { name: "web1".into(), address: "10.0.3.7:22".into() },
        policy: PolicyStamp { revision: "0123456789ab".into(), rules: vec!["ssh[0] 12:5".into()] },
        gateway: "gateway".into(),
        started,
    };
    let folder = store.folder(&header);
    let signer = Arc::new(Signer::new(ed25519_dalek::SigningKey::from_bytes(&[7; 32])));
    let recording = store.create(header, signer).await.unwrap();
    session(&recording).await;
    let end = End { outcome: Outcome::Completed, reason: "both sides were done".into(), at: started };
    recording.close(end).await.unwrap();
    Made { _root: root, folder }
}

/// A shell in a terminal that prints these pieces.
pub(crate) async fn shell(recording: &Recording, number: u32, pieces: &[&str]) {
    recording.event(Event::ChannelOpen { channel: number, kind: "session".into() }).await.unwrap();
    let (width, height) = (80, 24);
    let pty = Event::Pty { channel: number, terminal: number, term: "xterm".into(), width, height };
    recording.event(pty).await.unwrap();
    recording.event(Event::Shell { channel: number }).await.unwrap();
    let header = TerminalHeader { width, height, term: "xterm".into(), ..TerminalHeader::default() };
    let terminal = recording.terminal(number, header).await.unwrap();
    for piece in pieces {
        terminal.output(&Bytes::copy_from_slice(piece.as_bytes())).await.unwrap();
    }
    recording.event(Event::ExitStatus { channel: number, status: 0 }).await.unwrap();
    recording.event(Event::ChannelClose { channel: number, sent: 12, received: 3456 }).await.unwrap();
}

/// A command without a terminal that writes this.
pub(crate) async fn exec(recording: &Recording, channel: u32, command: &str, stdout: &[u8], stderr: &[u8]) {
    recording.event(Event::Exec { channel, command: command.into() }).await.unwrap();
    for (stream, bytes) in [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)] {
        let output = recording.output(channel, stream).await.unwrap();
        output.output(&Bytes::copy_from_slice(bytes)).await.unwrap();
    }
    recording.event(Event::ExitStatus { channel, status: 3 }).await.unwrap();
}
