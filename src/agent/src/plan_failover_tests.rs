//! What a failover asks of each unit, step by step, and whom its table wants cut off.

use super::tests::{UNITS, open, table};
use super::*;
use jiff::Timestamp;
use multiactive_core::promotion::{
    Evidence, FAILOVER_BUDGETS, FailoverRequest, FenceProof, FencedBy, Loss, Move, Outcome, Placed, Placement, Tail,
    begin, record,
};

use multiactive_core::quarantine::Quarantined;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// East is lost: slots 0 to 49 go north, and 50 to 99 to whom is named.
fn begun(second: &str) -> RoutingTable {
    let table = table();
    let placed = |slots, target: &str| Placed {
        range: None,
        keyspace: "users".into(),
        slots,
        superseded: None,
        target: target.into(),
        skipped: Vec::new(),
    };
    let request = FailoverRequest {
        uid: "lost".into(),
        name: "lost-east".into(),
        lost: "east".into(),
        named: true,
        fences: false,
        placement: Placement {
            placed: vec![
                placed(SlotSet::range(0, 49), "north"),
                placed(SlotSet::range(50, 99), second),
            ],
            unplaced: Vec::new(),
        },
        stores: Vec::new(),
        expected_epoch: 99,
        max_data_loss: SignedDuration::from_secs(5),
        budgets: FAILOVER_BUDGETS,
    };
    begin(&table, &request, NOW).unwrap()
}

fn enter(table: &RoutingTable, uid: &str, step: Step) -> RoutingTable {
    let evidence = match step {
        Step::Cut => Evidence::Fence(Box::new(FenceProof {
            by: FencedBy::Lease,
            at: NOW,
            landmarks: Vec::new(),
            heard: Vec::new(),
        })),
        Step::Drain => Evidence::Loss(Box::new(Loss {
            fenced_by: FencedBy::Lease,
            stores: Vec::new(),
            bound: None,
            given_up: Vec::new(),
            accepted: None,
            found: None,
        })),
        Step::Check
        | Step::Prepare
        | Step::Verify
        | Step::Hold
        | Step::Fence
        | Step::Commit
        | Step::Open
        | Step::Settle => Evidence::None,
    };
    let needless = [Step::Verify, Step::Hold].map(|step| (step, "lost".to_owned()));
    let movement = Move::Enter {
        step,
        not_needed: needless.into_iter().filter(|_| step == Step::Fence).collect(),
        passed: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence,
    };
    record(table, &uid.into(), &movement, NOW).unwrap().unwrap()
}

/// All goes north; the only operation stands at `step`.
fn failed_to(step: Step) -> RoutingTable {
    let path = [
        Step::Prepare,
        Step::Fence,
        Step::Cut,
        Step::Drain,
        Step::Commit,
        Step::Settle,
    ];
    let reached = |next: &Step| *next <= step || (step == Step::Open && *next == Step::Commit);
    let path = path.into_iter().take_while(reached);
    path.fold(begun("north"), |table, next| enter(&table, "lost.1", next))
}

fn asks(table: &RoutingTable, unit: &str) -> Vec<Ask> {
    let duties = duties(table, &unit.into(), &[("orders".into(), "users".into())], |_, _| false);
    let stores = duties.into_iter().flat_map(|duty| duty.stores);
    stores
        .flat_map(|asked| std::iter::once(asked.ask).chain(asked.besides))
        .collect()
}

fn cut_at(table: &RoutingTable) -> Cut {
    Cut {
        lost: "east".into(),
        by: "lost.1".into(),
        at: table.operations[0].epoch,
    }
}

