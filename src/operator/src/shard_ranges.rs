//! What a ShardRange's status says: who owns its slots now, in which state, since when. Pure.

use crate::conditions::{Readiness, set_readiness};
use crate::served::{self, Unserved};
use crate::tables::View;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{ShardRange, ShardRangeStatus};
use multiactive_core::ids::UnitName;
use multiactive_core::ranges::RangeProblem;
use multiactive_core::span::{Span, SpanState};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What several different values are called.
const MIXED: &str = "mixed";

/// What is wrong with the ranges of each Keyspace, and with which of them. Found once for all ranges of a view, of which
/// there may be thousands.
pub struct Problems {
    of: BTreeMap<String, OfKeyspace>,
    /// Units in quarantine: what they still own is served by nobody.
    quarantined: BTreeSet<UnitName>,
}

struct OfKeyspace {
    all: Vec<RangeProblem>,
    /// Those that a range is named in, by its name.
    of: HashMap<String, Vec<usize>>,
}

impl Problems {
    /// Those of a view.
    pub fn of(view: &View) -> Self {
        let keyspaces = view.inputs.keyspaces.iter();
        let problems = |keyspace| {
            let all = view.inputs.homes(keyspace).as_ref().clone().err().unwrap_or_default();
            let mut of: HashMap<String, Vec<usize>> = HashMap::new();
            for (index, problem) in all.iter().enumerate() {
                for range in problem.ranges() {
                    of.entry(range.to_owned()).or_default().push(index);
                }
            }
            OfKeyspace { all, of }
        };
        let quarantined = view.table.iter().flat_map(|table| &table.quarantined);
        Self {
            of: keyspaces.map(|k| (k.name_any(), problems(k))).collect(),
            quarantined: quarantined.map(|known| known.unit.clone()).collect(),
        }
    }
}

/// The status that the view asks for.
pub fn status(
    range: &ShardRange,
    view: &View,
    problems: &Problems,
    unserved: &Unserved,
    now: Timestamp,
) -> ShardRangeStatus {
    let mut status = range.status.clone().unwrap_or_default();
    let spans = spans(range, view);
    let home = &range.spec.home_unit;
    let owners: BTreeSet<_> = spans
        .iter()
        .map(|span| span.owner.as_ref().map(|owner| owner.as_str()))
        .collect();
    let states: BTreeSet<_> = spans.iter().map(|span| format!("{:?}", span.state)).collect();
    status.slots = Some(match (range.spec.first_slot, range.spec.last_slot) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    status.active = one_of(owners.iter().map(|owner| owner.unwrap_or("none")));
    status.state = one_of(states.iter().map(String::as_str));
    let newest = spans.iter().map(|span| span.epoch.epoch).max();
    status.epoch = newest.and_then(|epoch| i64::try_from(epoch).ok());
    status.away = owners.iter().any(|owner| owner.is_some_and(|owner| owner != home));
    status.observed_generation = range.metadata.generation;
    let readiness = readiness(range, spans, problems, unserved);
    set_readiness(&mut status.conditions, &readiness, range.metadata.generation, now);
    status
}

/// The spans of the table that hold a slot of the range; they are in the order of their slots.
pub fn spans<'a>(range: &ShardRange, view: &'a View) -> &'a [Span] {
    let name = range.spec.keyspace.as_str().into();
    let table = view.table.as_deref().and_then(|table| table.keyspace(&name));
    let spans = table.map(|table| table.spans.as_slice()).unwrap_or_default();
    within(spans, range.spec.first_slot.into(), range.spec.last_slot.into())
}

/// The spans that hold a slot from `first` to `last`.
fn within(spans: &[Span], first: i64, last: i64) -> &[Span] {
    let begin = spans.partition_point(|span| i64::from(span.last) < first);
    let end = spans.partition_point(|span| i64::from(span.first) <= last);
    spans.get(begin..end).unwrap_or_default()
}

fn one_of<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<String> {
    let first = values.next()?;
    Some(if values.next().is_some() { MIXED } else { first }.to_owned())
}

fn readiness(range: &ShardRange, spans: &[Span], problems: &Problems, unserved: &Unserved) -> Readiness {
    let name = range.name_any();
    let keyspace = &range.spec.keyspace;
    let quarantined = &problems.quarantined;
    let Some(problems) = problems.of.get(keyspace) else {
        return Readiness::Stalled {
            reason: "NoKeyspace",
            message: format!("there is no Keyspace {keyspace}"),
        };
    };
    let mine = problems.of.get(&name).into_iter().flatten();
    let mine: Vec<&RangeProblem> = mine.filter_map(|index| problems.all.get(*index)).collect();
    if let Some(first) = mine.first() {
        let texts: Vec<_> = mine.iter().map(ToString::to_string).collect();
        return Readiness::Stalled {
            reason: first.reason(),
            message: texts.join("; "),
        };
    }
    let unowned = spans.is_empty() || spans.iter().any(|span| span.state == SpanState::Unowned);
    if unowned {
        return Readiness::Reconciling {
            reason: "SlotsWithoutOwner",
            message: "some slots have no owner yet, see the Keyspace".to_owned(),
        };
    }
    let lost =
        |span: &&Span| span.state == SpanState::Fenced && span.owner.as_ref().is_some_and(|o| quarantined.contains(o));
    if let Some(owner) = spans.iter().find(lost).and_then(|span| span.owner.as_ref()) {
        return Readiness::Stalled {
            reason: "OwnerLost",
            message: format!(
                "{owner} owns slots of it and is in quarantine, no other unit could take them: they are served by nobody. Make a \
                 failover unit usable and create another Failover of {owner}, or let it rejoin"
            ),
        };
    }
    if spans.iter().any(|span| span.state != SpanState::Serving) {
        return Readiness::Reconciling {
            reason: "Moving",
            message: "slots are opening or being moved".to_owned(),
        };
    }
    let said = range.status.as_ref().map(|status| status.conditions.as_slice());
    if let Some(message) = unserved.message(spans, said.unwrap_or_default()) {
        let reason = served::REASON;
        return Readiness::Reconciling { reason, message };
    }
    Readiness::Ready {
        reason: "Serving",
        message: "all slots are served".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::epoch::Epoch;

    #[test]
    fn a_range_finds_all_spans_that_it_touches_and_no_other() {
        let span = |(first, last): (u16, u16)| Span {
            first,
            last,
            owner: None,
            state: SpanState::Unowned,
            epoch: Epoch::NEVER,
        };
        let spans: Vec<_> = [(0, 3), (4, 4), (5, 9), (10, 15)].map(span).to_vec();
        for first in 0..16 {
            for last in first..16 {
                let touched = |span: &&Span| i64::from(span.first) <= last && i64::from(span.last) >= first;
                let want: Vec<_> = spans.iter().filter(touched).collect();
                let got: Vec<_> = within(&spans, first, last).iter().collect();
                assert_eq!(got, want, "{first}-{last}");
            }
        }
        assert!(within(&[], 0, 3).is_empty());
        assert!(
            within(&spans, 5, 4).is_empty(),
            "a range that is upside down holds nothing"
        );
    }
}
