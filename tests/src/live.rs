//! Sessions that are going on: watched by the operator alone, without holding them up, and ended.

use e2e::{PERSON, POLICY, Setup, Talk, Terminal, World, run, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

/// The ids of the sessions that are going on, the latest first.
pub(crate) fn live(world: &World) -> Vec<String> {
    let listed = world.sallyport(&["sessions", "ls", "--outcome", "live", "--json"]).ok();
    let sessions: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

/// How a session ended, once it has.
pub(crate) fn outcome(world: &World, id: &str) -> (String, String) {
    let mut shown = serde_json::Value::Null;
    wait_until("the session has ended", || {
        shown = serde_json::from_str(&world.sallyport(&["sessions", "show", id, "--json"]).ok()).unwrap();
        !shown["ended"].is_null()
    });
    let text = |key: &str| shown[key].as_str().unwrap().to_owned();
    (text("outcome"), text("reason"))
}

/// `sallyport sessions watch` in a terminal that stands still when it has ended.
pub(crate) fn watch(world: &World, arguments: &[&str]) -> Terminal {
    let command = world.command(&[&["sessions", "watch"], arguments].concat());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$@\"; echo ended with $?; sleep 60", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    Terminal::new(world.folder(), &shell)
}

#[test]
fn whoever_joins_late_sees_the_whole_screen_and_then_what_comes_until_the_end() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.args(["ubuntu@web1"]);
    let shell = Terminal::new(world.folder(), &command);
    shell.wait_for("$");
    shell.enter("PS1='> '; clear; printf 'first li\\bne\\r\\n'; printf '\\033[10;20Hin the middle\\033[12;1H'");
    shell.wait_for("in the middle");
    let id = live(&world)[0].clone();
    let operator = watch(&world, &[&id[..13]]);
    operator.wait_for("in the middle");
    operator.wait_for("● live");
    assert!(operator.screen().lines().nth(9).unwrap().starts_with("                   in the middle"), "its place");
    // What is typed is seen at once: far sooner than it is on the disk.
    let mut fastest = Duration::MAX;
    for round in 0..5 {
        shell.enter(&format!("echo here-$(({round}+40))"));
        let started = Instant::now();
        operator.wait_for(&format!("here-{}", round + 40));
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
    shell.resize(60, 20);
    shell.enter("stty size");
    operator.wait_for("20 60");
    // A second terminal on a connection of its own is another session, and is not seen here.
    shell.enter("exit 3");
    operator.wait_for("ended: completed");
    operator.wait_for("ended with 0");
    world.wait_for_outcome("completed");
    let again = world.sallyport(&["sessions", "watch", &id]).failed();
    assert!(again.contains("is over (completed)") && again.contains("sallyport replay"), "{again}");
}

#[test]
fn leaving_harms_nothing() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut command = alice.client("ssh");
    command.args(["-tt", "ubuntu@web1", "echo up; while read line; do echo got $line; done"]);
    let mut talk = Talk::start(command);
    talk.expect("up");
    let id = live(&world)[0].clone();
    for key in ["C-c", "q"] {
        let operator = watch(&world, &[&id]);
        operator.wait_for("up");
        operator.press(key);
        operator.wait_for("goes on");
        operator.wait_for("ended with 0");
    }
    talk.say("this");
    talk.expect("got this");
    talk.say("\u{4}");
    let _code = talk.end();
    assert_eq!(outcome(&world, &id).0, "completed");
}

#[test]
fn commands_and_events_come_as_lines_and_as_json() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk =
        alice.talk(&["ubuntu@web1", "echo up; while read line; do echo got $line; echo err $line >&2; done"]);
    talk.expect("up");
    let id = live(&world)[0].clone();
    let mut lines = Talk::start(world.command(&["sessions", "watch", &id]));
    let mut json = Talk::start(world.command(&["sessions", "watch", &id, "--json"]));
    lines.expect("exec echo up; while read line");
    lines.expect("#0 │ up");
    json.expect("\"type\":\"exec\"");
    let screen = watch(&world, &[&id]);
    screen.wait_for("│ up");
    talk.say("one");
    lines.expect("#0 │ got one");
    lines.expect("#0 ┃ err one");
    json.expect("got one");
    screen.wait_for("┃ err one");
    assert_eq!(talk.end(), 0);
    assert_eq!((lines.end(), json.end()), (0, 0));
    assert!(lines.heard().contains("ended: completed: both sides were done"), "{}", lines.heard());
    let heard = json.heard();
    let ends: Vec<_> = heard.lines().filter(|line| line.contains("\"type\":\"end\"")).collect();
    assert!(matches!(ends[..], [end] if serde_json::from_str::<serde_json::Value>(end).is_ok()), "{heard}");
    screen.wait_for("ended with 0");
}

