//! What chunks cost, as it is learnt from those that were compared: to find their rows, and to read them.

use super::Chunk;

/// What chunks cost, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// Each, to find its rows.
    pub(super) find: f64,
    /// Each row.
    pub(super) row: f64,
}

/// The line through what was seen, where its numbers of rows are apart enough to tell; else all of it is for reading.
pub(super) fn cost(seen: &[Chunk]) -> Cost {
    const NOTHING: f64 = 1e-9;
    let (rows, took) = (
        |chunk: &Chunk| number(chunk.rows),
        |chunk: &Chunk| chunk.took.as_secs_f64(),
    );
    let count = number(seen.len() as u64);
    let mean = |of: &dyn Fn(&Chunk) -> f64| seen.iter().map(of).sum::<f64>() / count;
    let (mean_rows, mean_took) = (mean(&rows), mean(&took));
    let reading = Cost {
        find: 0.0,
        row: (mean_took / mean_rows.max(1.0)).max(NOTHING),
    };
    let least = seen.iter().map(rows).fold(f64::INFINITY, f64::min);
    let most = seen.iter().map(rows).fold(0.0, f64::max);
    if most < 2.0 * least.max(1.0) {
        return reading;
    }
    let spread = mean(&|chunk| (rows(chunk) - mean_rows).powi(2));
    let together = mean(&|chunk| (rows(chunk) - mean_rows) * (took(chunk) - mean_took));
    let row = (together / spread).max(NOTHING);
    match mean_took - row * mean_rows {
        find if find > 0.0 => Cost { find, row },
        _ => reading,
    }
}

pub(super) fn number(count: u64) -> f64 {
    count as f64
}
