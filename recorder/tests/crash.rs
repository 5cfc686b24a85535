//! A gateway that dies at any moment leaves recordings that are whole up to there, and says so.
#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod support;

use std::fs::{self, OpenOptions};

use sallyport_recorder::{Outcome, State, read::RecordingReader, verify};
use support::{World, everything, left_behind, stream_files, unsealed};

#[tokio::test]
async fn a_file_cut_anywhere_is_recovered_to_the_last_whole_segment() {
    let world = World::new();
    let (_recording, folder, _) = unsealed(&world).await;
    let before = everything(&folder);
    for file in stream_files(&folder) {
        let name = file.file_name().unwrap();
        let length = file.metadata().unwrap().len();
        let places = (0..length).step_by(97).chain([1, 7, 8, 143, 144, length - 1, length]);
        for cut in places {
            let (crashed, copy) = left_behind(&folder);
            OpenOptions::new().write(true).open(copy.join(name)).unwrap().set_len(cut).unwrap();
            let recovered = crashed.store.recover(&crashed.signer).unwrap();
            assert_eq!(recovered.len(), 1);
            recovered[0].result.as_ref().unwrap();
            let found = verify(&copy, &crashed.signer.public_key(), None);
            assert_eq!(found.problems, [], "{name:?} cut at {cut}");
            let reader = RecordingReader::open(&copy).unwrap();
            assert_eq!(reader.manifest().state, State::Interrupted);
            let after = everything(&copy);
            let (end, kept) = after.split_last().unwrap();
            assert!(end.contains("Interrupted"), "{end}");
            assert!(kept.iter().all(|entry| before.contains(entry)), "{name:?} cut at {cut}");
            if cut == length {
                assert_eq!(kept, before);
            }
        }
    }
}

#[tokio::test]
async fn nothing_whole_is_lost_when_the_last_segment_is_torn() {
    let world = World::new();
    let (_recording, folder, _) = unsealed(&world).await;
    let before = everything(&folder);
    let (crashed, copy) = left_behind(&folder);
    let newest = stream_files(&copy).pop().unwrap();
    let file = OpenOptions::new().append(true).open(&newest).unwrap();
    std::io::Write::write_all(&mut &file, b"\x5c\x2a\x4d\x18 the machine went down h").unwrap();
    let recovered = crashed.store.recover(&crashed.signer).unwrap();
    assert_eq!(recovered[0].result.as_ref().unwrap().cut, 28);
    let after = everything(&copy);
    assert_eq!(after[..after.len() - 1], before);
}

#[tokio::test]
async fn a_recording_in_use_is_left_alone() {
    let world = World::new();
    let (recording, folder, _) = unsealed(&world).await;
    assert!(world.store.recover(&world.signer).unwrap().is_empty());
    recording.close(world.end()).await.unwrap();
    assert!(world.store.recover(&world.signer).unwrap().is_empty(), "nor one that is sealed");
    assert_eq!(verify(&folder, &world.signer.public_key(), None).problems, []);
}

#[tokio::test]
async fn one_broken_folder_does_not_hold_back_the_rest() {
    let world = World::new();
    let (_one, first, _) = unsealed(&world).await;
    let (_two, second, _) = unsealed(&world).await;
    let (crashed, copy) = left_behind(&first);
    let other = copy.with_file_name(second.file_name().unwrap());
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(&second).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    fs::write(copy.join("manifest.json"), "{").unwrap();
    let recovered = crashed.store.recover(&crashed.signer).unwrap();
    let result = |folder| &recovered.iter().find(|one| &one.folder == folder).unwrap().result;
    assert!(result(&copy).as_ref().unwrap_err().to_string().contains("manifest.json"));
    assert!(result(&other).is_ok());
    assert_eq!(verify(&other, &crashed.signer.public_key(), None).problems, []);
}

#[tokio::test]
async fn a_recording_that_nobody_closed_is_kept_unsealed_with_all_that_was_said() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    let event = sallyport_recorder::Event::Shell { channel: 4 };
    recording.event(event).await.unwrap();
    let mut checkpoints = recording.checkpoints();
    drop(recording);
    // The writer's end closes the channel.
    while checkpoints.changed().await.is_ok() {}
    assert_eq!(RecordingReader::open(&folder).unwrap().manifest().state, State::Open);
    let recovered = world.store.recover(&world.signer).unwrap();
    recovered[0].result.as_ref().unwrap();
    let seal = RecordingReader::open(&folder).unwrap().manifest().seal.clone().unwrap();
    assert_eq!(seal.end.outcome, Outcome::Interrupted);
    assert!(everything(&folder).iter().any(|entry| entry.contains("Shell { channel: 4 }")));
}

#[tokio::test]
async fn an_empty_folder_is_cleared_away() {
    let world = World::new();
    let folder = world.root().join("2026-01-02").join(support::header().id.to_string());
    fs::create_dir_all(&folder).unwrap();
    assert!(world.store.recover(&world.signer).unwrap().is_empty());
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_folder_that_never_got_its_manifest_is_cleared_away() {
    let world = World::new();
    let folder = world.root().join("2026-01-02").join(support::header().id.to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json.next"), "{").unwrap();
    assert!(world.store.recover(&world.signer).unwrap().is_empty());
    assert!(!folder.exists());
}
