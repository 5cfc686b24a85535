//! Bad days: targets that lie, stall or vanish; callers that say nothing or nonsense; secrets left open.

use e2e::{Setup, World, wait_until};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A world with a target `bad` whose server is `behaviour`, one thread a connection.
fn with_bad_target(behaviour: impl Fn(TcpStream) + Clone + Send + 'static) -> World {
    let world = World::start(Setup { targets: target("bad", "127.0.0.9:22"), ..Setup::default() });
    let listener = world.hosts().enter(|| TcpListener::bind("127.0.0.9:22").unwrap()).join().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let behaviour = behaviour.clone();
            std::thread::spawn(move || behaviour(connection));
        }
    });
    world
}

fn target(name: &str, address: &str) -> String {
    format!(
        "[[target]]\nname = \"{name}\"\ntags = [\"tag:prod\"]\nssh = {{ address = \"{address}\", host_key = \"{ANY_KEY}\" }}\n"
    )
}

#[test]
fn a_target_that_is_down_is_named_with_the_stage() {
    let world = World::start(Setup { targets: target("bad", "127.0.0.9:22"), ..Setup::default() });
    let alice = world.caller("alice@example.com", "laptop");
    let said = alice.ssh(&["ubuntu@bad", "true"]).failed();
    assert!(said.contains("bad") && said.contains("refused"), "{said}");
}

#[test]
fn a_target_that_never_speaks_is_given_up() {
    let world = with_bad_target(|connection| {
        std::thread::sleep(Duration::from_secs(120));
        drop(connection);
    });
    let alice = world.caller("alice@example.com", "laptop");
    let done = alice.ssh(&["-o", "ConnectTimeout=60", "ubuntu@bad", "true"]);
    assert!(done.took < Duration::from_secs(45), "{:?}", done.took);
    let said = done.failed();
    assert!(said.contains("bad"), "{said}");
}

#[test]
fn a_slow_target_is_waited_for_and_holds_nobody_up() {
    let world = World::new();
    let (key, at) = (world.web1.host_key(), "127.0.0.9:22");
    let _added = world.sallyport(&["target", "add", "slow", "--ssh", at, "--host-key", &key, "--tag", "tag:prod"]).ok();
    let web1 = world.web1.address();
    let listener = world.hosts().enter(move || TcpListener::bind(at).unwrap()).join().unwrap();
    let _dripping = world.hosts().enter(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(web1).unwrap();
            let (from, to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || drip(from, to));
            std::thread::spawn(move || drip(near, far));
        }
    });
    let alice = world.caller("alice@example.com", "laptop");
    let mut slow = alice.talk(&["ubuntu@slow", "echo slow but sure; exit 3"]);
    for round in 0..5 {
        assert_eq!(alice.ssh(&["ubuntu@web1", &format!("echo {round}")]).ok(), format!("{round}\n"));
    }
    assert_eq!(slow.end(), 3);
    assert!(slow.heard().contains("slow but sure"), "{}", slow.heard());
}

/// Carries bytes a few at a time, with pauses, as a machine that is swapping does.
fn drip(mut from: TcpStream, mut to: TcpStream) {
    let mut few = [0; 97];
    while let Ok(read @ 1..) = from.read(&mut few) {
        std::thread::sleep(Duration::from_millis(20));
        if to.write_all(&few[..read]).is_err() {
            break;
        }
    }
    let _ended_already = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_target_that_talks_garbage_costs_one_session_only() {
    let world = with_bad_target(|mut connection| {
        let _hung_up = connection.write_all(&vec![0xa5; 100_000]);
        let _hung_up = connection.read(&mut [0; 1]);
    });
    let alice = world.caller("alice@example.com", "laptop");
    let said = alice.ssh(&["ubuntu@bad", "true"]).failed();
    assert!(said.contains("bad"), "{said}");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo well"]).ok(), "well\n");
}

#[test]
fn a_target_that_lies_after_its_greeting_costs_one_session_only() {
    let world = with_bad_target(|mut connection| {
        let _hung_up = connection.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        let _hung_up = connection.write_all(&[0xff; 64]);
        let _hung_up = connection.read(&mut [0; 1]);
    });
    let alice = world.caller("alice@example.com", "laptop");
    let said = alice.ssh(&["ubuntu@bad", "true"]).failed();
    assert!(said.contains("bad"), "{said}");
}

#[test]
fn a_target_that_resets_in_mid_stream_ends_that_session_and_is_recorded() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&["ubuntu@web1", "echo up; cat /dev/zero | head -c 5000000 | wc -c; sleep 5678901"]);
    talk.expect("5000000");
    // Kill the sshd that serves this connection: its socket is reset under the session.
    world.web1.kill_sessions();
    assert_eq!(talk.end(), 255);
    assert!(talk.heard().contains("web1"), "{}", talk.heard());
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo well"]).ok(), "well\n");
}

