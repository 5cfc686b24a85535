//! Many sessions: how long one takes to begin and end, how many can do so in a second, and what thousands cost one at work.

use super::bulk::Noise;
use super::{AES, Loopback, Way};
use crate::{Figure, ROUNDS, alternate};
use e2e::wait_until;
use std::process::{Child, Stdio};
use std::time::Instant;

/// `ssh host true`, one after the other.
pub(crate) fn login() -> Vec<Figure> {
    let loopback = Loopback::new(AES);
    let once = |way| {
        let mut command = loopback.ssh(way);
        command.arg("true");
        [loopback.seconds(command) * 1000.0]
    };
    let [(direct, ours)] = alternate(LOGINS, || once(Way::Direct), || once(Way::Through));
    let name = "ssh host true, through beside direct".to_owned();
    vec![Figure { name, unit: "ms", direct: Some(direct), ours, goal: "ours <= direct", runs: LOGINS }]
}

/// `ssh host true` from several clients at a time.
pub(crate) fn rate() -> Vec<Figure> {
    let loopback = Loopback::new(AES);
    let once = |way| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _lane in 0..LANES {
                scope.spawn(|| {
                    for _session in 0..SESSIONS {
                        let mut command = loopback.ssh(way);
                        command.arg("true");
                        let _seconds = loopback.seconds(command);
                    }
                });
            }
        });
        let rate = f64::from(LANES * SESSIONS) / begun.elapsed().as_secs_f64();
        loopback.settle();
        [rate]
    };
    let [(direct, ours)] = alternate(ROUNDS, || once(Way::Direct), || once(Way::Through));
    let name = "new ssh sessions a second, 8 clients, through beside direct".to_owned();
    vec![Figure { name, unit: "1/s", direct: Some(direct), ours, goal: "ratio >= 0.5", runs: ROUNDS }]
}

/// A download beside sessions that do nothing, and alone; direct as well, for what the crowd's own processes cost the machine.
pub(crate) fn crowd() -> Vec<Figure> {
    let loopback = Loopback::new(AES);
    let noise = Noise::new(&loopback);
    let download = |way| [noise.down_unsettled(way)];
    let downloads = || alternate(ROUNDS, || download(Way::Direct), || download(Way::Through));
    let [(direct_alone, alone)] = downloads();
    let resident = loopback.gateway().resident_kb();
    let mut crowd = Vec::new();
    let log = loopback.folder().join("crowd.log");
    while crowd.len() < CROWD {
        crowd.extend((0..BATCH).map(|_| idle(&loopback, &log)));
        wait_until("the newest sessions are up", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.matches("up\n").count() >= crowd.len())
        });
    }
    let grown = loopback.gateway().resident_kb().saturating_sub(resident);
    let [(direct_beside, beside)] = downloads();
    for mut child in crowd {
        let _ended_already = child.kill();
        let _reaped = child.wait().unwrap();
    }
    let kilobytes = f64::from(u32::try_from(grown).unwrap());
    let row = |name: &str, direct, ours, goal| Figure {
        name: name.to_owned(),
        unit: "MB/s",
        direct: Some(direct),
        ours,
        goal,
        runs: ROUNDS,
    };
    vec![
        row("ssh download beside 2,000 idle sessions, beside alone", alone, beside, "ratio >= 0.95"),
        row("the same without the gateway, beside alone", direct_alone, direct_beside, ""),
        row("ssh download, through beside direct, among 2,000 idle sessions", direct_beside, beside, ""),
        Figure {
            name: "memory of each of the 2,000".to_owned(),
            unit: "MB",
            direct: None,
            ours: kilobytes / 1024.0 / 2000.0,
            goal: "",
            runs: 1,
        },
    ]
}

fn idle(loopback: &Loopback, log: &std::path::Path) -> Child {
    let log = std::fs::File::options().append(true).create(true).open(log).unwrap();
    // As an account of its own: a crowd leaves its user no pipes of full size (pipe(7), pipe-user-pages-soft).
    let mut command = loopback.ssh_as("crowd", Way::Through);
    command.arg("echo up; exec sleep 3600").stdout(log).stderr(Stdio::null());
    loopback.within(|| command.spawn().unwrap())
}

/// Logins to take the median of, each way.
const LOGINS: usize = 25;
/// Clients at a time, and sessions of each.
const LANES: u32 = 8;
const SESSIONS: u32 = 8;
/// Idle sessions, and how many begin at a time.
const CROWD: usize = 2000;
const BATCH: usize = 50;
