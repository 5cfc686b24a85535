//! What only long sessions show. Too long for every day, so they are asked for by name:
//! `cargo test --workspace --test e2e endurance -- --ignored`.

use e2e::{Caller, World, wait_until};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
#[ignore = "takes six minutes"]
fn a_session_lives_on_while_wireguard_makes_new_keys() {
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut talk = alice.talk(&["ubuntu@web1", "echo up; while read line; do echo got $line; done"]);
    talk.expect("up");
    let mut handshakes = vec![alice.wg_show("latest-handshakes")];
    let started = Instant::now();
    let mut line = 0;
    while started.elapsed() < REKEYS {
        line += 1;
        talk.say(&line.to_string());
        talk.expect(&format!("got {line}\n"));
        let latest = alice.wg_show("latest-handshakes");
        if handshakes.last() != Some(&latest) {
            handshakes.push(latest);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(talk.end(), 0);
    assert!(handshakes.len() >= 3, "{line} lines over these handshakes: {handshakes:?}");
    eprintln!("{line} lines went over {} handshakes", handshakes.len());
}

#[test]
#[ignore = "takes many minutes, and 20 GB of disk"]
fn gigabytes_go_both_ways_over_many_rekeys_in_flat_memory() {
    let gigabytes = std::env::var("SALLYPORT_GIGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let here = alice.folder().join("here");
    noise(&here, gigabytes);
    let sum = digest(&here);
    for rekey in ["RekeyLimit=64M", "RekeyLimit=default"] {
        let there = format!("ubuntu@web1:there-{}", rekey.len());
        let back = alice.folder().join("back");
        let grown = copy(&world, &alice, rekey, &here.display().to_string(), &there);
        let shrunk = copy(&world, &alice, rekey, &there, &back.display().to_string());
        assert_eq!(digest(&back), sum, "{rekey}");
        std::fs::remove_file(&back).unwrap();
        let _removed = alice.ssh(&["ubuntu@web1", &format!("rm there-{}", rekey.len())]).ok();
        eprintln!("{rekey}: memory grew by {grown} kB upwards, {shrunk} kB downwards");
        assert!(grown < FLAT_KB && shrunk < FLAT_KB, "{rekey}: {grown} kB, {shrunk} kB");
    }
}

/// Copies by `scp`, and gives how much memory the gateway took at the most while it did, in kB more than before.
fn copy(world: &World, caller: &Caller, rekey: &str, from: &str, to: &str) -> u64 {
    let mut command = caller.client("scp");
    command.args(["-q", "-v", "-o", rekey, from, to]).stdin(Stdio::null()).stdout(Stdio::null());
    let log = caller.folder().join("scp.log");
    command.stderr(std::fs::File::create(&log).unwrap());
    let before = world.gateway().resident_kb();
    let (started, handshake) = (Instant::now(), caller.wg_show("latest-handshakes"));
    let mut scp = command.spawn().unwrap();
    let mut most = before;
    let status = loop {
        if let Some(status) = scp.try_wait().unwrap() {
            break status;
        }
        most = most.max(world.gateway().resident_kb());
        std::thread::sleep(Duration::from_millis(250));
    };
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(status.success(), "{from} to {to}: {said}");
    let keys = said.matches("SSH2_MSG_NEWKEYS sent").count();
    let renewed = handshake != caller.wg_show("latest-handshakes");
    eprintln!(
        "{from} to {to}, {rekey}: {:?}, {keys} exchanges of keys, new WireGuard keys: {renewed}",
        started.elapsed()
    );
    most - before
}

/// A file that nothing compresses.
fn noise(at: &std::path::Path, gigabytes: u64) {
    let key = "openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 0 < /dev/zero";
    let line = format!("{key} 2>/dev/null | head -c {} > \"$0\"", gigabytes << 30);
    assert!(Command::new("sh").args(["-c", &line]).arg(at).status().unwrap().success());
    wait_until("the file is whole", || std::fs::metadata(at).unwrap().len() == gigabytes << 30);
}

fn digest(at: &std::path::Path) -> String {
    let output = Command::new("b2sum").stdin(std::fs::File::open(at).unwrap()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Long enough for two renewals: WireGuard makes new keys after 120 s of use.
const REKEYS: Duration = Duration::from_secs(330);
/// What counts as flat: some windows of some channels.
const FLAT_KB: u64 = 30_000;
