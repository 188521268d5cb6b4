//! What is written, by turns with and without the fence, and the lines that are printed of it.
#![allow(dead_code, reason = "each bench uses a part")]

use std::time::Duration;

/// How often each of the two takes its turn.
pub const ROUNDS: usize = 15;

/// The table without the fence, and the one with it.
pub const TABLES: [&str; 2] = ["orders_plain", "orders"];

/// How rows are written.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A statement and a transaction for each.
    Single,
    /// A statement for 100.
    Batch,
    /// One statement for all, whose rows the server makes itself.
    Bulk,
}

/// What is measured: how many rows, written how.
pub const KINDS: [(&str, usize, Kind); 3] = [
    ("single rows, durable commits", 200, Kind::Single),
    ("batches of 100", 2_000, Kind::Batch),
    ("INSERT … SELECT of 20,000", 20_000, Kind::Bulk),
];

/// The line above the others.
pub fn head() {
    println!(
        "{:<34} {:>12} {:>12} {:>8}",
        "rows written by one client", "plain µs", "fenced µs", "ratio"
    );
}

/// Who goes first changes, so that neither always finds the warmer cache.
pub fn turns(round: usize) -> [usize; 2] {
    [round % 2, (round + 1) % 2]
}

/// The medians of both, and of the ratios of each round.
pub fn line(name: &str, times: [Vec<Duration>; 2]) {
    let pairs = times[0].iter().zip(&times[1]);
    let mut ratios: Vec<f64> = pairs
        .map(|(plain, fenced)| fenced.as_secs_f64() / plain.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let [plain, fenced] = times.map(median).map(|time| time.as_secs_f64() * 1e6);
    println!(
        "{name:<34} {plain:>12.1} {fenced:>12.1} {:>8.2}",
        ratios[ratios.len() / 2]
    );
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
