//! In words, how a store's database is not the one that this unit had, and what a person can do: see
//! [`multiactive_core::incarnation`]. Pure.
//!
//! What is remembered is in the unit's status, outside of the database, and in the databases of its peers.

use crate::facts::{Problem, StoreFacts};
use multiactive_core::incarnation::{Found, Mistaken, Remembered, mistaken};
use multiactive_stores::EngineKind;
use multiactive_stores::driver::Inspected;

/// Compares what is seen with what the unit's status remembers, and with what peers prove, in their words.
pub(super) fn judge(
    engine: EngineKind,
    known: &StoreFacts,
    seen: &Inspected,
    beyond: &[String],
) -> Result<(), Problem> {
    let remembered = Remembered {
        incarnation: known.incarnation.as_deref(),
        epoch: known.seen,
    };
    let found = Found {
        incarnation: &seen.incarnation,
        epoch: seen.seen,
        opened: seen.opened,
    };
    let Some(mistaken) = mistaken(remembered, found, !beyond.is_empty()) else {
        return Ok(());
    };
    Err(match mistaken {
        Mistaken::Empty => Problem::new(
            "StoreLost",
            another(engine, known, seen, "it is new, and no slot was ever open in it"),
        ),
        Mistaken::Another => Problem::new(
            "NewIncarnation",
            another(engine, known, seen, "other rows may have been written in it"),
        ),
        Mistaken::Older(epoch) => Problem::new(
            "WentBack",
            format!(
                "the database was at epoch {epoch} and is at {now} now: it was restored from an older state, and rows that \
                 were acknowledged since may be missing, though others have them. Nothing opens in it. Bring them back \
                 from a member whose rows are newest, and then say so in it: {say}. The links from and to here then have a \
                 gap until the rows were compared",
                now = seen.seen,
                say = engine.by_hand(&format!(
                    "UPDATE multiactive.store SET seen_term = {}, seen_epoch = {}, born = {}",
                    epoch.term,
                    epoch.epoch,
                    engine.fresh_uuid()
                )),
            ),
        ),
        Mistaken::Behind => Problem::new(
            "WentBack",
            format!(
                "{}: this database was restored from an older state, and rows that were acknowledged since are missing \
                 here. Nothing opens in it, for what it writes up to there would never come to them. Bring the rows back \
                 from there, and then say so in it: {}. The links from and to here then have a gap until the rows were \
                 compared",
                beyond.join("; "),
                engine.by_hand(&format!("UPDATE multiactive.store SET born = {}", engine.fresh_uuid()))
            ),
        ),
    })
}

fn another(engine: EngineKind, known: &StoreFacts, seen: &Inspected, what: &str) -> String {
    let incarnation = known.incarnation.as_deref().unwrap_or_default();
    let at = known.seen.map_or_else(String::new, |epoch| {
        format!(", seen_term = {}, seen_epoch = {}", epoch.term, epoch.epoch)
    });
    format!(
        "the database ({}) is not the one that this unit had ({incarnation}): {what}. Nothing opens in it, and nothing is \
         taken from it. Bring that database back; or bring all its rows into this one, from a backup or from a member whose \
         rows are newest, and then say so in it: {}. The links from here then have a gap until the rows were compared",
        seen.incarnation,
        engine.by_hand(&format!(
            "UPDATE multiactive.store SET incarnation = '{incarnation}'{at}"
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::epoch::Epoch;
    use multiactive_core::slots::SlotSet;

    #[test]
    fn a_database_is_another_one_by_its_name_and_an_older_one_by_its_epoch_or_its_peers() {
        let beyond = ["north-1 has applied more".to_owned()];
        // What is remembered: incarnation, epoch; what is seen: incarnation, epoch, opened; what peers say.
        for (known, known_epoch, seen, epoch, opened, beyond, want) in [
            (None, None, "a", 0, false, &[][..], None),
            (None, None, "a", 9, true, &[], None),
            (Some("a"), Some(9), "a", 9, true, &[], None),
            (Some("a"), Some(9), "a", 10, true, &[], None),
            (Some("a"), Some(9), "b", 0, false, &[], Some("StoreLost")),
            (Some("a"), Some(9), "b", 9, true, &[], Some("NewIncarnation")),
            (Some("a"), Some(9), "a", 8, true, &[], Some("WentBack")),
            (Some("a"), Some(9), "a", 9, true, &beyond, Some("WentBack")),
            (None, None, "a", 0, false, &beyond, Some("WentBack")),
        ] {
            let at = |epoch| Epoch::new(1, epoch);
            let facts = StoreFacts {
                incarnation: known.map(str::to_owned),
                seen: known_epoch.map(at),
                ..StoreFacts::default()
            };
            let inspected = Inspected {
                server: "1/2".to_owned(),
                incarnation: seen.to_owned(),
                opened,
                version: "18".to_owned(),
                seen: at(epoch),
                open: SlotSet::default(),
                lease: None,
                amiss: Vec::new(),
                refused: Vec::new(),
                warnings: Vec::new(),
                conflicts: None,
            };
            let got = judge(EngineKind::PostgreSql, &facts, &inspected, beyond).err();
            let got = got.map(|problem| problem.reason);
            assert_eq!(
                got.as_deref(),
                want,
                "{known:?} {known_epoch:?}, then {seen} {epoch}, {beyond:?}"
            );
        }
    }
}
