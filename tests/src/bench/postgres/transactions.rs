//! pgbench: short transactions, by one client and by eight, sent as text and prepared.

use super::{Loopback, Measured, Way, in_turn};
use crate::{Figure, ROUNDS};
use e2e::run;
use std::cell::RefCell;

/// Select-only transactions, and what each costs the gateway and pgbouncer.
pub(crate) fn select_only() -> Vec<Figure> {
    let loopback = Loopback::new();
    let mut fill = loopback.client("pgbench", Way::Direct);
    fill.args(["-i", "-q", "-s", "10"]);
    let _filled = loopback.within(|| run(fill, b"").ok());
    let mut figures = Vec::new();
    for protocol in ["simple", "prepared"] {
        for (clients, goal) in [("1", "ratio >= 0.70"), ("8", "ratio >= 0.80")] {
            let costs = RefCell::new([const { Vec::new() }; 2]);
            let once = |way: Way| {
                let cpu = || loopback.before(way).map(e2e::Process::cpu_seconds);
                let (before, tps) = (cpu(), pgbench(&loopback, way, &["-S", "-M", protocol, "-c", clients]));
                if let (Some(before), Some(after)) = (before, cpu()) {
                    let cost = (after - before) * 1e6 / (tps * SECONDS);
                    costs.borrow_mut()[usize::from(way == Way::Pgbouncer)].push(cost);
                }
                tps
            };
            let (direct, ours, pgbouncer) = in_turn(&loopback, ROUNDS, once);
            let name = format!("pgbench -S {protocol}, {clients} client{}", if clients == "1" { "" } else { "s" });
            let cost = format!("{name}, CPU of the gateway beside pgbouncer's");
            figures.extend(Measured { name, unit: "1/s", goal, rounds: ROUNDS, direct, ours, pgbouncer }.figures());
            let [ours, theirs] = costs.into_inner().map(|costs| (!costs.is_empty()).then(|| crate::median(costs)));
            let ours = ours.unwrap_or_default();
            figures.push(Figure { name: cost, unit: "us", direct: theirs, ours, goal: "", runs: ROUNDS });
        }
    }
    figures
}

/// Connections that each carry one transaction.
pub(crate) fn new_connections() -> Vec<Figure> {
    let loopback = Loopback::new();
    let mut fill = loopback.client("pgbench", Way::Direct);
    fill.args(["-i", "-q", "-s", "1"]);
    let _filled = loopback.within(|| run(fill, b"").ok());
    let once = |way| pgbench(&loopback, way, &["-S", "-C", "-c", "8"]);
    let (direct, ours, pgbouncer) = in_turn(&loopback, ROUNDS, once);
    let name = "new connections a second, 8 clients".to_owned();
    let goal = "ratio >= 0.5, ours >= 500";
    let mut figures = Measured { name, unit: "1/s", goal, rounds: ROUNDS, direct, ours, pgbouncer }.figures();
    // pgbouncer keeps the server's side open, which is what it is for: no goal.
    figures.iter_mut().skip(1).for_each(|figure| figure.goal = "");
    figures
}

/// Transactions a second.
fn pgbench(loopback: &Loopback, way: Way, arguments: &[&str]) -> f64 {
    let mut command = loopback.client("pgbench", way);
    command.args(["-n", "-j", "2", "-T", &SECONDS.to_string()]).args(arguments);
    let said = loopback.within(|| run(command, b"").ok());
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = line.and_then(|line| line.split_whitespace().next()).and_then(|rate| rate.parse().ok());
    rate.unwrap_or_else(|| panic!("{said}\nthe gateway: {}", loopback.gateway().printed()))
}

/// How long one run takes.
const SECONDS: f64 = 3.0;
