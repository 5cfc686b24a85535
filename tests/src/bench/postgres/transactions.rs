//! pgbench: short transactions, by one client and by eight, sent as text and prepared.

use super::{Loopback, Measured, Way, in_turn};
use crate::{Figure, ROUNDS, median};
use e2e::{Process, run};

/// Select-only transactions, and what each costs the gateway and pgbouncer.
pub(crate) fn select_only() -> Vec<Figure> {
    let loopback = Loopback::new();
    let mut fill = loopback.client("pgbench", Way::Direct);
    fill.args(["-i", "-q", "-s", "10"]);
    let _filled = loopback.within(|| run(fill, b"").ok());
    let mut figures = Vec::new();
    for protocol in ["simple", "prepared"] {
        for (clients, goal) in [("1", "ratio >= 0.70"), ("8", "ratio >= 0.80")] {
            let mut costs = Costs::default();
            let arguments = ["-S", "-M", protocol, "-c", clients];
            let medians = in_turn(&loopback, ROUNDS, |way| costs.of(&loopback, way, &arguments));
            let name = format!("pgbench -S {protocol}, {clients} client{}", if clients == "1" { "" } else { "s" });
            let costs = costs.figures(&name);
            figures.extend(Measured { name, unit: "1/s", goal, rounds: ROUNDS, medians }.figures());
            figures.extend(costs);
        }
    }
    figures
}

/// What a transaction costs whoever stands before the server, in microseconds of CPU.
#[derive(Default)]
struct Costs {
    ours: Vec<f64>,
    relay: Vec<f64>,
    pgbouncer: Vec<f64>,
}

impl Costs {
    /// Runs pgbench this way, notes what each transaction costs, and gives how many there were in a second.
    fn of(&mut self, loopback: &Loopback, way: Way, arguments: &[&str]) -> f64 {
        let cpu = || loopback.before(way).map_or(0.0, Process::cpu_seconds);
        let before = cpu();
        let rate = pgbench(loopback, way, arguments);
        let cost = (cpu() - before) * 1e6 / (rate * SECONDS);
        match way {
            Way::Direct => {}
            Way::Through => self.ours.push(cost),
            Way::Relayed => self.relay.push(cost),
            Way::Pgbouncer => self.pgbouncer.push(cost),
        }
        rate
    }

    fn figures(self, name: &str) -> Vec<Figure> {
        let ours = median(self.ours);
        let beside = |(whose, costs): (&str, Vec<f64>)| {
            let name = format!("{name}, CPU of the gateway beside {whose}");
            Figure { name, unit: "us", direct: Some(median(costs)), ours, goal: "", runs: ROUNDS }
        };
        let others = [("the relay's", self.relay), ("pgbouncer's", self.pgbouncer)];
        others.into_iter().filter(|(_, costs)| !costs.is_empty()).map(beside).collect()
    }
}

/// Connections that each carry one transaction.
pub(crate) fn new_connections() -> Vec<Figure> {
    let loopback = Loopback::new();
    let mut fill = loopback.client("pgbench", Way::Direct);
    fill.args(["-i", "-q", "-s", "1"]);
    let _filled = loopback.within(|| run(fill, b"").ok());
    let once = |way| pgbench(&loopback, way, &["-S", "-C", "-c", "8"]);
    let medians = in_turn(&loopback, ROUNDS, once);
    let name = "new connections a second, 8 clients".to_owned();
    let goal = "ratio >= 0.5, ours >= 500";
    let mut figures = Measured { name, unit: "1/s", goal, rounds: ROUNDS, medians }.figures();
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
