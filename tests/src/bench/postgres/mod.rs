//! The Postgres broker on plain loopback: no tunnel and no TLS, the same client and server straight, through the gateway with
//! everything recorded, through a relay that only copies, and through pgbouncer with session pooling.
//!
//! Client, server and what stands between them share the cores, and whatever stands there receives and sends each message once
//! more. The relay shows what that costs by itself: a ratio to direct that it does not reach, nobody does.

pub(crate) mod bulk;
pub(crate) mod connections;
pub(crate) mod gateway;
mod loopback;
pub(crate) mod transactions;

use crate::{Figure, median};
use loopback::{Loopback, Way};

/// One kind of figure on every way.
struct Measured {
    name: String,
    unit: &'static str,
    goal: &'static str,
    rounds: usize,
    medians: Medians,
}

/// The median of each way.
struct Medians {
    direct: f64,
    ours: f64,
    relay: f64,
    /// Where pgbouncer is installed.
    pgbouncer: Option<f64>,
}

/// Measures every way in turn, `rounds` times.
fn in_turn(loopback: &Loopback, rounds: usize, mut once: impl FnMut(Way) -> f64) -> Medians {
    let ways = loopback.ways();
    let mut measured: Vec<_> = ways.iter().map(|_| Vec::new()).collect();
    for _round in 0..rounds {
        ways.iter().zip(&mut measured).for_each(|(way, measured)| measured.push(once(*way)));
    }
    let mut medians = measured.into_iter().map(median);
    let mut next = || medians.next().unwrap();
    Medians { direct: next(), ours: next(), relay: next(), pgbouncer: medians.next() }
}

impl Measured {
    /// A line beside direct, one beside the relay, and one beside pgbouncer.
    fn figures(self) -> Vec<Figure> {
        let Self { name, unit, goal, rounds, medians } = self;
        let Medians { direct, ours, relay, pgbouncer } = medians;
        let beside = |what, than, goal| {
            let name = format!("{name}, through beside {what}");
            Figure { name, unit, direct: Some(than), ours, goal, runs: rounds }
        };
        let mut lines = vec![beside("direct", direct, goal), beside("a relay that only copies", relay, "")];
        lines.extend(pgbouncer.map(|pgbouncer| beside("pgbouncer", pgbouncer, "ratio >= 1")));
        lines
    }
}
