//! The figures: ours beside what it is measured against, alternating, medians, as a table and in `target/bench.json`.
//!
//! Client and server share this machine's cores, so ratios and CPU per byte tell more than absolute speed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be made ends at once"
)]

mod plane;
mod ssh;

use std::process::ExitCode;

/// One line of the table.
struct Figure {
    name: &'static str,
    unit: &'static str,
    /// What it is measured against; none where the goal is absolute.
    direct: Option<f64>,
    ours: f64,
    goal: &'static str,
    runs: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some(word) if word == sallyport_tailnet::netns::SUBCOMMAND => return sallyport_tailnet::netns::helper_main(),
        Some("serve-tailnet") => plane::serve_tailnet(&words[2..]),
        Some("serve-tcp") => plane::serve_tcp(),
        Some("stream") => plane::stream(&words[2..]),
        _ => measure(),
    }
    ExitCode::SUCCESS
}

fn measure() {
    let figures: Vec<Figure> = [plane::figures(), ssh::figures()].into_iter().flatten().collect();
    println!("{:58} {:>8} {:>9} {:>9} {:>7}  goal", "figure", "unit", "direct", "ours", "ratio");
    for Figure { name, unit, direct, ours, goal, .. } in &figures {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        println!(
            "{name:58} {unit:>8} {:>9} {ours:>9.2} {:>7}  {goal}",
            shown(*direct),
            shown(direct.map(|direct| ours / direct))
        );
    }
    let json: Vec<_> = figures.iter().map(as_json).collect();
    let file = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&json).unwrap()).unwrap();
    println!("\nwritten to {}", file.display());
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

/// Measures both sides in turn, and gives the median of each.
fn alternate<const N: usize>(
    mut direct: impl FnMut() -> [f64; N],
    mut ours: impl FnMut() -> [f64; N],
) -> [(f64, f64); N] {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _round in 0..ROUNDS {
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

/// How often each side is measured.
const ROUNDS: usize = 3;
