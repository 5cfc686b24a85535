//! Whatever is changed in a sealed recording, `verify` says where.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may unwrap and index")]

mod support;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use sallyport_recorder::{ProblemKind, Verification, scan::Scan, segment::SegmentHeader, verify};
use support::{World, left_behind, signer, stream_files, unsealed};

async fn sealed() -> (World, PathBuf) {
    let world = World::new();
    let (recording, folder, _) = unsealed(&world).await;
    recording.close(world.end()).await.unwrap();
    (world, folder)
}

fn check(folder: &Path) -> Verification {
    verify(folder, &signer().public_key(), None)
}

fn kinds(found: &Verification) -> Vec<(&str, ProblemKind)> {
    found.problems.iter().map(|problem| (problem.file.as_str(), problem.kind)).collect()
}

/// Where the segments of a file begin and end.
fn segments(file: &Path) -> Vec<(u64, u64)> {
    let mut scan = Scan::open(file).unwrap();
    std::iter::from_fn(|| scan.next_segment().unwrap()).map(|found| (found.at, found.end)).collect()
}

fn flip(file: &Path, at: usize, mask: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= mask;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_whole_recording_has_no_problems() {
    let (_world, folder) = sealed().await;
    let found = check(&folder);
    assert_eq!(found.problems, []);
    assert!(found.segments >= 9);
    assert_eq!(found.bytes, stream_files(&folder).iter().map(|file| file.metadata().unwrap().len()).sum::<u64>());
}

#[tokio::test]
async fn a_flipped_byte_is_named_exactly() {
    let (_world, folder) = sealed().await;
    for file in stream_files(&folder) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        for at in (0..length).step_by(length / 40 + 1).chain(0..8).chain([28, 30, 150, length - 1]) {
            flip(&file, at, 0x41);
            let found = check(&folder);
            flip(&file, at, 0x41);
            let [problem] = found.problems.as_slice() else { panic!("{name} at {at}: {:?}", found.problems) };
            assert_eq!((problem.file.as_str(), problem.byte, problem.length), (name, at as u64, 1));
            assert_eq!(problem.kind, ProblemKind::Wrong);
            assert!(problem.to_string().contains(&format!("byte {at} of segment")), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_cut_tail_is_named_even_between_two_segments() {
    let (_world, folder) = sealed().await;
    for file in stream_files(&folder) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (last, end) = *segments(&file).last().unwrap();
        for cut in [last, last + 1, last + 100, end - 1] {
            let (_copied, copy) = left_behind(&folder);
            OpenOptions::new().write(true).open(copy.join(name)).unwrap().set_len(cut).unwrap();
            let found = check(&copy);
            let [problem] = found.problems.as_slice() else { panic!("{name} cut at {cut}: {:?}", found.problems) };
            assert_eq!((problem.file.as_str(), problem.kind, problem.byte), (name, ProblemKind::Cut, cut));
        }
    }
}

#[tokio::test]
async fn a_segment_taken_out_is_missed() {
    let (_world, folder) = sealed().await;
    let file = folder.join("timeline.jsonl.zst");
    let (from, to) = segments(&file)[1];
    let mut bytes = fs::read(&file).unwrap();
    bytes.drain(usize::try_from(from).unwrap()..usize::try_from(to).unwrap());
    fs::write(&file, bytes).unwrap();
    let found = check(&folder);
    assert!(
        found.problems.iter().any(|problem| problem.kind == ProblemKind::Missing && problem.byte == from),
        "{found:?}"
    );
}

#[tokio::test]
async fn segments_in_another_order_are_out_of_place() {
    let (_world, folder) = sealed().await;
    let file = folder.join("timeline.jsonl.zst");
    let places = segments(&file);
    let bytes = fs::read(&file).unwrap();
    let piece = |at: usize| &bytes[usize::try_from(places[at].0).unwrap()..usize::try_from(places[at].1).unwrap()];
    let swapped: Vec<&[u8]> = [0, 2, 1].into_iter().chain(3..places.len()).map(piece).collect();
    fs::write(&file, swapped.concat()).unwrap();
    let found = check(&folder);
    assert!(found.problems.iter().any(|problem| problem.kind == ProblemKind::OutOfPlace), "{found:?}");
}

#[tokio::test]
async fn a_file_that_is_gone_or_too_many_is_named() {
    let (_world, folder) = sealed().await;
    fs::remove_file(folder.join("channel-1.stdout.zst")).unwrap();
    fs::write(folder.join("notes.txt"), "hello").unwrap();
    let found = check(&folder);
    assert!(kinds(&found).contains(&("channel-1.stdout.zst", ProblemKind::Missing)));
    assert!(kinds(&found).contains(&("notes.txt", ProblemKind::ExtraFile)));
}

#[tokio::test]
async fn a_stream_of_another_session_is_out_of_place() {
    let (_world, folder) = sealed().await;
    let (_other_world, other) = sealed().await;
    fs::copy(other.join("terminal-0.cast.zst"), folder.join("terminal-0.cast.zst")).unwrap();
    assert!(kinds(&check(&folder)).contains(&("terminal-0.cast.zst", ProblemKind::OutOfPlace)));
}

#[tokio::test]
async fn a_changed_manifest_is_not_signed() {
    let (_world, folder) = sealed().await;
    let path = folder.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("alice@example.com", "bob@example.com")).unwrap();
    assert!(kinds(&check(&folder)).contains(&("manifest.json", ProblemKind::BadSignature)));
    fs::write(&path, &text[1..]).unwrap();
    assert!(kinds(&check(&folder)).contains(&("manifest.json", ProblemKind::Wrong)));
    fs::remove_file(&path).unwrap();
    assert!(kinds(&check(&folder)).contains(&("manifest.json", ProblemKind::Missing)));
}

#[tokio::test]
async fn another_key_does_not_verify() {
    let (_world, folder) = sealed().await;
    let other = ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key();
    assert_eq!(kinds(&verify(&folder, &other, None)), [("manifest.json", ProblemKind::BadSignature)]);
}

#[tokio::test]
async fn a_checkpoint_shows_that_an_unsealed_recording_lost_its_tail() {
    let world = World::new();
    let (_recording, folder, noted) = unsealed(&world).await;
    let key = signer().public_key();
    assert_eq!(kinds(&verify(&folder, &key, Some(&noted))), [("manifest.json", ProblemKind::Unsealed)]);
    let (_copied, copy) = left_behind(&folder);
    for file in stream_files(&copy) {
        let (last, _) = *segments(&file).last().unwrap();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(last).unwrap();
    }
    let without = verify(&copy, &key, None);
    assert_eq!(kinds(&without), [("manifest.json", ProblemKind::Unsealed)], "the tail alone does not show it");
    let with = verify(&copy, &key, Some(&noted));
    assert!(kinds(&with).contains(&("manifest.json", ProblemKind::CheckpointMismatch)));
}

#[test]
fn no_change_goes_unnoticed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_world, folder) = runtime.block_on(sealed());
    let files = stream_files(&folder);
    let mut config = ProptestConfig::with_cases(60);
    config.failure_persistence = None;
    let change = (0..files.len(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40), 0..60_usize);
    proptest!(config, |((file, at, insert, remove) in change)| {
        let path = &files[file];
        let before = fs::read(path).unwrap();
        let at = at.index(before.len());
        let mut after = before.clone();
        after.splice(at..(at + remove).min(before.len()), insert);
        fs::write(path, &after).unwrap();
        let found = check(&folder);
        fs::write(path, &before).unwrap();
        prop_assert_eq!(found.is_ok(), after == before, "{:?}", found.problems);
        let name = path.file_name().unwrap().to_str().unwrap();
        prop_assert!(after == before || found.problems.iter().any(|problem| problem.file == name));
    });
}

