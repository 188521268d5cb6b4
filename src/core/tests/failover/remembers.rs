//! What the table remembers of a lost unit: quarantine, leases, what was really lost.

use crate::common::{at, table, unit};
use crate::{aborted, begun, brought_to, range, request, spans};
use multiactive_core::lease::Seal;
use multiactive_core::ownership::{Declared, DeclaredKeyspace, DeclaredUnit, UnitSeen, manage};
use multiactive_core::promotion::{Accepted, Found, Step, begin, record_found};
use multiactive_core::quarantine::{LeaseWanted, is_quarantined, lease_wanted, lost};
use multiactive_core::ranges::{ShardRange, homes};
use multiactive_core::rejoin::{RejoinError, accept, rejoin};
use multiactive_core::table::RoutingTable;

fn word() -> Accepted {
    Accepted {
        by: "alice".to_owned(),
        reason: "INC-7".to_owned(),
    }
}

/// Only slots 0-3 have somewhere to go.
fn partly() -> RoutingTable {
    let some = [range("users-0", "0-3", &["north"]), range("users-1", "4-7", &[])];
    begin(&table(), &request(&table(), "east", &some), at(0)).unwrap()
}

#[test]
fn the_commit_puts_the_lost_unit_into_quarantine_and_fences_what_stays_with_it() {
    let table = brought_to(partly(), Step::Open);
    assert!(is_quarantined(&table, &unit("east")));
    let epoch = table.epoch.epoch;
    assert_eq!(spans(&table), format!("4o1@1.{epoch},4f0@1.{epoch},4s1@1.9,4u@0.0"));
    let known = &table.quarantined[0];
    assert_eq!(
        (known.since, known.by.as_str(), known.name.as_str()),
        (table.epoch, "uid-east", "lost-east")
    );
    let wanted = lease_wanted(&table, &unit("east"));
    assert_eq!(
        wanted,
        LeaseWanted::Sealed(Seal {
            by: "uid-east".into(),
            at: table.epoch
        })
    );
    assert_eq!(lost(&table), [unit("east")]);
}

#[test]
fn what_stays_with_a_unit_in_quarantine_can_be_failed_over_later() {
    let mut table = brought_to(partly(), Step::Settle);
    table.operations.clear();
    let mut wanted = request(&table, "east", &[range("users-1", "4-7", &["south"])]);
    (wanted.uid, wanted.name) = ("uid-2".into(), "rest-of-east".to_owned());
    let table = begin(&table, &wanted, at(0)).unwrap();
    let fenced = brought_to(table, Step::Fence);
    // The old seal does not count for it: whatever was decided on before must fail.
    assert_eq!(
        lease_wanted(&fenced, &unit("east")),
        LeaseWanted::Sealed(Seal {
            by: "uid-2".into(),
            at: fenced.epoch
        })
    );
    let back = aborted(&fenced);
    assert!(
        spans(&back).contains("4f0@"),
        "a unit in quarantine gets nothing open back: {}",
        spans(&back)
    );
    assert!(is_quarantined(&back, &unit("east")));
}

#[test]
fn a_part_that_is_aborted_after_the_other_committed_leaves_its_slots_fenced() {
    let two = [range("users-0", "0-3", &["north"]), range("users-1", "4-7", &["south"])];
    let begun = begin(&table(), &request(&table(), "east", &two), at(0)).unwrap();
    let mut table = brought_to(begun, Step::Settle);
    table.operations.remove(0);
    let back = aborted(&table);
    assert!(spans(&back).contains("4f0@"), "{}", spans(&back));
    assert!(back.operations.is_empty());
}

#[test]
fn a_unit_rejoins_once_no_failover_of_it_runs_and_may_hold_its_lease_as_of_that_table() {
    let east = unit("east");
    let running = brought_to(partly(), Step::Open);
    assert!(matches!(rejoin(&running, &east), Err(RejoinError::Running { .. })));
    let mut table = running;
    let word = word();
    assert!(matches!(
        accept(&table, &east, word.clone()),
        Err(RejoinError::Running { .. })
    ));
    table.operations.clear();
    assert!(matches!(rejoin(&table, &east), Err(RejoinError::NotAccepted(_))));
    let table = accept(&table, &east, word.clone()).unwrap().unwrap();
    assert_eq!(accept(&table, &east, word).unwrap(), None, "the first word stays");
    let back = rejoin(&table, &east).unwrap();
    assert_eq!(back.epoch, table.epoch.next());
    assert_eq!(lease_wanted(&back, &east), LeaseWanted::Granted { at: back.epoch });
    assert!(
        spans(&back).contains(&format!("4s0@1.{}", back.epoch.epoch)),
        "what it still owned: {}",
        spans(&back)
    );
    assert!(matches!(rejoin(&back, &east), Err(RejoinError::NotQuarantined(_))));
}

#[test]
fn a_unit_in_quarantine_becomes_no_first_owner() {
    let ready = |name: &str| {
        let seen = UnitSeen {
            may_open: Some(true),
            ..UnitSeen::default()
        };
        (unit(name), seen)
    };
    let mut table = brought_to(begun(), Step::Settle);
    table.operations.clear();
    let known = ["east", "north", "south"].map(unit).into();
    let all = ShardRange {
        name: "all".to_owned(),
        first: 0,
        last: 15,
        home: unit("east"),
    };
    let declared = Declared {
        units: table
            .units
            .iter()
            .map(|unit| DeclaredUnit {
                name: unit.name.clone(),
                router: unit.router.clone(),
                fences: false,
            })
            .collect(),
        keyspaces: vec![DeclaredKeyspace {
            name: "users".into(),
            slots: 16,
            definition: "Crc32".to_owned(),
            homes: homes(16, &[all], &known).ok(),
            given_up: false,
            members: Vec::new(),
        }],
    };
    let seen = ["east", "north", "south"].map(ready).into();
    let managed = manage(Some(&table), &declared, &seen).table.unwrap();
    assert!(spans(&managed).ends_with("4u@0.0"), "{}", spans(&managed));
    let table = accept(&table, &unit("east"), word()).unwrap().unwrap();
    let back = rejoin(&table, &unit("east")).unwrap();
    let managed = manage(Some(&back), &declared, &seen).table.unwrap();
    assert!(!spans(&managed).ends_with("4u@0.0"), "{}", spans(&managed));
}

#[test]
fn what_was_really_lost_stands_beside_the_bound() {
    let table = brought_to(begun(), Step::Settle);
    let movement = crate::pass(&table, 1, |_| {});
    let ended = crate::recorded(&table, &movement);
    let object = ended.finished[0].uid.object();
    let found = Found {
        rows: 3,
        span: None,
        at: at(99),
    };
    let after = record_found(&ended, &object, &found).unwrap();
    assert_eq!(after.finished[0].loss.as_ref().unwrap().found, Some(found.clone()));
    assert_eq!(record_found(&after, &object, &found), None, "once");
    assert_eq!(record_found(&ended, &"nobody".into(), &found), None);
}
