//! Whether every acknowledged order is where it should be: once, in the owner, in order, taken by one unit only.

use crate::load::Record;
use crate::service::Order;
use serde::Serialize;
use std::collections::BTreeMap;

/// Every order that a unit's database holds, by id.
pub type Rows = BTreeMap<String, Order>;

/// What was found; all lists empty means that nothing was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many acknowledged orders were looked for.
    pub acknowledged: usize,
    /// Acknowledged orders that the owner's database does not hold.
    pub lost: Vec<String>,
    /// Orders that were taken without the user's order before them.
    pub out_of_order: Vec<String>,
    /// Orders that two units claim to have taken, or another than the one that acknowledged it.
    pub taken_twice: Vec<String>,
    /// Orders that units hold differently, or that one does not hold.
    pub differing: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn clean(&self) -> bool {
        let Self {
            acknowledged: _,
            lost,
            out_of_order,
            taken_twice,
            differing,
        } = self;
        lost.is_empty() && out_of_order.is_empty() && taken_twice.is_empty() && differing.is_empty()
    }
}

/// Compares what was acknowledged with what the units hold; `owner_of` gives the unit that owns a user now.
pub fn check<'a>(
    record: &Record,
    units: &BTreeMap<String, Rows>,
    owner_of: impl Fn(&str) -> Option<&'a str>,
) -> Findings {
    let mut findings = Findings::default();
    for order in record.acknowledged() {
        findings.acknowledged += 1;
        let kept = owner_of(&order.user)
            .and_then(|owner| units.get(owner))
            .and_then(|rows| rows.get(&order.id));
        match kept {
            None => findings.lost.push(order.id.clone()),
            Some(kept) if kept.unit != order.unit => {
                findings.taken_twice.push(format!(
                    "{}: {} acknowledged it, {} holds the row",
                    order.id, order.unit, kept.unit
                ));
            }
            Some(_) => {}
        }
    }
    let mut all: BTreeMap<&str, Vec<(&str, &Order)>> = BTreeMap::new();
    for (unit, rows) in units {
        for (id, order) in rows {
            all.entry(id).or_default().push((unit, order));
        }
    }
    for (id, copies) in all {
        if copies.len() < units.len() || copies.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            let held: Vec<_> = copies
                .iter()
                .map(|(unit, order)| format!("{unit} (taken by {})", order.unit))
                .collect();
            findings.differing.push(format!("{id}: held by {}", held.join(", ")));
        }
        if let Some((_, order)) = copies.iter().find(|(_, order)| order.prev != order.seq - 1) {
            findings
                .out_of_order
                .push(format!("{id}: taken after number {}", order.prev));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Attempt;

    fn order(seq: i64, unit: &str) -> Order {
        Order {
            id: format!("{seq}-u1"),
            user: "u1".into(),
            seq,
            prev: seq - 1,
            unit: unit.into(),
        }
    }

    fn acknowledged(orders: &[Order]) -> Record {
        let attempt = |order: &Order| Attempt {
            at_ms: 0.0,
            began: jiff::Timestamp::UNIX_EPOCH,
            took_ms: 1.0,
            user: order.user.clone(),
            seq: order.seq,
            router: 0,
            order: Some(order.clone()),
            error: None,
        };
        Record {
            attempts: orders.iter().map(attempt).collect(),
        }
    }

    fn rows(orders: &[Order]) -> Rows {
        orders.iter().map(|order| (order.id.clone(), order.clone())).collect()
    }

    #[test]
    fn each_fault_is_found_and_named() {
        let (first, second) = (order(1, "east"), order(2, "east"));
        let late = Order {
            prev: 0,
            ..second.clone()
        };
        let elsewhere = Order {
            unit: "north".into(),
            ..second.clone()
        };
        let both = [first.clone(), second.clone()];
        for (east, north, want) in [
            (both.to_vec(), both.to_vec(), (0, 0, 0, 0)),
            (vec![first.clone()], both.to_vec(), (1, 0, 0, 1)),
            (both.to_vec(), vec![first.clone()], (0, 0, 0, 1)),
            (
                vec![first.clone(), late.clone()],
                vec![first.clone(), late],
                (0, 1, 0, 0),
            ),
            (
                vec![first.clone(), elsewhere.clone()],
                vec![first, elsewhere],
                (0, 0, 1, 0),
            ),
        ] {
            let units = BTreeMap::from([("east".to_owned(), rows(&east)), ("north".to_owned(), rows(&north))]);
            let found = check(&acknowledged(&both), &units, |_| Some("east"));
            let counts = (
                found.lost.len(),
                found.out_of_order.len(),
                found.taken_twice.len(),
                found.differing.len(),
            );
            assert_eq!(counts, want, "{found:?}");
            assert_eq!(found.clean(), want == (0, 0, 0, 0));
        }
    }
}
