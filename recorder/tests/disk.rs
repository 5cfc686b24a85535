//! Bad days of the disk, and what reaches it when.
#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod support;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sallyport_recorder::{Event, OutputStream, RecorderError, Store};
use support::{World, durable, everything, header, noise, signer};

#[tokio::test]
async fn everything_is_on_disk_within_a_second_and_then_nothing_stirs() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    durable(&recording, 1).await;
    let began = Instant::now();
    recording.event(Event::Shell { channel: 0 }).await.unwrap();
    let noted = durable(&recording, 2).await;
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(everything(&folder).len(), 2);
    let mut checkpoints = recording.checkpoints();
    checkpoints.mark_unchanged();
    assert!(tokio::time::timeout(Duration::from_millis(1500), checkpoints.changed()).await.is_err());
    assert_eq!(noted.segments, 2);
}

#[tokio::test]
async fn a_folder_that_was_taken_away_fails_the_recording_for_good() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    durable(&recording, 1).await;
    let failure = tokio::spawn(recording.failure());
    fs::remove_dir_all(&folder).unwrap();
    recording.event(Event::Shell { channel: 0 }).await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(10), failure).await.unwrap().unwrap();
    assert!(matches!(error, RecorderError::Disk { .. }), "{error}");
    assert!(recording.event(Event::Shell { channel: 1 }).await.is_err());
    assert!(recording.close(world.end()).await.is_err());
}

/// A file system of one megabyte, unmounted with the test.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        support::skip("a full disk (it wants the right to mount a tmpfs)");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_recording_and_what_was_whole_is_recovered() {
    let Some(small) = Small::mount() else { return };
    let store = Store::open(&small.path().join("recordings")).unwrap();
    let recording = store.create(header(), signer()).await.unwrap();
    let failure = tokio::spawn(recording.failure());
    let output = recording.output(0, OutputStream::Stdout).await.unwrap();
    let mut last = Ok(());
    for _ in 0..400 {
        last = output.output(&Bytes::from(noise(32_000))).await;
        if last.is_err() {
            break;
        }
    }
    let error = last.unwrap_err();
    assert!(error.to_string().contains("free space"), "{error}");
    let failed = tokio::time::timeout(Duration::from_secs(10), failure).await.unwrap().unwrap();
    assert_eq!(failed.to_string(), error.to_string());
    drop((output, recording));
    fs::remove_dir_all(small.path().join("lost+found")).ok();
    Command::new("mount").args(["-o", "remount,size=4m"]).arg(small.path()).status().unwrap();
    let recovered = loop {
        let recovered = store.recover(&signer()).unwrap();
        if !recovered.is_empty() {
            break recovered;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    recovered[0].result.as_ref().unwrap();
    let found = sallyport_recorder::verify(&recovered[0].folder, &signer().public_key(), None);
    assert_eq!(found.problems, []);
    assert!(everything(&recovered[0].folder).len() > 2);
}

#[tokio::test]
async fn hundreds_of_idle_sessions_cost_little() {
    let world = World::new();
    let resident = || {
        let pages: u64 = fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let (warm, _) = world.record().await;
    durable(&warm, 1).await;
    let before = resident();
    let mut idle = vec![];
    for _ in 0..300 {
        let recording = world.store.create(header(), Arc::clone(&world.signer)).await.unwrap();
        let terminal = recording.terminal(0, sallyport_recorder::TerminalHeader::default()).await.unwrap();
        terminal.output(&Bytes::from(noise(2000))).await.unwrap();
        idle.push((recording, terminal));
    }
    for (recording, _) in &idle {
        durable(recording, 2).await;
    }
    let each = resident().saturating_sub(before) / 300;
    eprintln!("an idle recording takes {each} bytes");
    assert!(each < 40_000, "{each} bytes");
}
