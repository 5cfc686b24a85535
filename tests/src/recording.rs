//! What a session left: listed, shown, replayed, exported, verified; after a kill and on a full disk as well.

use e2e::{Setup, Terminal, World, run, wait_until};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One interactive session of alice's that printed `marker-` and a number, and left.
fn interactive(world: &World) -> String {
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.arg("ubuntu@web1");
    let terminal = Terminal::new(world.folder(), &command);
    terminal.wait_for("$");
    terminal.enter("echo marker-$((40 + 2))");
    terminal.wait_for("marker-42");
    terminal.enter("exit");
    the_session(world)
}

/// The id of the world's one session, once it has ended.
fn the_session(world: &World) -> String {
    let mut id = String::new();
    wait_until("the session has ended", || {
        let sessions = sessions(world, &[]);
        assert!(sessions.len() <= 1, "{sessions:?}");
        sessions.first().is_some_and(|session| {
            id = session["id"].as_str().unwrap().to_owned();
            !session["ended"].is_null()
        })
    });
    id
}

fn sessions(world: &World, filters: &[&str]) -> Vec<serde_json::Value> {
    let listed = world.sallyport(&[&["sessions", "ls", "--json"], filters].concat()).ok();
    serde_json::from_str(&listed).unwrap()
}

fn folder_of(world: &World, id: &str) -> PathBuf {
    let mut find = Command::new("find");
    find.arg(world.operator()).args(["-type", "d", "-name", id]);
    PathBuf::from(run(find, b"").ok().trim())
}

#[test]
fn a_session_is_listed_shown_replayed_exported_and_verified() {
    let world = World::new();
    let id = interactive(&world);
    let listed = world.sallyport(&["sessions", "ls"]).ok();
    for word in ["alice@example.com", "web1", "ubuntu"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    assert_eq!(sessions(&world, &["--caller", "alice@example.com", "--target", "web1"]).len(), 1);
    assert_eq!(sessions(&world, &["--caller", "bob@example.com"]).len(), 0);
    assert_eq!(sessions(&world, &["--target", "web2"]).len(), 0);
    let shown = world.sallyport(&["sessions", "show", &id]).ok();
    for word in ["alice@example.com", "laptop", "web1", "ubuntu", "ssh[0]"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let text = world.sallyport(&["export", &id, "--format", "text"]).ok();
    assert!(text.contains("marker-42"), "{text}");
    let lines = world.sallyport(&["export", &id, "--format", "jsonl"]).ok();
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines}");
    assert!(lines.contains("marker-42"));
    let verified = world.sallyport(&["verify", &id]).ok();
    assert!(verified.contains("intact, and signed by this gateway"), "{verified}");
    let replayed = world.sallyport(&["replay", &id[..13], "--speed", "1000"]).ok();
    assert!(replayed.contains("marker-42"), "{replayed}");
}

#[test]
fn stock_zstd_and_asciinema_play_the_cast() {
    let world = World::new();
    let id = interactive(&world);
    let folder = folder_of(&world, &id);
    let mut zstd = Command::new("zstd");
    zstd.args(["-dc"]).arg(folder.join("terminal-0.cast.zst"));
    let raw = run(zstd, b"").ok();
    let exported = world.sallyport(&["export", &id, "--format", "cast"]).ok();
    for (name, cast) in [("stock zstd", raw), ("export", exported)] {
        let header: serde_json::Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&header["version"], &header["width"], &header["height"]),
            (&2.into(), &80.into(), &24.into()),
            "{name}"
        );
        let file = world.folder().join("x.cast");
        std::fs::write(&file, cast).unwrap();
        if e2e::has_peer("asciinema") {
            let mut play = Command::new("asciinema");
            play.args(["play", "-i", "0.01", "-s", "100"])
                .arg(&file)
                .env("LC_ALL", "C.UTF-8")
                .env("HOME", world.folder());
            let terminal = Terminal::new(world.folder(), &keep_open(&play));
            terminal.wait_for("marker-42");
        }
    }
}

#[test]
fn replay_in_a_terminal_pauses_steps_and_quits() {
    let world = World::new();
    let id = interactive(&world);
    let terminal = Terminal::new(world.folder(), &keep_open(&world.command(&["replay", &id, "--idle-limit", "0.1"])));
    terminal.wait_for("marker-42");
    terminal.press("q");
    terminal.wait_for("left");
}

