//! The Postgres broker on plain loopback: no tunnel and no TLS, the same client and server straight, through the gateway with
//! everything recorded, and through pgbouncer with session pooling.

pub(crate) mod bulk;
pub(crate) mod connections;
pub(crate) mod gateway;
mod loopback;
pub(crate) mod transactions;

use crate::{Figure, median};
use loopback::{Loopback, Way};

/// One kind of figure on all three ways.
struct Measured {
    name: String,
    unit: &'static str,
    goal: &'static str,
    rounds: usize,
    direct: f64,
    ours: f64,
    /// Where pgbouncer is installed.
    pgbouncer: Option<f64>,
}

/// Measures every way in turn, `rounds` times, and takes the median of each.
fn in_turn(loopback: &Loopback, rounds: usize, mut once: impl FnMut(Way) -> f64) -> (f64, f64, Option<f64>) {
    let (mut direct, mut ours, mut pgbouncer) = (Vec::new(), Vec::new(), Vec::new());
    for _round in 0..rounds {
        direct.push(once(Way::Direct));
        ours.push(once(Way::Through));
        if loopback.has_pgbouncer() {
            pgbouncer.push(once(Way::Pgbouncer));
        }
    }
    (median(direct), median(ours), (!pgbouncer.is_empty()).then(|| median(pgbouncer)))
}

impl Measured {
    /// A line beside direct, and one beside pgbouncer.
    fn figures(self) -> Vec<Figure> {
        let Self { name, unit, goal, rounds, direct, ours, pgbouncer } = self;
        let line = |name, direct, goal| Figure { name, unit, direct: Some(direct), ours, goal, runs: rounds };
        let mut lines = vec![line(format!("{name}, through beside direct"), direct, goal)];
        lines.extend(
            pgbouncer.map(|pgbouncer| line(format!("{name}, through beside pgbouncer"), pgbouncer, "ratio >= 1")),
        );
        lines
    }
}
