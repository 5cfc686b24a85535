//! A session of very many channels is read, verified and recovered in a time that grows as they do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may unwrap and index")]

mod support;

use std::{fs, path::PathBuf};

use sallyport_recorder::{
    End, Event, Hash, Head, Manifest, Outcome, Seal, State, StreamId, StreamTotal,
    read::RecordingReader,
    segment::{SegmentHeader, block_sums},
    verify,
};
use support::{World, header, signer};

/// A sealed recording of so many streams of two segments each.
fn crowd(world: &World, streams: u32) -> PathBuf {
    let header = header();
    let folder = world.store.folder(&header);
    fs::create_dir_all(&folder).unwrap();
    let content = b"output";
    let packed = zstd::bulk::compress(content, 3).unwrap();
    let mut hash = Hash::of(&[b"sallyport recording chain v1\n", &serde_json::to_vec(&header).unwrap()]);
    let mut files = vec![Vec::new(); usize::try_from(streams).unwrap()];
    for seq in 0..u64::from(streams) * 2 {
        let number = u32::try_from(seq).unwrap() % streams;
        let segment = SegmentHeader {
            session: header.id,
            stream: StreamId::Stdout(number),
            seq,
            prev: hash,
            data: Hash::of(&[&packed]),
            offset: seq / u64::from(streams) * content.len() as u64,
            length: u32::try_from(content.len()).unwrap(),
            packed: u32::try_from(packed.len()).unwrap(),
            first_us: seq,
            last_us: seq,
            marks: vec![],
            blocks: block_sums(&packed),
        };
        let (frame, link) = segment.encode();
        files[usize::try_from(number).unwrap()].extend([frame.as_slice(), &packed].concat());
        hash = link;
    }
    let mut totals = vec![];
    for (number, bytes) in (0..).zip(&files) {
        let file = StreamId::Stdout(number).to_string();
        fs::write(folder.join(&file), bytes).unwrap();
        totals.push(StreamTotal { file, segments: 2, bytes: bytes.len() as u64, content: 2 * content.len() as u64 });
    }
    totals.sort_by(|a, b| a.file.cmp(&b.file));
    let end = End { outcome: Outcome::Completed, reason: String::new(), at: header.started };
    let seal = Seal { end, duration_ms: 1, streams: totals, head: Head { segments: u64::from(streams) * 2, hash } };
    let manifest = Manifest::open(header).sealed(seal, &signer()).unwrap();
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    folder
}

/// How long this thread had a processor so far, in nanoseconds.
fn on_processor() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// By how much more work eight times as many streams are; 64 times, where it grows by the square.
fn growth(work: impl Fn(&World, &PathBuf, u32)) -> f64 {
    let cost = |streams| {
        let world = World::new();
        let folder = crowd(&world, streams);
        let before = on_processor();
        work(&world, &folder, streams);
        (on_processor() - before) as f64
    };
    let (few, many) = (1_000, 8_000);
    cost(many) / cost(few)
}

#[test]
fn reading_grows_as_the_streams_do() {
    let growth = growth(|_, folder, streams| {
        let reader = RecordingReader::open(folder).unwrap();
        assert_eq!(reader.entries().map(Result::unwrap).count(), 2 * streams as usize);
    });
    assert!(growth < 20.0, "{growth:.1} times as much work");
}

#[test]
fn verifying_grows_as_the_streams_do() {
    let growth = growth(|_, folder, _| {
        assert_eq!(verify(folder, &signer().public_key(), None).problems, []);
    });
    assert!(growth < 20.0, "{growth:.1} times as much work");
}

#[test]
fn recovering_grows_as_the_streams_do() {
    let growth = growth(|world, folder, _| {
        let reader = RecordingReader::open(folder).unwrap();
        let manifest = Manifest { state: State::Open, seal: None, signature: None, ..reader.manifest().clone() };
        fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let recovered = world.store.recover(&signer()).unwrap();
        assert_eq!(recovered[0].result.as_ref().unwrap().cut, 0);
        let reader = RecordingReader::open(folder).unwrap();
        assert!(
            reader
                .entries()
                .any(|entry| matches!(entry.unwrap().item, sallyport_recorder::read::Item::Event(Event::End { .. })))
        );
    });
    assert!(growth < 20.0, "{growth:.1} times as much work");
}
