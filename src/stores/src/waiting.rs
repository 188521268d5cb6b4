//! What every engine does alike while it waits for a position: the furthest of those that are wanted, and what is wrong with a
//! link that is behind, in words. Pure.

use crate::error::Error;
use crate::link::{Link, LinkState, lacks};
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::StorePosition;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the links themselves are looked at, which costs more than their progress.
pub(crate) const LOOK_AT_LINKS: Duration = Duration::from_millis(250);

/// The longest pause between two questions: writes are held meanwhile.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The furthest position of each unit but this one, as `read` reads them.
pub(crate) fn wanted<P: Copy>(
    own: &UnitName,
    positions: &[StorePosition],
    read: impl Fn(&str) -> Result<P, Error>,
    at: impl Fn(&P) -> u64,
) -> Result<BTreeMap<UnitName, P>, Error> {
    let mut wanted = BTreeMap::new();
    let all = positions.iter().flat_map(|position| &position.vector);
    for entry in all.filter(|entry| entry.unit != *own) {
        let position = read(&entry.position)?;
        let furthest = wanted.entry(entry.unit.clone()).or_insert(position);
        if at(&position) > at(furthest) {
            *furthest = position;
        }
    }
    Ok(wanted)
}

pub(crate) fn not_come(unit: &str) -> String {
    format!("the fence of {unit} has not come by its link")
}

/// Why a unit's position is not reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Rows of it may be missing for good.
    Gap(String),
    /// Its link brings nothing, and will not by itself.
    Broken(String),
    /// Its link does not bring rows now; it may by itself.
    Starting(String),
}

impl Trouble {
    /// What is wrong with the link from `unit` among these; `words` say how far it is behind.
    pub(crate) fn of(links: &[Link], unit: &UnitName, words: &str) -> Option<Self> {
        let Some(link) = links.iter().find(|link| link.from == *unit) else {
            return Some(Self::Broken(format!("there is no link from {unit}: {words}")));
        };
        let of_link = |why: &str| format!("link from {unit}: {why}");
        match (&link.state, &link.gap) {
            (LinkState::Cut(why), _) => Some(Self::Broken(format!(
                "{words}, and it will not come by its link: {why}"
            ))),
            (LinkState::Broken(why) | LinkState::Quarantined(why), _) => Some(Self::Broken(of_link(why))),
            (LinkState::Running | LinkState::Starting(_) | LinkState::Lacks { .. }, Some(gap)) => {
                Some(Self::Gap(of_link(gap)))
            }
            (LinkState::Starting(why), None) => Some(Self::Starting(of_link(why))),
            (LinkState::Lacks { of, upto }, None) => Some(Self::Starting(of_link(&lacks(of, upto)))),
            (LinkState::Running, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::promotion::UnitPosition;

    #[test]
    fn of_each_unit_but_ours_the_furthest_position_counts() {
        let vector = |entries: &[(&str, &str)]| StorePosition {
            store: "orders".into(),
            source: "east-1".into(),
            vector: entries
                .iter()
                .map(|(unit, position)| UnitPosition {
                    unit: (*unit).into(),
                    position: (*position).to_owned(),
                })
                .collect(),
        };
        let read = |text: &str| {
            text.parse::<u64>().map_err(|_| Error::Malformed {
                what: "position",
                value: text.to_owned(),
            })
        };
        let positions = [vector(&[("a", "9"), ("own", "7")]), vector(&[("a", "10"), ("b", "1")])];
        let got = wanted(&"own".into(), &positions, read, |at| *at).unwrap();
        assert_eq!(got, BTreeMap::from([("a".into(), 10), ("b".into(), 1)]));
        assert!(wanted(&"own".into(), &[vector(&[("a", "x")])], read, |at| *at).is_err());
    }

    #[test]
    fn a_link_that_is_behind_says_whether_it_will_come_by_itself() {
        let gap = || Some("rows are missing".to_owned());
        let lacking = LinkState::Lacks {
            of: "b".into(),
            upto: "0/7".to_owned(),
        };
        for (state, gap, want) in [
            (LinkState::Running, None, "none"),
            (LinkState::Running, gap(), "gap"),
            (LinkState::Starting("connects".to_owned()), None, "starting"),
            (LinkState::Starting("connects".to_owned()), gap(), "gap"),
            (lacking.clone(), None, "starting"),
            (lacking, gap(), "gap"),
            (LinkState::Broken("refused".to_owned()), gap(), "broken"),
            (LinkState::Quarantined("lost".to_owned()), None, "broken"),
            (LinkState::Cut("op".to_owned()), gap(), "broken"),
        ] {
            let link = Link {
                from: "a".into(),
                state: state.clone(),
                gap,
                lacking: None,
            };
            let got = match Trouble::of(&[link], &"a".into(), "behind") {
                None => "none",
                Some(Trouble::Gap(_)) => "gap",
                Some(Trouble::Broken(_)) => "broken",
                Some(Trouble::Starting(_)) => "starting",
            };
            assert_eq!(got, want, "{state:?}");
        }
        let none = Trouble::of(&[], &"a".into(), "nothing of a is applied");
        let want = "there is no link from a: nothing of a is applied";
        assert_eq!(none, Some(Trouble::Broken(want.to_owned())));
    }
}