#[test]
fn an_exec_is_recorded_byte_for_byte_each_stream_apart() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let done = alice.ssh(&["ubuntu@web1", "head -c 3000000 /dev/zero; echo to-error >&2; exit 3"]);
    assert_eq!((done.code, done.stdout.len()), (3, 3_000_000));
    let id = the_session(&world);
    let folder = folder_of(&world, &id);
    let stream = |name: &str| {
        let mut zstd = Command::new("zstd");
        zstd.arg("-dc").arg(folder.join(name));
        run(zstd, b"").stdout
    };
    assert!(stream("channel-0.stdout.zst") == vec![0; 3_000_000]);
    assert_eq!(stream("channel-0.stderr.zst"), b"to-error\n");
    let timeline = String::from_utf8(stream("timeline.jsonl.zst")).unwrap();
    assert!(timeline.contains("head -c 3000000 /dev/zero"), "{timeline}");
    let _whole = world.sallyport(&["verify", &id]).ok();
}

#[test]
fn a_changed_byte_a_missing_file_and_a_cut_tail_are_each_found() {
    let world = World::new();
    let id = interactive(&world);
    let folder = folder_of(&world, &id);
    let cast = folder.join("terminal-0.cast.zst");
    let whole = std::fs::read(&cast).unwrap();
    let mut changed = whole.clone();
    let last = changed.len() - 5;
    changed[last] ^= 1;
    std::fs::write(&cast, &changed).unwrap();
    let said = world.sallyport(&["verify", &id]).failed();
    assert!(said.contains("terminal-0.cast.zst") && said.contains("byte"), "{said}");
    std::fs::write(&cast, &whole[..whole.len() - 1]).unwrap();
    let said = world.sallyport(&["verify", &id]).failed();
    assert!(said.contains("terminal-0.cast.zst"), "{said}");
    std::fs::remove_file(&cast).unwrap();
    let said = world.sallyport(&["verify", &id]).failed();
    assert!(said.contains("terminal-0.cast.zst") && said.contains("missing"), "{said}");
    std::fs::write(&cast, &whole).unwrap();
    let _whole = world.sallyport(&["verify", &id]).ok();
}

#[test]
fn a_killed_gateway_leaves_a_recording_that_plays_and_is_marked_interrupted() {
    let mut world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let talk = alice.talk(&[
        "-tt",
        "ubuntu@web1",
        "for i in $(seq 1 100); do echo tick-$i; sleep 0.05; done; echo up; sleep 3456789",
    ]);
    talk.expect("up");
    // Durable within a second: what stands on the disk is all that counts after the kill.
    let id = sessions(&world, &[])[0]["id"].as_str().unwrap().to_owned();
    let folder = folder_of(&world, &id);
    wait_until("the recording holds the last line", || on_disk(&folder).contains("up\\r\\n"));
    world.stop(Signal::SIGKILL);
    assert!(on_disk(&folder).contains("tick-99"), "it plays as it lies there, before any restart");
    world.up();
    let session = &sessions(&world, &[])[0];
    assert_eq!(session["outcome"], "interrupted", "{session}");
    let text = world.sallyport(&["export", &id, "--format", "text"]).ok();
    assert!(text.contains("tick-99"), "{text}");
    assert!(world.sallyport(&["sessions", "show", &id]).ok().contains("interrupted"));
    let _to_the_cut = world.sallyport(&["verify", &id]).ok();
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo again"]).ok(), "again\n");
}

#[test]
fn a_full_disk_ends_the_session_with_its_reason_at_the_client() {
    let disk = SmallDisk::new();
    let world = World::start(Setup { recordings: disk.0.path().display().to_string(), ..Setup::default() });
    let alice = world.caller("alice@example.com", "laptop");
    let done = alice.ssh(&["-tt", "ubuntu@web1", "head -c 60000000 /dev/urandom | base64; sleep 4567890"]);
    assert_eq!(done.code, 255);
    let said = done.text() + &done.stderr;
    assert!(said.contains("recording"), "the reason: {}", said.chars().rev().take(600).collect::<String>());
    assert!(!world.web1.runs("sleep 4567890"));
    let refused = alice.ssh(&["ubuntu@web1", "echo in"]);
    assert!(refused.code == 255 && refused.text().is_empty(), "no session without a recording: {}", refused.stderr);
}

/// What stock zstd makes of a recording that is still being written, or was cut.
fn on_disk(folder: &Path) -> String {
    let mut zstd = Command::new("zstd");
    zstd.arg("-dcq").arg(folder.join("terminal-0.cast.zst"));
    run(zstd, b"").text()
}

/// A command that leaves the terminal standing when `command` has ended.
fn keep_open(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\"; echo left; sleep 60", "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell
}

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path());
        let _mounted = run(mount, b"").ok();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_already = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}