#[test]
fn nobody_but_the_operator_may_watch_or_end_a_session() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&["ubuntu@web1", "echo secret-of-alice; cat"]);
    talk.expect("secret-of-alice");
    let id = live(&world)[0].clone();
    let binary = world.binary_for_everyone();
    for words in [vec!["watch", &id], vec!["watch", &id, "--json"], vec!["kill", &id], vec!["show", &id]] {
        let mut other = world.hosts().command("setpriv");
        other.args([&format!("--reuid={PERSON}"), &format!("--regid={PERSON}"), "--clear-groups"]).arg(&binary);
        other.arg("--state").arg(world.operator().join("state")).arg("sessions").args(&words).current_dir("/tmp");
        let refused = run(other, b"").failed();
        assert!(!refused.contains("secret-of-alice") && refused.contains("state"), "{words:?}: {refused}");
    }
    for there in ["state/admin.sock", "state/recordings"] {
        let mut look = world.hosts().command("setpriv");
        look.args([&format!("--reuid={PERSON}"), &format!("--regid={PERSON}"), "--clear-groups", "ls"]);
        look.arg(world.operator().join(there));
        let refused = run(look, b"").failed();
        assert!(refused.contains("ermission denied"), "{there}: {refused}");
    }
    assert_eq!(talk.end(), 0);
    assert_eq!(outcome(&world, &id).0, "completed");
}

#[test]
fn a_watcher_that_stands_still_holds_up_nobody() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&[
        "-tt",
        "ubuntu@web1",
        "echo up; read go; yes 0123456789 | head -c 30000000; echo; echo all-done; read end",
    ]);
    talk.expect("up");
    let id = live(&world)[0].clone();
    let watcher = Talk::start(world.command(&["sessions", "watch", &id]));
    watcher.expect("terminal 0");
    let process = nix::unistd::Pid::from_raw(watcher.id());
    nix::sys::signal::kill(process, Signal::SIGSTOP).unwrap();
    let before = world.gateway().resident_kb();
    talk.say("go");
    talk.expect("all-done");
    let grown = world.gateway().resident_kb().saturating_sub(before);
    assert!(grown < 30_000, "the gateway grew by {grown} kB for somebody who reads nothing");
    nix::sys::signal::kill(process, Signal::SIGCONT).unwrap();
    talk.say("end");
    assert_eq!(talk.end(), 0);
    let mut watcher = watcher;
    assert_eq!(watcher.end(), 0);
    assert!(watcher.heard().contains("all-done"), "it has caught up");
}

#[test]
fn an_operator_ends_sessions_and_their_callers_read_why() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let begin = || {
        let talk = alice.talk(&["ubuntu@web1", "echo up; sleep 8765432"]);
        talk.expect("up");
        talk
    };
    let mut sessions = [begin(), begin()];
    wait_until("both are listed", || live(&world).len() == 2);
    let ids = live(&world);
    let unknown = world.sallyport(&["sessions", "kill", &ids[0], "ffff"]).failed();
    assert!(unknown.contains("no session's id begins with \"ffff\""), "{unknown}");
    assert_eq!(live(&world).len(), 2, "a mistake ends nothing");
    let watcher = watch(&world, &[&ids[0]]);
    watcher.wait_for("│ up");
    let said =
        world.sallyport(&["sessions", "kill", &ids[0], &ids[1], "--reason", "the laptop was lost", "--json"]).ok();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said[0]["result"], &said[1]["result"]), (&"ended".into(), &"ended".into()), "{said}");
    for session in &mut sessions {
        assert_eq!(session.end(), 255);
        let heard = session.heard();
        assert!(heard.contains("an operator ended this session: the laptop was lost"), "{heard}");
    }
    watcher.wait_for("ended: killed");
    for id in &ids {
        let (outcome, reason) = outcome(&world, id);
        assert!(outcome == "killed" && reason.contains("the laptop was lost"), "{outcome}: {reason}");
        let _whole = world.sallyport(&["verify", id]).ok();
    }
    let again = world.sallyport(&["sessions", "kill", &ids[0]]).failed();
    assert!(again.contains("is over already"), "{again}");
}

#[test]
fn a_session_that_is_not_recorded_says_so() {
    let off =
        r#""ip": ["tcp:22"], "app": { "sallyport.dev/cap/ssh": [{ "shell": {}, "exec": {}, "recording": "off" }] }"#;
    let world = World::start(Setup { policy: POLICY.replace("\"ip\": [\"tcp:22\"]", off), ..Setup::default() });
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&["ubuntu@web1", "echo never-seen; cat"]);
    talk.expect("never-seen");
    let id = live(&world)[0].clone();
    let mut watcher = Talk::start(world.command(&["sessions", "watch", &id]));
    watcher.expect("not all of this session can be seen: the policy keeps its output out of the recording");
    watcher.expect("exec echo never-seen");
    assert_eq!(talk.end(), 0);
    assert_eq!(watcher.end(), 0);
    assert!(!watcher.heard().contains("│ never-seen"), "{}", watcher.heard());
}
