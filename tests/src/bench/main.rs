//! The figures: ours beside what it is measured against, alternating, medians, as a table and in `target/bench.json`.
//!
//! Client and server share this machine's cores, so ratios and CPU per byte tell more than absolute speed. `bench PART…`
//! measures only the named parts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be made ends at once"
)]

mod plane;
mod postgres;
mod relay;
mod ssh;
mod tunnel;

// What the broker is fed by on plain loopback, shared with its own tests.
#[path = "../../../gateway/tests/middle/door.rs"]
mod door;
#[path = "../../../gateway/tests/middle/mod.rs"]
mod middle;

use std::process::ExitCode;

/// One line of the table.
struct Figure {
    name: String,
    unit: &'static str,
    /// What it is measured against; none where the goal is absolute.
    direct: Option<f64>,
    ours: f64,
    goal: &'static str,
    runs: usize,
}

/// Measures some figures.
type Part = fn() -> Vec<Figure>;

/// What can be measured on its own, in the order of the table.
const PARTS: &[(&str, Part)] = &[
    ("plane", plane::figures),
    ("ssh-bulk", ssh::bulk::figures),
    ("ssh-login", ssh::sessions::login),
    ("ssh-rate", ssh::sessions::rate),
    ("ssh-idle", ssh::memory::idle),
    ("ssh-stalled", ssh::memory::stalled),
    ("ssh-recording", ssh::bulk::recording),
    ("ssh-downloads", ssh::bulk::downloads),
    ("ssh-crowd", ssh::sessions::crowd),
    ("postgres-select", postgres::transactions::select_only),
    ("postgres-copy", postgres::bulk::copy_out),
    ("postgres-rate", postgres::transactions::new_connections),
    ("postgres-idle", postgres::connections::idle),
    ("postgres-row", postgres::bulk::giant_row),
    ("tunnel", tunnel::figures),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some(word) if word == sallyport_tailnet::netns::SUBCOMMAND => return sallyport_tailnet::netns::helper_main(),
        Some("serve-tailnet") => plane::serve_tailnet(&words[2..]),
        Some("serve-tcp") => plane::serve_tcp(),
        Some("serve-postgres") => postgres::gateway::serve(&words[2..]),
        Some("serve-relay") => relay::serve(&words[2..]),
        Some("serve-ssh") => ssh::gateway::serve(&words[2..]),
        Some("stream") => plane::stream(&words[2..]),
        _ => return measure(&words[1..]),
    }
    ExitCode::SUCCESS
}

fn measure(wanted: &[String]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|word| PARTS.iter().all(|(name, _)| name != word)) {
        let known: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("bench: there is no part {unknown:?}; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let mut figures = Vec::new();
    println!("{:62} {:>7} {:>8} {:>8} {:>6}  goal", "figure", "unit", "direct", "ours", "ratio");
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            let more = part();
            more.iter().for_each(print);
            figures.extend(more);
        }
    }
    let json: Vec<_> = figures.iter().map(as_json).collect();
    let file = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&json).unwrap()).unwrap();
    println!("\nwritten to {}", file.display());
    ExitCode::SUCCESS
}

fn print(figure: &Figure) {
    let Figure { name, unit, direct, ours, goal, .. } = figure;
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let ratio = direct.map(|direct| ours / direct);
    println!("{name:62} {unit:>7} {:>8} {ours:>8.2} {:>6}  {goal}", shown(*direct), shown(ratio));
}

fn as_json(figure: &Figure) -> serde_json::Value {
    serde_json::json!({
        "figure": figure.name,
        "unit": figure.unit,
        "direct": figure.direct,
        "ours": figure.ours,
        "ratio": figure.direct.map(|direct| figure.ours / direct),
        "goal": figure.goal,
        "runs": figure.runs,
    })
}

/// Measures both sides in turn, `rounds` times, and gives the median of each.
fn alternate<const N: usize>(
    rounds: usize,
    mut direct: impl FnMut() -> [f64; N],
    mut ours: impl FnMut() -> [f64; N],
) -> [(f64, f64); N] {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _round in 0..rounds {
        left.push(direct());
        right.push(ours());
    }
    std::array::from_fn(|index| {
        let of = |side: &[[f64; N]]| median(side.iter().map(|round| round[index]).collect());
        (of(&left), of(&right))
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How often each side of most figures is measured.
const ROUNDS: usize = 5;
