//! How the statuses of a namespace's ranges are gone through: there may be thousands, and what they are written from may
//! change many times meanwhile. Pure; time is an argument.

use crate::conditions::is_ready;
use kube::ResourceExt;
use multiactive_api::{STALLED, ShardRange, ShardRangeStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Without a new range for this long, what is wrong with one is told,
const QUIET: Duration = Duration::from_secs(1);
/// and that it is on its way.
const CALM: Duration = Duration::from_secs(3);
/// However long new ranges keep coming, they are told what they are after this.
const AT_LAST: Duration = Duration::from_secs(30);

/// Where the sweep stands.
#[derive(Debug)]
pub struct Sweep {
    /// Where the next begins: the name of a range.
    next: String,
    /// How many ranges there were when one came or went last, and when that was.
    count: usize,
    changed: Instant,
    /// Since when a status has been put off.
    since: Option<Instant>,
}

impl Sweep {
    /// A sweep that has seen nothing.
    pub fn new(now: Instant) -> Self {
        Self {
            next: String::new(),
            count: 0,
            changed: now,
            since: None,
        }
    }

    /// The ranges in the order in which their statuses are due, beginning where the last sweep was left: whoever is often
    /// interrupted comes round all the same.
    pub fn order<'a>(&mut self, ranges: &'a [Arc<ShardRange>], now: Instant) -> Vec<&'a Arc<ShardRange>> {
        if ranges.len() != self.count {
            (self.count, self.changed) = (ranges.len(), now);
        }
        let name = |range: &Arc<ShardRange>| range.metadata.name.as_deref() < Some(self.next.as_str());
        let (before, after) = ranges.split_at(ranges.partition_point(name));
        after.iter().chain(before).collect()
    }

    /// The sweep was interrupted before `range`.
    pub fn interrupt(&mut self, range: &ShardRange) {
        self.next = range.name_any();
    }

    /// Whether the first status of a range is put off: while others keep coming it is about to change, and each write of it
    /// would be one more for nothing.
    pub fn puts_off(&mut self, range: &ShardRange, wanted: &ShardRangeStatus, now: Instant) -> bool {
        if range.status.is_some() || is_ready(&wanted.conditions) == Some(true) {
            return false;
        }
        let mut stalled = wanted.conditions.iter().filter(|condition| condition.type_ == STALLED);
        let stalled = stalled.any(|condition| condition.status == "True");
        let since = *self.since.get_or_insert(now);
        let quiet = now.duration_since(self.changed);
        quiet < if stalled { QUIET } else { CALM } && now.duration_since(since) < AT_LAST
    }

    /// A sweep came to its end; nothing is put off any more where it put nothing off.
    pub fn end(&mut self, put_off: bool) {
        if !put_off {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn range(name: &str) -> Arc<ShardRange> {
        let spec = json!({"keyspace": "users", "firstSlot": 0, "lastSlot": 0, "homeUnit": "a"});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    fn status(ready: &str, stalled: &str) -> ShardRangeStatus {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-11-22T12:00:00Z"});
        serde_json::from_value(json!({"conditions": [condition("Ready", ready), condition("Stalled", stalled)]}))
            .unwrap()
    }

    #[test]
    fn a_sweep_that_was_interrupted_goes_on_where_it_was_left() {
        let now = Instant::now();
        let mut sweep = Sweep::new(now);
        let names = |sweep: &mut Sweep, ranges: &[Arc<ShardRange>]| -> Vec<String> {
            sweep.order(ranges, now).iter().map(|range| range.name_any()).collect()
        };
        let all = ["a", "b", "c", "d"].map(range);
        assert_eq!(names(&mut sweep, &all), ["a", "b", "c", "d"]);
        sweep.interrupt(&all[2]);
        assert_eq!(names(&mut sweep, &all), ["c", "d", "a", "b"]);
        assert_eq!(names(&mut sweep, &all[..2]), ["a", "b"], "those after it are gone");
        assert!(names(&mut sweep, &[]).is_empty());
    }

    #[test]
    fn a_first_status_waits_while_ranges_keep_coming_unless_it_is_the_last() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let (transient, wrong, served) = (
            status("False", "False"),
            status("False", "True"),
            status("True", "False"),
        );
        let fresh = range("a");
        let mut told = (*fresh).clone();
        told.status = Some(transient.clone());
        let quiet_since = |last: u64| {
            let mut sweep = Sweep::new(start);
            sweep.order(std::slice::from_ref(&fresh), after(last));
            sweep
        };
        for (why, range, wanted, seconds, want) in [
            ("just came", &*fresh, &transient, 10, true),
            ("just came and is wrong", &*fresh, &wrong, 10, true),
            ("just came and is served", &*fresh, &served, 10, false),
            ("quiet for a second, wrong", &*fresh, &wrong, 11, false),
            ("quiet for a second, on its way", &*fresh, &transient, 11, true),
            ("quiet for three", &*fresh, &transient, 13, false),
            ("has a status", &told, &transient, 10, false),
        ] {
            assert_eq!(quiet_since(10).puts_off(range, wanted, after(seconds)), want, "{why}");
        }
        let mut sweep = quiet_since(10);
        assert!(sweep.puts_off(&fresh, &transient, after(10)));
        let more = [range("a"), range("b")];
        sweep.order(&more, after(39));
        assert!(sweep.puts_off(&fresh, &transient, after(39)), "ranges keep coming");
        sweep.order(&more[..1], after(40));
        assert!(!sweep.puts_off(&fresh, &transient, after(40)), "but not for ever");
        sweep.end(false);
        assert!(
            sweep.puts_off(&fresh, &transient, after(41)),
            "the next burst is another"
        );
    }
}
