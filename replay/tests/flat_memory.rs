//! A session of 200 MB is played, sought through and exported in flat memory.
//!
//! A program of its own, because it measures the whole process.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, reason = "this test needs one kind of recording only")]
mod made;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::{OutputStream, TerminalHeader};
use sallyport_replay::export::{Format, export};
use sallyport_replay::player::{Action, Options, Player, Seek};

/// Bytes of output in the recording.
const SIZE: usize = 200 << 20;
/// Bytes that showing it may take at most, at any time.
const FLAT: u64 = 64 << 20;

/// A figure of this process in bytes, as Linux counts it.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// What was used at most while `work` was done, beyond what was in use before.
fn peak(work: impl FnOnce()) -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    work();
    memory("VmHWM:").saturating_sub(before)
}

#[test]
fn two_hundred_megabytes_take_no_more_memory_than_two() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let made = runtime.block_on(made::record(async |recording| {
        let line = "\x1b[32m12:00:00\x1b[0m a line of a log that is long enough to be one, and then some\r\n";
        let piece = Bytes::from(line.repeat((64 << 10) / line.len()));
        let header = TerminalHeader { width: 120, height: 40, term: "xterm".into(), ..TerminalHeader::default() };
        let terminal = recording.terminal(0, header).await.unwrap();
        let output = recording.output(1, OutputStream::Stdout).await.unwrap();
        for _ in 0..SIZE / piece.len() / 2 {
            terminal.output(&piece).await.unwrap();
            output.output(&piece).await.unwrap();
        }
    }));
    drop(runtime);
    let reel = made.reel();

    let playing = peak(|| {
        let mut player = Player::new(&reel, Options::default(), Duration::ZERO).unwrap();
        for seek in [Seek::End, Seek::Tenth(3), Seek::Tenth(8), Seek::Tenth(5)] {
            player.act(Action::Seek(seek)).unwrap();
            while player.status().seeking.is_some() {
                player.tick(Duration::ZERO).unwrap();
            }
        }
    });
    assert!(playing < FLAT, "playing took {} MB", playing >> 20);

    for format in [Format::Text, Format::JsonLines, Format::Cast] {
        let exporting = peak(|| export(&reel, format, None, &mut io::sink()).unwrap());
        assert!(exporting < FLAT, "exporting {format:?} took {} MB", exporting >> 20);
        eprintln!("exporting {format:?}: {} MB at most", exporting >> 20);
    }
    eprintln!("playing: {} MB at most", playing >> 20);
}