/// Bytes that this thread has read from files so far.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_file_full_of_beginnings_is_read_once_and_not_from_each_of_them_on() {
    let (_world, folder) = sealed().await;
    let file = folder.join("terminal-0.cast.zst");
    let mut bytes = fs::read(&file).unwrap();
    // The frame says that it is as long as any, and its name and version are right.
    let beginning = [&bytes[..4], &20_000_u32.to_le_bytes(), &bytes[8..14], &[1, 0]].concat();
    let junk = beginning.repeat((2 << 20) / beginning.len());
    let from = bytes.len() as u64;
    bytes.extend(&junk);
    fs::write(&file, &bytes).unwrap();
    let before = bytes_read();
    let found = check(&folder);
    let read = bytes_read() - before;
    assert!(read < 4 * bytes.len() as u64, "{read} bytes were read of {}", bytes.len());
    assert!(
        found.problems.iter().any(|problem| problem.byte == from && problem.kind == ProblemKind::Wrong),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_wreck_is_not_searched_for_each_wrong_byte_of_it() {
    let (_world, folder) = sealed().await;
    let file = folder.join("channel-1.stdout.zst");
    let mut scan = Scan::open(&file).unwrap();
    let first = scan.next_segment().unwrap().unwrap();
    let mut data = scan.data(&first).unwrap();
    data[0] ^= 1;
    // Headers that hold, each with data behind it of which one byte is wrong.
    let header = |seq: u64| SegmentHeader { seq, ..first.linked.header.clone() }.encode().0;
    let wreck: Vec<u8> = (0..500).flat_map(|seq| [header(seq), data.clone()].concat()).collect();
    fs::write(&file, &wreck).unwrap();
    let found = check(&folder);
    let exact = found.problems.iter().filter(|problem| problem.kind == ProblemKind::Wrong && problem.length == 1);
    let exact = exact.count();
    assert!((1..=32).contains(&exact), "{exact} bytes were searched for");
}
