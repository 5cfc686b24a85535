//! A gateway that is killed at random moments under load: what a caller has seen for a second is in the recording.
//!
//! `SALLYPORT_CHAOS_ROUNDS=200 cargo test -p e2e --test e2e chaos` runs more rounds than every day's.

use e2e::{Caller, World, wait_until};
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn killed_at_any_moment_the_recording_holds_what_was_seen_for_a_second() {
    let rounds = std::env::var("SALLYPORT_CHAOS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let mut world = World::new();
    let alice = world.caller("alice@example.com", "laptop");
    let mut cut = 0;
    for round in 0..rounds {
        let watchers = [true, false, true].map(|terminal| Watcher::start(&alice, terminal));
        wait_until("every caller sees lines", || watchers.iter().all(|one| one.last().is_some()));
        std::thread::sleep(Duration::from_millis(u64::from(rand_u32()) % LONGEST_ROUND_MS));
        let killed = Instant::now();
        world.stop(Signal::SIGKILL);
        let seen: Vec<(u64, u64)> = watchers.iter().map(|one| (one.token, one.seen_before(killed - DURABLE))).collect();
        drop(watchers);
        world.up();
        let texts = recordings_of_this_round(&world, &mut cut);
        for (token, last) in seen {
            let kept = last == 0 || texts.iter().any(|text| text.contains(&format!("{token}-{last}-")));
            assert!(kept, "round {round}: line {last} of {token} is lost");
        }
    }
    assert_eq!(cut, rounds * 3, "every session was cut off by its kill");
}

/// Exports and verifies the sessions that the kill of this round has cut off; there were `before` of them until now.
fn recordings_of_this_round(world: &World, before: &mut u64) -> Vec<String> {
    let listed = world.sallyport(&["sessions", "ls", "--json", "--limit", "3"]).ok();
    let sessions: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    let export = |session: &serde_json::Value| {
        let id = session["id"].as_str().unwrap();
        assert_eq!(session["outcome"], "interrupted", "{session}");
        let _to_the_cut = world.sallyport(&["verify", id]).ok();
        *before += 1;
        world.sallyport(&["export", id, "--format", "jsonl"]).ok()
    };
    sessions.iter().map(export).collect()
}

/// A caller's session that prints numbered lines, and when each of them was seen.
struct Watcher {
    client: Child,
    token: u64,
    seen: Arc<Mutex<VecDeque<(Instant, u64)>>>,
}

impl Watcher {
    fn start(caller: &Caller, terminal: bool) -> Self {
        let token = u64::from(rand_u32()) + 1_000_000_000;
        let program = format!("i=0; while :; do i=$((i+1)); echo {token}-$i-; sleep 0.00$((i % 7)); done");
        let mut command: Command = caller.client("ssh");
        command.args(if terminal { &["-tt"][..] } else { &[] }).args(["ubuntu@web1", &program]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = command.spawn().unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let seen = Arc::new(Mutex::new(VecDeque::new()));
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let number = line.split('-').nth(1).and_then(|number| number.parse().ok());
                if let Some(number) = number {
                    noted.lock().unwrap().push_back((Instant::now(), number));
                }
            }
        });
        Self { client, token, seen }
    }

    /// The last line so far.
    fn last(&self) -> Option<u64> {
        self.seen.lock().unwrap().back().map(|(_, number)| *number)
    }

    /// The last line that was seen by `moment`; 0 when there was none.
    fn seen_before(&self, moment: Instant) -> u64 {
        let seen = self.seen.lock().unwrap();
        seen.iter().take_while(|(at, _)| *at <= moment).last().map_or(0, |(_, number)| *number)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ended_already = self.client.kill();
        let _reaped = self.client.wait();
    }
}

/// A number that differs from call to call and from run to run.
fn rand_u32() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    u32::try_from(RandomState::new().hash_one(Instant::now()) >> 32).unwrap()
}

/// Output is on the disk by then (recorder/FORMAT.md).
const DURABLE: Duration = Duration::from_secs(1);
/// A round ends at a random moment before this, in milliseconds.
const LONGEST_ROUND_MS: u64 = 2_900;
