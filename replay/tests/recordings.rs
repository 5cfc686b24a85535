//! Replays, exports and summaries of recordings that the recorder made.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod made;
#[path = "../../tests/src/skip.rs"]
mod skip;

use std::process::Command;
use std::time::Duration;

use made::{exec, record, shell};
use sallyport_recorder::Event;
use sallyport_replay::Failure;
use sallyport_replay::export::{Format, export, plain};
use sallyport_replay::moment::{Change, Moment, Source};
use sallyport_replay::player::{Action, Options, Player, Seek, View};
use sallyport_replay::reel::Reel;
use sallyport_replay::show::Summary;
use sallyport_replay::verify::verify;

const HOSTILE: &str = "\x1b]52;c;cm0gLXJm\x07\u{9b}5n\u{202e}\x1b[6n";

fn exported(reel: &Reel, format: Format, terminal: Option<u32>) -> String {
    let mut out = Vec::new();
    export(reel, format, terminal, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn acts(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}')
}

#[tokio::test]
async fn a_shell_is_played_and_exported_as_it_stood() {
    let made = record(async |recording| {
        shell(recording, 0, &["$ lz\x08s\r\n", "\x1b[34mbin\x1b[0m  etc\r\n", HOSTILE, "$ exit\r\n"]).await;
    })
    .await;
    let reel = made.reel();
    let text = exported(&reel, Format::Text, None);
    assert_eq!(text, "$ ls\nbin  etc\n\u{fffd}$ exit\n");

    let mut player = Player::new(&reel, Options::default(), Duration::ZERO).unwrap();
    player.act(Action::Seek(Seek::End)).unwrap();
    assert_eq!(player.view(), View::Terminal(0));
    let screen = player.stage().terminal(0).unwrap().screen().text();
    assert_eq!(screen.first().unwrap(), "$ ls");
    let timeline: Vec<_> = player.stage().timeline().map(|line| line.split_once("  ").unwrap().1).collect();
    assert!(
        timeline.contains(&"#0 shell") && timeline.contains(&"end: completed, both sides were done"),
        "{timeline:?}"
    );

    let mut written = Vec::new();
    plain(&reel, &mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), text);
}

#[tokio::test]
async fn asciinema_plays_an_exported_cast() {
    let pieces = ["$ printf '\\342\\206\\222'\r\n→\r\n", "\x1b[1mbold\x1b[0m \u{9b}31m\r\n", "日本\r\n"];
    let made = record(async |recording| shell(recording, 0, &pieces).await).await;
    let cast = exported(&made.reel(), Format::Cast, None);
    assert!(!acts(&cast), "{cast:?}");
    let file = made.folder.join("exported.cast");
    std::fs::write(&file, &cast).unwrap();
    if Command::new("asciinema").arg("--version").output().is_err() {
        skip::skip("asciinema");
        return;
    }
    // asciinema insists on a terminal of its own, which script(1) gives it.
    let cat = format!("asciinema cat {}", file.display());
    let played = Command::new("script").args(["-qec", &cat, "/dev/null"]).env("LC_ALL", "C.UTF-8").output().unwrap();
    let played = String::from_utf8(played.stdout).unwrap().replace("\r\r\n", "\r\n");
    assert_eq!(played, pieces.concat());
}

