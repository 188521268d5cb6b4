//! Figures of a bench: samples with their percentiles, and the lines that are printed of them.

use std::time::Duration;

/// Times of one kind, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// A sample of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds a time in milliseconds.
    pub fn add_ms(&mut self, time: f64) {
        self.0.push(time);
    }

    /// How many times it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest time that `share` of all do not exceed (nearest rank): 0.5 is the median, 1.0 the largest.
    /// `None` where there is none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// p50, p99 and max as the columns of a line, and what is said beside them.
    pub fn line(&self, name: &str, beside: &str) {
        let column = |share| {
            self.quantile(share)
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
        };
        println!(
            "  {name:<46} {:>8} {:>8} {:>8}  {beside}",
            column(0.5),
            column(0.99),
            column(1.0)
        );
    }

    /// The line above lines of samples.
    pub fn head(title: &str) {
        println!("\n  {title:<46} {:>8} {:>8} {:>8}", "p50 ms", "p99 ms", "max ms");
    }
}

impl FromIterator<Duration> for Sample {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut sample = Self::new();
        times.into_iter().for_each(|time| sample.add(time));
        sample
    }
}

/// One figure that is no sample, with its target or what else is worth saying.
pub fn fact(name: &str, figure: impl std::fmt::Display, beside: &str) {
    println!("  {name:<46} {figure:>8}  {beside}");
}

/// How `ours` compares with `theirs`; `-` where one is not known.
pub fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
        (Some(_) | None, Some(_) | None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let sample: Sample = (1..=100).rev().map(Duration::from_millis).collect();
        for (share, want) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.995, 100.0), (1.0, 100.0)] {
            assert_eq!(sample.quantile(share), Some(want), "share {share}");
        }
        assert_eq!(Sample::new().quantile(0.5), None);
    }

    #[test]
    fn a_ratio_of_the_unknown_is_unknown() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), "1.50");
        for (ours, theirs) in [(None, Some(1.0)), (Some(1.0), None), (Some(1.0), Some(0.0))] {
            assert_eq!(ratio(ours, theirs), "-");
        }
    }
}
