//! What is recorded can be read back: by this crate, and by the tools that everyone has.
#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::{
    End, Event, Outcome, OutputStream, State, StreamId, TerminalHeader,
    read::{Item, RecordingReader},
};
use support::{World, content};

fn vim() -> TerminalHeader {
    TerminalHeader {
        width: 80,
        height: 24,
        term: "xterm-256color".into(),
        command: None,
        requested: "ubuntu".into(),
        account: "ubuntu".into(),
    }
}

#[tokio::test]
async fn everything_comes_back_in_order() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    let exec = Event::Exec { channel: 1, command: "cat /etc/motd".into() };
    let terminal = recording.terminal(0, vim()).await.unwrap();
    terminal.output(&Bytes::from_static(b"caf\xc3")).await.unwrap();
    terminal.output(&Bytes::from_static(b"\xa9 \"quoted\"\r\n")).await.unwrap();
    terminal.resize(120, 40).await.unwrap();
    recording.event(exec.clone()).await.unwrap();
    let stdout = recording.output(1, OutputStream::Stdout).await.unwrap();
    let stderr = recording.output(1, OutputStream::Stderr).await.unwrap();
    stdout.output(&Bytes::from_static(b"out\x00\xff")).await.unwrap();
    stderr.output(&Bytes::from_static(b"err")).await.unwrap();
    let sealed = recording.close(world.end()).await.unwrap();

    let reader = RecordingReader::open(&folder).unwrap();
    assert_eq!(reader.manifest().state, State::Sealed);
    assert_eq!(reader.manifest().seal.as_ref().unwrap().head, sealed.head);
    assert!(reader.manifest().is_signed_by(&world.signer.public_key()));
    let items: Vec<Item> = reader.entries().map(|entry| entry.unwrap().item).collect();
    let header = items.iter().find_map(|item| match item {
        Item::TerminalStart { terminal: 0, header } => Some(header.clone()),
        _ => None,
    });
    let header = header.unwrap();
    assert_eq!((header.local_user.as_str(), header.src_node_user.as_deref()), ("ubuntu", Some("alice@example.com")));
    let start = Event::Start { protocol: "ssh".into(), caller: "alice@example.com".into(), target: "web1".into() };
    let end = Event::End { outcome: Outcome::Completed, reason: "the client is done".into() };
    let expected = [
        Item::Event(start),
        Item::TerminalStart { terminal: 0, header },
        Item::TerminalOutput { terminal: 0, text: "caf".into() },
        Item::TerminalOutput { terminal: 0, text: "é \"quoted\"\r\n".into() },
        Item::Resize { terminal: 0, width: 120, height: 40 },
        Item::Event(exec),
        Item::Output { channel: 1, stream: OutputStream::Stdout, bytes: Bytes::from_static(b"out\x00\xff") },
        Item::Output { channel: 1, stream: OutputStream::Stderr, bytes: Bytes::from_static(b"err") },
        Item::Event(end),
    ];
    assert_eq!(items, expected);
}

#[tokio::test]
async fn an_event_that_is_too_long_leaves_its_beginning() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    recording.event(Event::Exec { channel: 7, command: "\u{1}".repeat(500_000) }).await.unwrap();
    recording.close(world.end()).await.unwrap();
    let entries: Vec<_> = RecordingReader::open(&folder).unwrap().entries().map(|entry| entry.unwrap().item).collect();
    let Some(Item::Event(Event::TooLong { length, begins })) = entries.get(1) else { panic!("{entries:?}") };
    assert_eq!((*length, begins.len()), (3_000_000 + r#"{"type":"exec","channel":7,"command":""}"#.len() as u64, 4096));
    assert!(begins.starts_with(r#"{"type":"exec","channel":7,"command":"\u0001"#), "{begins}");
}

#[tokio::test]
async fn megabytes_of_every_kind_come_back() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    let stdout = recording.output(0, OutputStream::Stdout).await.unwrap();
    let terminal = recording.terminal(7, vim()).await.unwrap();
    let bytes = Bytes::from(support::mixture(5 << 20));
    for chunk in bytes.chunks(32_000) {
        stdout.output(&bytes.slice_ref(chunk)).await.unwrap();
        terminal.output(&bytes.slice_ref(chunk)).await.unwrap();
    }
    recording.close(world.end()).await.unwrap();

    let (mut output, mut text, mut last) = (vec![], String::new(), 0);
    for entry in RecordingReader::open(&folder).unwrap().entries() {
        let entry = entry.unwrap();
        assert!(entry.at_ms >= last, "times run forwards");
        last = entry.at_ms;
        match entry.item {
            Item::Output { bytes, .. } => output.extend(bytes),
            Item::TerminalOutput { text: piece, .. } => text.push_str(&piece),
            _ => {}
        }
    }
    assert!(output == bytes);
    assert!(text == String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn stock_zstd_gives_exactly_what_a_command_wrote() {
    if support::missing("zstd") {
        return;
    }
    let world = World::new();
    let (recording, folder) = world.record().await;
    let stdout = recording.output(3, OutputStream::Stdout).await.unwrap();
    let bytes = Bytes::from(support::mixture(2 << 20));
    stdout.output(&bytes).await.unwrap();
    recording.close(world.end()).await.unwrap();
    assert!(content(&folder.join("channel-3.stdout.zst")) == bytes);
}

#[tokio::test]
async fn stock_asciinema_plays_a_terminal() {
    if support::missing("zstd") || support::missing("asciinema") || support::missing("script") {
        return;
    }
    let world = World::new();
    let (recording, folder) = world.record().await;
    let terminal = recording.terminal(0, vim()).await.unwrap();
    terminal.output(&Bytes::from_static(b"\x1b[1mhello\x1b[0m \xff\xfe w\xc3\xb6rld\r\n")).await.unwrap();
    terminal.resize(100, 30).await.unwrap();
    recording.close(world.end()).await.unwrap();
    let cast = folder.join("terminal-0.cast");
    std::fs::write(&cast, content(&folder.join("terminal-0.cast.zst"))).unwrap();
    // asciinema wants a terminal of its own, which `script` gives it.
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("asciinema cat {}", cast.display()), "/dev/null"]);
    let shown = script.env("HOME", world.root()).env("LC_ALL", "C.UTF-8").output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("\u{1b}[1mhello\u{1b}[0m \u{FFFD}\u{FFFD} wörld\r"), "{shown}");
}

#[tokio::test]
async fn a_cast_is_strict_asciicast_with_the_fields_of_tailscale() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    let id = recording.id();
    let terminal = recording.terminal(0, TerminalHeader { command: Some("top".into()), ..vim() }).await.unwrap();
    terminal.output(&Bytes::from_static(b"a\x07\x1b\\b")).await.unwrap();
    recording.close(world.end()).await.unwrap();
    let cast = content(&folder.join("terminal-0.cast.zst"));
    let mut lines = cast.split(|byte| *byte == b'\n');
    let header: serde_json::Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    assert_eq!((&header["width"], &header["height"]), (&80.into(), &24.into()));
    assert_eq!(header["timestamp"], "2026-01-02T03:04:05Z".parse::<jiff::Timestamp>().unwrap().as_second());
    assert_eq!(header["env"]["TERM"], "xterm-256color");
    assert_eq!(header["command"], "top");
    assert_eq!(header["srcNode"], "alice-laptop");
    assert_eq!(header["srcNodeUser"], "alice@example.com");
    assert_eq!((&header["sshUser"], &header["localUser"]), (&"ubuntu".into(), &"ubuntu".into()));
    assert_eq!(header["connectionID"], id.to_string());
    let (time, code, data): (f64, String, String) = serde_json::from_slice(lines.next().unwrap()).unwrap();
    assert!((0.0..60.0).contains(&time));
    assert_eq!((code.as_str(), data.as_str()), ("o", "a\u{7}\u{1b}\\b"));
    assert_eq!(lines.next(), Some(&b""[..]));
}