#[tokio::test]
async fn a_cast_of_one_terminal_needs_to_be_chosen_among_several() {
    let two = record(async |recording| {
        shell(recording, 0, &["zero\r\n"]).await;
        shell(recording, 1, &["one\r\n"]).await;
    })
    .await;
    let refused = export(&two.reel(), Format::Cast, None, &mut Vec::new());
    assert!(matches!(refused, Err(Failure::SeveralTerminals(2))), "{refused:?}");
    assert!(exported(&two.reel(), Format::Cast, Some(1)).contains(r#""o","one\r\n""#));
    assert_eq!(exported(&two.reel(), Format::Text, None), "── terminal 0 ──\nzero\n── terminal 1 ──\none\n");
    let refused = export(&two.reel(), Format::Text, Some(7), &mut Vec::new());
    assert!(matches!(refused, Err(Failure::UnknownTerminal { number: 7, have: 2 })), "{refused:?}");
    let none = record(async |recording| exec(recording, 0, "id", b"root\n", b"").await).await;
    let refused = export(&none.reel(), Format::Cast, None, &mut Vec::new());
    assert!(matches!(refused, Err(Failure::NoTerminal)), "{refused:?}");
}

#[tokio::test]
async fn a_command_is_shown_as_a_timeline() {
    let made = record(async |recording| {
        exec(recording, 4, "make\x1b[2J", b"one\ttwo\nthree", format!("{HOSTILE}\n").as_bytes()).await;
        recording.event(Event::Refused { channel: None, what: "agent".into(), why: "no rule".into() }).await.unwrap();
    })
    .await;
    let mut written = Vec::new();
    plain(&made.reel(), &mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    assert!(!acts(&written), "{written:?}");
    let lines: Vec<&str> =
        written.lines().map(|line| line.trim_start().split_once("  ").map_or("", |(_, rest)| rest)).collect();
    for expected in ["#4 exec make\\e[2J", "  #4 │ one\\ttwo", "#4 exit 3", "REFUSED agent: no rule"] {
        assert!(lines.contains(&expected), "{expected:?} is not in {lines:?}");
    }
    assert!(written.contains("#4 │ three"), "a line without its end is shown: {written}");
    assert!(exported(&made.reel(), Format::Text, None).starts_with("one\ttwo\n"));
}

#[tokio::test]
async fn json_lines_hold_everything_with_absolute_times() {
    let made = record(async |recording| {
        shell(recording, 0, &["hi\u{9b}\r\n"]).await;
        exec(recording, 1, "cat x", b"\xff\x00", b"text").await;
    })
    .await;
    let lines = exported(&made.reel(), Format::JsonLines, None);
    assert!(!acts(&lines), "{lines:?}");
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(find("terminal_output")[0]["text"], "hi\u{9b}\r\n");
    assert_eq!(find("terminal_start")[0]["header"]["width"], 80);
    assert_eq!(find("exec")[0]["command"], "cat x");
    let outputs = find("output");
    assert!(outputs.iter().any(|line| line["base64"] == "/wA=" && line["stream"] == "stdout"), "{outputs:?}");
    assert!(outputs.iter().any(|line| line["text"] == "text" && line["stream"] == "stderr"), "{outputs:?}");
    for line in &lines {
        let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        let started: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let at = started + Duration::from_millis(line["at_ms"].as_u64().unwrap());
        assert_eq!(time, at);
    }
}

#[tokio::test]
async fn a_summary_tells_what_the_recording_knows() {
    let made = record(async |recording| {
        shell(recording, 0, &["hi\r\n"]).await;
        exec(recording, 1, "uname -a\x1b]0;x\x07", b"Linux\n", b"").await;
        let refused =
            Event::ForwardRefused { kind: "local".into(), address: "localhost:80".into(), why: "no rule".into() };
        recording.event(refused).await.unwrap();
    })
    .await;
    let summary = Summary::of(&made.reel());
    let text = summary.to_string();
    for expected in [
        "recording  sealed, ",
        "#0 shell in terminal 0 (80×24) · exit 0 · 12 B in, 3.5 kB out",
        "#1 exec uname -a\\e]0;x\\x07 · exit 3",
        "REFUSED local forward to localhost:80: no rule",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!acts(&text));
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["state"], "sealed");
    assert_eq!(json["channels"]["1"]["exit"], "exit 3");
}

#[tokio::test]
async fn a_damaged_stream_does_not_hold_back_the_others() {
    let made = record(async |recording| {
        shell(recording, 0, &["whole\r\n"]).await;
        exec(recording, 1, "id", &vec![b'x'; 100_000], b"").await;
    })
    .await;
    let file = made.folder.join("channel-1.stdout.zst");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let reel = made.reel();
    let moments: Vec<Moment> = (&reel).moments(Duration::ZERO).unwrap().map(Result::unwrap).collect();
    let noted =
        |part: &str| moments.iter().any(|moment| matches!(&moment.change, Change::Noted(text) if text.contains(part)));
    assert!(noted("DAMAGED: channel-1.stdout.zst"), "{moments:?}");
    assert!(noted("#1 exit 3"));
    assert!(moments.iter().any(|moment| matches!(&moment.change, Change::Printed { text, .. } if text == "whole\r\n")));
}

#[tokio::test]
async fn reading_from_a_time_on_gives_what_reading_all_gives() {
    let made = record(async |recording| {
        let filler = "x".repeat(200_000);
        for number in 0..8 {
            shell(recording, number, &[&filler, "end\r\n"]).await;
            exec(recording, 100 + number, "id", filler.as_bytes(), b"err").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let reel = made.reel();
    let all: Vec<Moment> = (&reel).moments(Duration::ZERO).unwrap().map(Result::unwrap).collect();
    assert!(all.len() > 60 && (&reel).length() > Duration::from_millis(100));
    for tenth in 0..=10 {
        let from = (&reel).length() * tenth / 10;
        let from = Duration::from_millis(u64::try_from(from.as_millis()).unwrap());
        let rest: Vec<Moment> = (&reel).moments(from).unwrap().map(Result::unwrap).collect();
        let expected: Vec<Moment> = all.iter().filter(|moment| moment.at >= from).cloned().collect();
        assert_eq!(rest.len(), expected.len(), "from {from:?}");
        assert!(rest == expected, "from {from:?}");
    }
}

#[tokio::test]
async fn verify_names_the_byte_of_the_segment_of_the_file() {
    let made = record(async |recording| shell(recording, 0, &["whole\r\n"]).await).await;
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    let report = verify(&made.folder, &key, None).unwrap();
    assert!(report.ok, "{report}");
    assert!(report.to_string().starts_with("intact, and signed by this gateway: "), "{report}");

    let file = made.folder.join("terminal-0.cast.zst");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::fs::write(made.folder.join("x\x1b[2J"), "").unwrap();
    let report = verify(&made.folder, &key, None).unwrap();
    let text = report.to_string();
    assert!(!report.ok && text.contains("terminal-0.cast.zst: ") && text.contains(" of segment "), "{text}");
    assert!(text.contains("x\\e[2J") && !acts(&text), "{text:?}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["ok"], json["problems"].as_array().unwrap().len()), (&false.into(), 2));

    let gone = verify(&made.folder.join("nowhere"), &key, None);
    assert!(matches!(gone, Err(Failure::Recording(_))), "{gone:?}");
}