#[test]
fn each_step_of_a_failover_asks_what_the_machine_waits_for() {
    let east: Vec<UnitName> = vec!["east".into()];
    let follow = |takes_over| Ask::Follow {
        sources: east.clone(),
        takes_over,
    };
    let reach = |takes_over| Ask::Reach {
        positions: Vec::new(),
        takes_over,
    };
    let fence = Ask::Fence {
        slots: SlotSet::range(0, 99),
        budget: FAILOVER_BUDGETS.fence,
        superseded: None,
    };
    for (step, source, target, member) in [
        (Step::Check, Ask::Beat, Ask::Lag(east.clone()), Ask::Lag(east.clone())),
        (Step::Prepare, Ask::Beat, Ask::Lag(east.clone()), Ask::Lag(east.clone())),
        // Whatever its routers say: nobody waits for them.
        (Step::Fence, fence, follow(true), follow(false)),
        (
            Step::Cut,
            Ask::Nothing,
            Ask::Cut(cut_at(&failed_to(Step::Cut))),
            Ask::Cut(cut_at(&failed_to(Step::Cut))),
        ),
        (Step::Drain, Ask::Nothing, reach(true), reach(false)),
        (Step::Open, Ask::Nothing, Ask::Nothing, Ask::Nothing),
        (Step::Settle, Ask::Nothing, Ask::Nothing, Ask::Nothing),
    ] {
        let table = failed_to(step);
        for (unit, ask) in [("east", source), ("north", target), ("south", member)] {
            // What survivors have applied of each other's logs is waited for, so something is written to them.
            let beats = (unit != "east" && step != Step::Fence && step <= Step::Drain).then_some(Ask::Beat);
            let want: Vec<_> = [ask].into_iter().chain(beats).collect();
            assert_eq!(asks(&table, unit), want, "{step} {unit}");
        }
    }
}

#[test]
fn only_the_target_takes_over_a_tail_and_only_before_the_slots_are_anybodys() {
    let tail = Tail {
        from: "south".into(),
        stores: Vec::new(),
    };
    let cut = failed_to(Step::Cut);
    let handed_on = record(&cut, &"lost.1".into(), &Move::HandOn(tail), NOW)
        .unwrap()
        .unwrap();
    let take = Ask::TakeTail {
        cut: cut_at(&handed_on),
        slots: SlotSet::range(0, 99),
        from: "south".into(),
    };
    assert_eq!(
        asks(&handed_on, "north"),
        [Ask::Cut(cut_at(&handed_on)), Ask::Beat, take.clone()]
    );
    for unit in ["east", "south"] {
        assert!(!asks(&handed_on, unit).contains(&take), "{unit}");
    }
    let drained = enter(&handed_on, "lost.1", Step::Drain);
    assert!(!asks(&drained, "north").contains(&take));
}

#[test]
fn a_lost_unit_is_cut_off_from_cut_on_and_until_it_has_rejoined() {
    for step in [Step::Check, Step::Prepare, Step::Fence] {
        assert_eq!(
            cuts(&failed_to(step), &"north".into()),
            [],
            "{step}: the target may follow its fence"
        );
    }
    for step in [Step::Cut, Step::Drain, Step::Open, Step::Settle] {
        let table = failed_to(step);
        for unit in ["north", "south"] {
            assert_eq!(cuts(&table, &unit.into()), [cut_at(&table)], "{step} {unit}");
        }
        assert_eq!(cuts(&table, &"east".into()), [], "{step}: not from itself");
    }
    let settled = failed_to(Step::Settle);
    let done = record(&settled, &"lost.1".into(), &Move::End(Outcome::Succeeded), NOW).unwrap();
    let done = done.unwrap();
    let [cut] = &cuts(&done, &"south".into())[..] else {
        panic!("in quarantine")
    };
    assert_eq!(
        (cut.lost.as_str(), cut.by.as_str(), cut.at),
        ("east", "lost", done.quarantined[0].since)
    );
    let back = |table: &RoutingTable| crate::lost::back(table, &"east".into());
    assert_eq!((back(&table()), back(&settled), back(&done)), (None, None, None));
    let word = multiactive_core::promotion::Accepted {
        by: "alice".to_owned(),
        reason: "INC-7".to_owned(),
    };
    let accepted = multiactive_core::rejoin::accept(&done, &"east".into(), word).unwrap();
    let rejoined = multiactive_core::rejoin::rejoin(&accepted.unwrap(), &"east".into()).unwrap();
    assert_eq!(cuts(&rejoined, &"south".into()), []);
    assert_eq!(back(&rejoined), Some(rejoined.epoch));
    let outcome = Outcome::Aborted {
        reason: "Test".into(),
        message: "by the test".into(),
    };
    let aborted = record(&failed_to(Step::Cut), &"lost.1".into(), &Move::End(outcome), NOW).unwrap();
    let aborted = aborted.unwrap();
    assert_eq!(
        (cuts(&aborted, &"south".into()), back(&aborted)),
        (vec![], Some(aborted.epoch))
    );
    // It is called lost once more: nothing is cut yet, and nothing joins again either.
    let mut again = aborted;
    again.operations = begun("north").operations;
    assert_eq!((cuts(&again, &"south".into()), back(&again)), (vec![], None));
}