#[test]
fn a_changed_host_key_is_refused_loudly() {
    let mut world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo 1"]).ok(), "1\n");
    assert!(world.web1.log().contains("Accepted publickey for ubuntu"), "{}", world.web1.log());
    // It begins its log anew.
    world.change_host_key_of_web1();
    let said = alice.ssh(&["ubuntu@web1", "echo 2"]).failed();
    assert!(said.contains("host key") && said.contains("web1"), "{said}");
    assert!(!world.web1.log().contains("ubuntu"), "a login was tried there: {}", world.web1.log());
    wait_until("the operator reads of it too", || world.gateway().printed().to_lowercase().contains("host key"));
}

#[test]
fn bytes_that_are_not_ssh_end_that_connection_alone() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let address = alice.resolve("web1");
    let noise = [
        b"GET / HTTP/1.1\r\nHost: web1\r\n\r\n".to_vec(),
        vec![0; 70_000],
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\x00".to_vec(),
    ];
    for bytes in noise {
        let heard = alice.namespace().enter(move || {
            let mut connection = TcpStream::connect((address, 22)).unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let _hung_up = connection.write_all(&bytes);
            let mut heard = Vec::new();
            connection.read_to_end(&mut heard).map(|_| ()).or_else(|error| match error.kind() {
                std::io::ErrorKind::ConnectionReset => Ok(()),
                _ => Err(error),
            })
        });
        heard.join().unwrap().expect("the gateway hangs up by itself");
    }
    assert_eq!(alice.ssh(&["ubuntu@web1", "echo well"]).ok(), "well\n");
}

#[test]
fn five_hundred_silent_connections_hold_nobody_up() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut working = alice.talk(&["ubuntu@web1", "echo up; while read line; do echo got $line; done"]);
    working.expect("up");
    let address = alice.resolve("web1");
    let silent = alice
        .namespace()
        .enter(move || (0..500).map(|_| TcpStream::connect((address, 22)).unwrap()).collect::<Vec<_>>());
    let silent = silent.join().unwrap();
    working.say("one");
    working.expect("got one");
    let fresh = alice.ssh(&["ubuntu@web1", "echo fresh"]);
    assert!(fresh.took < Duration::from_secs(10), "{:?}", fresh.took);
    assert_eq!(fresh.ok(), "fresh\n");
    drop(silent);
    assert_eq!(working.end(), 0);
}

#[test]
fn a_secret_that_others_can_read_or_nobody_can_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let login = format!("{{ password = \"file:{}\" }}", file.display());
    let world = World::build(Setup { login, ..Setup::default() });
    let said = world.up_fails();
    assert!(said.contains("password") && said.contains("web1"), "a file that is not there: {said}");
    std::fs::write(&file, "secret").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = world.up_fails();
    assert!(said.contains("chmod 600"), "a world-readable file: {said}");
    assert!(!said.contains("secret\n"), "the secret itself is not printed");
}

#[test]
fn a_flow_that_leads_nowhere_is_refused_at_once() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let address = alice.resolve("web1");
    let refused = alice.namespace().enter(move || {
        let started = std::time::Instant::now();
        let refused = TcpStream::connect((address, 81)).is_err();
        (refused, started.elapsed())
    });
    let (refused, took) = refused.join().unwrap();
    assert!(refused && took < Duration::from_secs(5), "{refused} after {took:?}");
}

const ANY_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
