//! A recording is read along while it is written.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use sallyport_recorder::{
    Event, FLUSH_AFTER, OutputStream, State, TerminalHeader,
    follow::Follow,
    read::{Entry, Item},
};
use support::World;

/// What is new, once something is; with how long that took.
async fn more(follow: &mut Follow) -> (Vec<Item>, Duration) {
    let started = Instant::now();
    loop {
        follow.look().unwrap();
        let items: Vec<Item> = follow.by_ref().map(|entry| entry.unwrap()).map(|Entry { item, .. }| item).collect();
        if !items.is_empty() {
            return (items, started.elapsed());
        }
        assert!(started.elapsed() < Duration::from_secs(20), "nothing came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_recorded_is_seen_at_once_while_somebody_looks_on() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    let header = TerminalHeader { width: 80, height: 24, ..TerminalHeader::default() };
    let terminal = recording.terminal(0, header).await.unwrap();
    terminal.output(&Bytes::from_static(b"before ")).await.unwrap();
    recording.viewing().look(Duration::from_secs(60));
    let mut follow = Follow::open(&folder, 0).unwrap();
    let mut shown = String::new();
    let mut fastest = Duration::MAX;
    for round in 0..20 {
        let text = format!("round {round} ");
        terminal.output(&Bytes::from(text.clone())).await.unwrap();
        while !shown.ends_with(&text) {
            let (items, took) = more(&mut follow).await;
            fastest = fastest.min(took);
            for item in items {
                if let Item::TerminalOutput { text, .. } = item {
                    shown += &text;
                }
            }
        }
    }
    assert!(shown.starts_with("before round 0 round 1 "), "{shown}");
    // Without a viewer it takes the writer more than half a second.
    assert!(fastest < FLUSH_AFTER * 5, "{fastest:?}");
    assert_eq!(follow.manifest().unwrap().state, State::Open);
    recording.close(world.end()).await.unwrap();
    let (items, _) = more(&mut follow).await;
    assert!(matches!(items.last(), Some(Item::Event(Event::End { .. }))), "{items:?}");
    assert_eq!(follow.manifest().unwrap().state, State::Sealed);
}

#[tokio::test]
async fn streams_that_begin_later_are_found_and_a_damaged_one_ends_alone() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    recording.viewing().look(Duration::from_secs(60));
    let mut follow = Follow::open(&folder, 0).unwrap();
    let _start = more(&mut follow).await;
    for channel in 0..3 {
        let output = recording.output(channel, OutputStream::Stdout).await.unwrap();
        output.output(&Bytes::from(format!("channel {channel}"))).await.unwrap();
        let (items, _) = more(&mut follow).await;
        assert!(matches!(&items[..], [Item::Output { channel: found, .. }] if *found == channel), "{items:?}");
    }
    std::fs::write(folder.join("channel-7.stdout.zst"), "no segment at all").unwrap();
    follow.look().unwrap();
    assert!(follow.next().unwrap().is_err());
    follow.look().unwrap();
    assert!(follow.next().is_none(), "told once");
    recording.event(Event::Shell { channel: 0 }).await.unwrap();
    let (items, _) = more(&mut follow).await;
    assert!(matches!(&items[..], [Item::Event(Event::Shell { .. })]), "{items:?}");
}

#[tokio::test]
async fn a_recording_that_was_looked_at_verifies_like_any_other() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    recording.viewing().look(Duration::from_secs(60));
    let output = recording.output(0, OutputStream::Stdout).await.unwrap();
    for _ in 0..30 {
        output.output(&Bytes::from(support::noise(3000))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    recording.close(world.end()).await.unwrap();
    let verified = sallyport_recorder::verify(&folder, &world.signer.public_key(), None);
    assert!(verified.problems.is_empty(), "{verified:?}");
}