#[test]
fn two_operations_of_one_lost_unit_want_one_cut_the_newest() {
    let mut table = begun("south");
    for uid in ["lost.1", "lost.2"] {
        for step in [Step::Prepare, Step::Fence, Step::Cut] {
            table = enter(&table, uid, step);
        }
    }
    let newest = |table: &RoutingTable, by: &str| Cut {
        lost: "east".into(),
        by: by.into(),
        at: table.operation(&by.into()).unwrap().epoch,
    };
    assert_eq!(cuts(&table, &"north".into()), [newest(&table, "lost.2")]);
    let asked = Ask::Cut(newest(&table, "lost.2"));
    assert_eq!(
        asks(&table, "north"),
        [asked.clone(), Ask::Beat, asked, Ask::Beat],
        "each is answered by the newest"
    );
    // The first waits for positions at an epoch of its own: a cut of the other operation counts only from there on.
    let table = enter(&table, "lost.1", Step::Drain);
    assert_eq!(cuts(&table, &"north".into()), [newest(&table, "lost.1")]);
}

#[test]
fn a_unit_in_quarantine_opens_nothing_whatever_else_its_table_says() {
    let mut table = failed_to(Step::Settle);
    assert_eq!(open(&table, "north").to_string(), "0-199");
    assert!(open(&table, "east").is_empty());
    table.keyspaces[0].set(
        &SlotSet::range(200, 209),
        Some(&"east".into()),
        multiactive_core::span::SpanState::Serving,
        table.epoch,
    );
    assert!(open(&table, "east").is_empty());
    let quarantined = multiactive_core::quarantine::of(&table, &"east".into()).unwrap();
    assert_eq!(quarantined.name, "lost-east");
    assert!(
        UNITS[1..]
            .iter()
            .all(|unit| multiactive_core::quarantine::of(&table, &(*unit).into()).is_none())
    );
}

#[test]
fn a_store_in_quarantine_is_compared_with_the_owners_of_now_once_none_of_its_failovers_runs() {
    let of = |table: &RoutingTable, unit: &str| crate::lost::Quarantine::of(table, &unit.into(), &"users".into());
    let running = failed_to(Step::Settle);
    assert!(!of(&running, "east").unwrap().settled);
    let done = record(&running, &"lost.1".into(), &Move::End(Outcome::Succeeded), NOW).unwrap();
    let mut done = done.unwrap();
    assert_eq!(of(&done, "north"), None);
    let asked = of(&done, "east").unwrap();
    assert!(asked.settled && !asked.accepted);
    assert_eq!((asked.by.as_str(), asked.since), ("lost", done.quarantined[0].since));
    let parts: Vec<_> = asked.parts.iter().map(OperationUid::as_str).collect();
    assert_eq!(parts, ["lost.1"]);
    let owners: Vec<_> = asked.owners.iter().map(|(unit, _)| unit.as_str()).collect();
    assert!(owners.contains(&"north") && !owners.contains(&"east"), "{owners:?}");
    // Another unit that is lost is no owner to copy from.
    done.quarantined.push(Quarantined {
        unit: "north".into(),
        ..done.quarantined[0].clone()
    });
    let asked = of(&done, "east").unwrap();
    assert!(asked.owners.iter().all(|(unit, _)| unit.as_str() != "north"));
    assert_eq!(asked.lost.len(), 2);
}

#[test]
fn who_gets_slots_from_a_target_that_was_lost_asks_whether_they_were_ever_open_there() {
    let mut table = failed_to(Step::Fence);
    let superseded = multiactive_core::promotion::Superseded {
        uid: "moved".into(),
        sources: vec!["north".into()],
        behind: Vec::new(),
    };
    table.operations[0].failover.as_mut().unwrap().superseded = Some(superseded);
    let asked = asks(&table, "east");
    assert!(
        matches!(&asked[..], [Ask::Fence { superseded: Some(op), .. }] if op.as_str() == "moved"),
        "{asked:?}"
    );
}