#[tokio::test]
async fn a_number_is_used_once() {
    let world = World::new();
    let (recording, _) = world.record().await;
    let first = recording.output(1, OutputStream::Stdout).await.unwrap();
    assert!(recording.output(1, OutputStream::Stdout).await.is_err());
    drop(first);
    assert!(recording.output(1, OutputStream::Stdout).await.is_err(), "nor after it has ended");
    assert!(recording.output(1, OutputStream::Stderr).await.is_ok());
}

#[tokio::test]
async fn nothing_is_recorded_after_the_close() {
    let world = World::new();
    let (recording, folder) = world.record().await;
    let other = recording.clone();
    let failure = tokio::spawn(recording.failure());
    recording.close(world.end()).await.unwrap();
    assert!(other.event(Event::Shell { channel: 0 }).await.is_err());
    assert!(other.close(End { reason: "again".into(), ..world.end() }).await.is_err());
    assert!(!failure.is_finished(), "a close is no failure");
    failure.abort();
    let reader = RecordingReader::open(&folder).unwrap();
    assert_eq!(reader.streams(), [StreamId::Timeline]);
    assert_eq!(reader.entries().count(), 2);
}

#[tokio::test]
async fn only_the_owner_can_read_a_recording() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let (recording, folder) = world.record().await;
    recording.output(0, OutputStream::Stdout).await.unwrap().output(&Bytes::from_static(b"x")).await.unwrap();
    recording.close(world.end()).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(world.root()), mode(folder.parent().unwrap()), mode(&folder)), (0o700, 0o700, 0o700));
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_recording_is_found_by_the_beginning_of_its_name() {
    let world = World::new();
    let (first, folder) = world.record().await;
    let (second, _) = world.record().await;
    let name = first.id().to_string();
    assert_eq!(world.store.find(&name).unwrap().folder, folder);
    assert_eq!(world.store.find(&name[..32]).unwrap().id, first.id());
    assert_eq!(world.store.list().unwrap().len(), 2);
    assert!(world.store.find("").unwrap_err().to_string().contains("2 recordings"));
    assert!(world.store.find("zz").is_err());
    drop(second);
}

/// Whoever was told that an event is recorded finds it there once, and whoever was not finds it never, wherever the end came.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_recorded_while_the_session_ends_is_there_exactly_once() {
    for round in 0..100_u64 {
        let world = World::new();
        let (recording, folder) = world.record().await;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let recording = recording.clone();
                tokio::spawn(async move {
                    let mut recorded = 0;
                    while recording.event(Event::ExitStatus { channel: writer, status: recorded }).await.is_ok() {
                        recorded += 1;
                        tokio::task::yield_now().await;
                    }
                    (0..recorded).map(move |status| (writer, status))
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(round * 20)).await;
        recording.close(world.end()).await.unwrap();
        let mut expected = vec![];
        for writer in writers {
            expected.extend(writer.await.unwrap());
        }
        let entries = RecordingReader::open(&folder).unwrap().entries().map(|entry| entry.unwrap().item);
        let mut found: Vec<_> = entries
            .filter_map(|item| match item {
                Item::Event(Event::ExitStatus { channel, status }) => Some((channel, status)),
                _ => None,
            })
            .collect();
        found.sort_unstable();
        let (here, told) = (found.len(), expected.len());
        assert!(found == expected, "round {round}: {here} are there, of {told} that were said to be");
    }
}
