//! What the gateway holds for callers and targets that take nothing: little, however much was asked for.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use e2e::{Caller, Shared, World, run, settle};

/// Programs on one connection.
const PROGRAMS: usize = 60;
/// What each of them sends: more than all that lies between the two ends holds.
const BYTES: u64 = 8_000_000;
/// What the gateway may hold for all of them, in kilobytes: a device's budget, and what the memory that it is held in takes
/// beside it. With windows of 2 MB it was 169,000.
const HELD: u64 = 45_000;
/// What a connection of its own costs, in kilobytes, with all that stands in its buffers.
const CONNECTION: u64 = 1_400;

/// One connection with many programs.
struct Crowd {
    world: World,
    alice: Caller,
    shared: Shared,
    before: u64,
}

impl Crowd {
    fn new() -> Self {
        let world = World::new();
        let alice = world.caller("alice@example.com", "laptop");
        let shared = Shared::open(&alice);
        let mut crowd = Self { world, alice, shared, before: 0 };
        // The first ones pay for what all share.
        crowd.others_go_on();
        crowd.before = settle(|| crowd.world.gateway().resident_kb());
        crowd
    }

    /// A client of the shared connection.
    fn over(&self, command: &str) -> Command {
        let mut client = self.alice.command("ssh");
        self.shared.over(&mut client);
        client.arg(command);
        client
    }

    fn others_go_on(&self) {
        for round in 0..5 {
            assert_eq!(run(self.over(&format!("echo {round}")), b"").ok(), format!("{round}\n"));
        }
    }

    fn held_kb(&self) -> u64 {
        settle(|| self.world.gateway().resident_kb()).saturating_sub(self.before)
    }
}

/// Starts [`PROGRAMS`] clients, and waits until each has got its first byte. Nobody reads on.
fn stalled(client: impl Fn() -> Command) -> Vec<Child> {
    let began = |_| {
        let mut command = client();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn().unwrap();
        client.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        client
    };
    (0..PROGRAMS).map(began).collect()
}

#[test]
fn output_that_nobody_reads_is_held_by_whoever_sends_it() {
    let mut crowd = Crowd::new();
    let stalled = stalled(|| crowd.over(&format!("head -c {BYTES} /dev/zero; echo >&2 all sent")));
    let held = crowd.held_kb();
    assert!(held < HELD, "{held} kB held for {PROGRAMS} programs");
    crowd.others_go_on();

    let rest = |mut client: Child| {
        let read = std::io::copy(client.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        (read, client.wait_with_output().unwrap())
    };
    let reading: Vec<_> = stalled.into_iter().map(|client| std::thread::spawn(move || rest(client))).collect();
    for reader in reading {
        let (read, output) = reader.join().unwrap();
        assert_eq!((read, output.stderr), (BYTES - 1, b"all sent\n".to_vec()));
        assert!(output.status.success());
    }
    let held = crowd.held_kb();
    assert!(held < HELD, "{held} kB held afterwards");
    assert_eq!(crowd.shared.master.end(), 0);
}

#[test]
fn input_that_no_program_reads_is_held_by_whoever_sends_it() {
    let mut crowd = Crowd::new();
    let go = format!("/tmp/go-{}", std::process::id());
    let stalled = stalled(|| {
        let mut client = crowd.alice.command("sh");
        client.args(["-c", &format!("head -c {BYTES} /dev/zero | \"$@\""), "sh", "ssh"]);
        crowd.shared.over(&mut client);
        client.arg(format!("echo; until [ -e {go} ]; do sleep 0.2; done; wc -c"));
        client
    });
    let held = crowd.held_kb();
    assert!(held < HELD, "{held} kB held for {PROGRAMS} programs");
    crowd.others_go_on();

    std::fs::write(&go, "").unwrap();
    for client in stalled {
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), BYTES.to_string());
    }
    std::fs::remove_file(&go).unwrap();
    assert_eq!(crowd.shared.master.end(), 0);
}

#[test]
fn one_device_has_one_budget_however_many_connections_it_makes() {
    let crowd = Crowd::new();
    let mut stalled = stalled(|| {
        let mut client = crowd.alice.client("ssh");
        client.args(["ubuntu@web1", &format!("head -c {BYTES} /dev/zero")]);
        client
    });
    let held = crowd.held_kb();
    let most = HELD + PROGRAMS as u64 * CONNECTION;
    assert!(held < most, "{held} kB held for {PROGRAMS} connections");
    crowd.others_go_on();
    for client in &mut stalled {
        client.kill().unwrap();
        client.wait().unwrap();
    }
}
