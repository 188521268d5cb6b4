//! The bound of a loss, row by row: what proves which time, and that unknown is never zero.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

use jiff::{SignedDuration, Timestamp};
use multiactive_core::promotion::{FenceProof, FencedBy, Heard, Landmark, LossInputs, Progress, loss};

fn progress(log: &str, at: u64) -> Progress {
    Progress {
        log: log.to_owned(),
        at,
    }
}

fn landmark(store: &str, at: u64, seconds: i64) -> Landmark {
    Landmark {
        store: store.into(),
        progress: progress("east", at),
        until_end: SignedDuration::from_secs(seconds),
    }
}

fn heard(unit: &str, seconds: i64) -> Heard {
    Heard {
        unit: unit.into(),
        until_end: SignedDuration::from_secs(seconds),
    }
}

#[test]
fn a_bound_is_the_shortest_time_that_is_proven_for_the_target_and_else_unknown() {
    let renewals = || vec![landmark("orders", 50, 12), landmark("orders", 40, 25)];
    let rows: [(&str, Vec<Landmark>, Vec<Heard>, Option<Progress>, Option<i64>); 13] = [
        (
            "it has the last renewal's position",
            renewals(),
            vec![],
            Some(progress("east", 50)),
            Some(12),
        ),
        (
            "it has more than that",
            renewals(),
            vec![],
            Some(progress("east", 99)),
            Some(12),
        ),
        (
            "it has only the one before",
            renewals(),
            vec![],
            Some(progress("east", 49)),
            Some(25),
        ),
        (
            "it has neither, and nothing was heard",
            renewals(),
            vec![],
            Some(progress("east", 39)),
            None,
        ),
        (
            "it has neither, but heard a row",
            renewals(),
            vec![heard("north", 31)],
            Some(progress("east", 1)),
            Some(31),
        ),
        (
            "what it heard is newer than the renewal",
            renewals(),
            vec![heard("north", 9)],
            Some(progress("east", 50)),
            Some(9),
        ),
        (
            "the renewal is newer than what it heard",
            renewals(),
            vec![heard("north", 90)],
            Some(progress("east", 50)),
            Some(12),
        ),
        (
            "another survivor heard it",
            renewals(),
            vec![heard("south", 3)],
            Some(progress("east", 1)),
            None,
        ),
        ("how far it is is unknown", renewals(), vec![], None, None),
        (
            "it counts in another history",
            renewals(),
            vec![],
            Some(progress("restored", 99)),
            None,
        ),
        (
            "the renewal is of another store",
            vec![landmark("carts", 1, 5)],
            vec![],
            Some(progress("east", 99)),
            None,
        ),
        ("nothing is known at all", vec![], vec![], None, None),
        (
            "it followed the unit's own fence",
            vec![],
            vec![heard("north", 0)],
            None,
            Some(0),
        ),
    ];
    for (what, landmarks, heard, mine, want) in rows {
        let proof = FenceProof {
            by: FencedBy::Lease,
            at: Timestamp::UNIX_EPOCH,
            landmarks,
            heard,
        };
        let progress: Vec<_> = mine.map(|progress| ("orders".into(), progress)).into_iter().collect();
        let found = loss(LossInputs {
            proof: &proof,
            target: &"north".into(),
            stores: &[&"orders".into()],
            progress: &progress,
        });
        assert_eq!(found.len(), 1, "{what}");
        assert_eq!(found[0].bound, want.map(SignedDuration::from_secs), "{what}");
    }
}

#[test]
fn positions_of_two_histories_cannot_be_compared() {
    assert_eq!(progress("a", 5).covers(&progress("a", 5)), Some(true));
    assert_eq!(progress("a", 4).covers(&progress("a", 5)), Some(false));
    for text in ["", "5", "a@", "a@+5", "a@5x"] {
        assert!(text.parse::<Progress>().is_err(), "{text}");
    }
    assert_eq!(
        progress("a@b", u64::MAX).to_string().parse(),
        Ok(progress("a@b", u64::MAX))
    );
    assert_eq!(progress("b", 9).covers(&progress("a", 5)), None);
}
