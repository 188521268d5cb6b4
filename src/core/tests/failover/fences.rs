//! Fence: what proves that the lost unit writes no more, and what is waited for while nothing does.

use crate::common::{at, position, unit, well};
use crate::{aborted, begun, brought_to, pass, progress, seconds, short, usable};
use multiactive_core::epoch::Epoch;
use multiactive_core::lease::Mode;
use multiactive_core::lease::Seal;
use multiactive_core::promotion::{
    Decision, DecisionKind, Evidence, FenceSeen, FencedBy, HookSaid, HookSeen, LeaseEnd, Move, Reach, Seen, Step,
    Superseded, UnitReady, WaitFor,
};
use multiactive_core::quarantine::{LeaseWanted, lease_wanted};

fn confirm(seen: &mut Seen) {
    seen.decisions = vec![Decision {
        kind: DecisionKind::ConfirmFenced,
        target: "east".to_owned(),
        by: "alice".to_owned(),
        reason: "the rack is off".to_owned(),
        not_after: Some(at(60)),
    }];
}

fn keeps_serving(seen: &mut Seen) {
    seen.failover.lease.as_mut().unwrap().mode = Mode::KeepServing;
}

/// What the hook of east said to the operation that runs.
fn hook(seen: &mut Seen, epoch: Epoch, said: HookSaid) {
    seen.failover.hook = Some(HookSeen {
        operation: "uid-east.1".into(),
        epoch,
        by: "pdu.example:443".to_owned(),
        said,
    });
}

fn end(seen: &mut Seen, end: LeaseEnd) {
    seen.failover.lease.as_mut().unwrap().sealed.as_mut().unwrap().1 = end;
}

#[test]
fn only_a_sealed_lease_that_is_over_a_report_or_a_persons_word_proves_the_fence() {
    let table = brought_to(begun(), Step::Fence);
    let epoch = table.operations[0].epoch;
    let report = move |seen: &mut Seen, epoch| {
        seen.sources[0].fence = Some(FenceSeen {
            epoch,
            positions: vec![position()],
        });
    };
    let rows: Vec<(&str, i64, Box<dyn Fn(&mut Seen)>, &str)> = vec![
        ("sealed and over", 0, Box::new(|_| {}), "Cut"),
        (
            "not read",
            99,
            Box::new(|seen| seen.failover.lease = None),
            "wait for the write lease: east is not sealed yet",
        ),
        (
            "it cannot be sealed",
            99,
            Box::new(|seen| {
                seen.failover.lease = None;
                seen.failover.unsealed = Some("a policy refuses it".to_owned());
            }),
            "wait for the write lease: east is not sealed yet: a policy refuses it",
        ),
        (
            "not sealed",
            99,
            Box::new(|seen| seen.failover.lease.as_mut().unwrap().sealed = None),
            "wait for the write lease: east is not sealed yet",
        ),
        (
            "sealed before this failover",
            99,
            Box::new(|seen| {
                seen.failover.lease.as_mut().unwrap().sealed = Some((Epoch::new(1, 9), LeaseEnd::Ago(seconds(9))))
            }),
            "wait for the write lease: east is not sealed yet",
        ),
        (
            "a word does not stand for the seal",
            9,
            Box::new(|seen| {
                confirm(seen);
                seen.failover.lease.as_mut().unwrap().sealed = None;
            }),
            "wait for the write lease: east is not sealed yet",
        ),
        (
            "sealed and not over",
            9,
            Box::new(|seen| end(seen, LeaseEnd::In(seconds(4)))),
            "wait for the write lease: east is sealed and over in 4s",
        ),
        (
            "its end is unknown",
            9,
            Box::new(|seen| end(seen, LeaseEnd::Unknown)),
            "wait for the write lease: east is sealed, its end is not known yet",
        ),
        (
            "its end stays unknown",
            30,
            Box::new(|seen| end(seen, LeaseEnd::Unknown)),
            "wait for the decision ConfirmFenced of east: nobody can tell when the write lease of east is over",
        ),
        (
            "it keeps serving, and may answer",
            0,
            Box::new(keeps_serving),
            "wait for the fence of east",
        ),
        (
            "it keeps serving",
            1,
            Box::new(keeps_serving),
            "wait for the decision ConfirmFenced of east: east does not answer, and its onLeaseLoss is KeepServing, so it may write without a lease",
        ),
        (
            "a store knows no deadline",
            1,
            Box::new(|seen| seen.failover.lease.as_mut().unwrap().unenforced = vec!["cache".into()]),
            "wait for the decision ConfirmFenced of east: east does not answer, and cache there knows no deadline",
        ),
        (
            "a word",
            1,
            Box::new(|seen| {
                keeps_serving(seen);
                confirm(seen);
            }),
            "Cut",
        ),
        (
            "a word that has expired",
            61,
            Box::new(|seen| {
                keeps_serving(seen);
                confirm(seen);
            }),
            "wait for the decision ConfirmFenced of east: east does not answer, and its onLeaseLoss is KeepServing, so it may write without a lease",
        ),
        (
            "it fenced itself",
            0,
            Box::new(move |seen| {
                keeps_serving(seen);
                report(seen, epoch);
            }),
            "Cut",
        ),
        (
            "it fenced itself for another epoch",
            0,
            Box::new(move |seen| {
                keeps_serving(seen);
                report(seen, Epoch::new(1, 3));
            }),
            "wait for the fence of east",
        ),
        (
            "it is alive: what it wrote last is waited for",
            9,
            Box::new(move |seen| {
                report(seen, epoch);
                seen.members[0].reach = Some(Reach::Waiting("0/9".into()));
            }),
            "wait for the last writes at north: 0/9",
        ),
        (
            "but not without end",
            10,
            Box::new(move |seen| {
                report(seen, epoch);
                seen.members[0].reach = Some(Reach::Waiting("0/9".into()));
            }),
            "Cut",
        ),
    ];
    for (what, now, change, want) in rows {
        assert_eq!(short(&pass(&table, now, change)), want, "{what}");
    }
}

#[test]
fn a_hook_proves_the_fence_only_by_an_explicit_yes_to_this_very_operation() {
    let table = brought_to(begun(), Step::Fence);
    let op = &table.operations[0];
    let (epoch, yes) = (op.epoch, || HookSaid::Fenced("outlet 7 is off".to_owned()));
    assert_eq!(op.uid.as_str(), "uid-east.1");
    let why = "east does not answer, and its onLeaseLoss is KeepServing, so it may write without a lease";
    let asks = format!("wait for the fencing hook pdu.example:443 to fence east: {why}");
    let blocked = |said: &str| {
        format!(
            "wait for the decision ConfirmFenced of east: {why}; its fencing hook, pdu.example:443, {said}. It goes on as soon as \
             that hook says that east is fenced, which it is asked again and again, or by your word"
        )
    };
    let (says_no, silent) = (
        blocked("says that it is not fenced: the outlet does not answer"),
        blocked("gives no answer that counts: no answer within 30s"),
    );
    let rows: Vec<(&str, i64, Box<dyn Fn(&mut Seen)>, &str)> = vec![
        (
            "its own agent may answer first",
            2,
            Box::new(move |seen| hook(seen, epoch, HookSaid::Asked)),
            "wait for the fence of east",
        ),
        (
            "its own agent is at it",
            9,
            Box::new(move |seen| {
                hook(seen, epoch, HookSaid::Asked);
                seen.sources[0].routers = well(epoch).sources[0].routers.clone();
            }),
            "wait for the fence of east",
        ),
        (
            "its own agent is at it, and does not come to an end",
            10,
            Box::new(move |seen| {
                hook(seen, epoch, HookSaid::Asked);
                seen.sources[0].routers = well(epoch).sources[0].routers.clone();
            }),
            &asks,
        ),
        (
            "it is asked",
            3,
            Box::new(move |seen| hook(seen, epoch, HookSaid::Asked)),
            &asks,
        ),
        ("it says yes", 0, Box::new(move |seen| hook(seen, epoch, yes())), "Cut"),
        (
            "it said yes to another operation of the same Failover",
            3,
            Box::new(move |seen| {
                hook(seen, epoch, yes());
                seen.failover.hook.as_mut().unwrap().operation = "uid-east.2".into();
            }),
            &asks,
        ),
        (
            "it said yes to an older Failover, late",
            3,
            Box::new(move |seen| {
                hook(seen, epoch, yes());
                seen.failover.hook.as_mut().unwrap().operation = "uid-earlier.1".into();
            }),
            &asks,
        ),
        (
            "it said yes at another epoch",
            3,
            Box::new(move |seen| hook(seen, Epoch::new(1, 3), yes())),
            &asks,
        ),
        (
            "it says no",
            3,
            Box::new(move |seen| {
                hook(
                    seen,
                    epoch,
                    HookSaid::NotFenced("the outlet does not answer".to_owned()),
                )
            }),
            &says_no,
        ),
        (
            "it does not answer",
            3,
            Box::new(move |seen| hook(seen, epoch, HookSaid::NoAnswer("no answer within 30s".to_owned()))),
            &silent,
        ),
        (
            "it does not answer, for however long",
            100_000,
            Box::new(move |seen| hook(seen, epoch, HookSaid::NoAnswer("no answer within 30s".to_owned()))),
            &silent,
        ),
        (
            "a person says so",
            3,
            Box::new(move |seen| {
                hook(seen, epoch, HookSaid::NotFenced("no".to_owned()));
                confirm(seen);
            }),
            "Cut",
        ),
        (
            "without the seal it could renew",
            3,
            Box::new(move |seen| {
                hook(seen, epoch, yes());
                seen.failover.lease.as_mut().unwrap().sealed = None;
            }),
            "wait for the write lease: east is not sealed yet",
        ),
    ];
    for (what, now, change, want) in rows {
        let got = pass(&table, now, |seen| {
            keeps_serving(seen);
            change(seen);
        });
        assert_eq!(short(&got), want, "{what}");
    }
}

#[test]
fn a_hook_is_asked_only_where_the_leases_end_will_not_prove_the_fence() {
    let table = brought_to(begun(), Step::Fence);
    let epoch = table.operations[0].epoch;
    for (what, now, lease, asked) in [
        ("over in a moment", 99, LeaseEnd::In(seconds(4)), false),
        ("not known yet", 9, LeaseEnd::Unknown, false),
        ("never to be known", 30, LeaseEnd::Unknown, true),
    ] {
        let got = pass(&table, now, |seen| {
            end(seen, lease);
            hook(seen, epoch, HookSaid::Asked);
        });
        let Move::Wait(wait) = got else { panic!("{what}") };
        assert_eq!(wait.asks_hook(), asked, "{what}: {wait}");
    }
    let soon = |seen: &mut Seen| {
        keeps_serving(seen);
        seen.failover.lease.as_mut().unwrap().fences_soon = true;
    };
    let got = pass(&table, 99, |seen| {
        soon(seen);
        hook(seen, epoch, HookSaid::Asked);
    });
    let want = "wait for the write lease: it is not known for long enough yet that east stops without it";
    assert_eq!(short(&got), want);
    let word = pass(&table, 9, |seen| {
        soon(seen);
        hook(seen, epoch, HookSaid::Asked);
        confirm(seen);
    });
    assert_eq!(short(&word), "Cut", "a person may know better");
    let over = pass(&table, 0, |seen| hook(seen, epoch, HookSaid::Asked));
    assert_eq!(short(&over), "Cut", "it is over");
    // Where nobody has declared one, that shows in nothing but that there is nobody to ask.
    let Move::Wait(wait) = pass(&table, 1, keeps_serving) else {
        panic!("it waits")
    };
    assert!(
        matches!(&wait, WaitFor::Decision { why, .. } if !why.contains("hook")),
        "{wait}"
    );
    assert!(wait.asks_hook(), "as soon as one is declared");
}

#[test]
fn the_proof_says_what_it_stands_on_and_a_unit_that_fenced_itself_loses_nothing() {
    let table = brought_to(begun(), Step::Fence);
    let epoch = table.operations[0].epoch;
    let proof = |change: &dyn Fn(&mut Seen)| {
        let Move::Enter {
            evidence: Evidence::Fence(proof),
            ..
        } = pass(&table, 1, change)
        else {
            panic!("no proof");
        };
        *proof
    };
    let lease = proof(&|_| {});
    assert_eq!((lease.by, lease.landmarks[0].until_end), (FencedBy::Lease, seconds(12)));
    // By a word nobody knows when the writing ended: until now at the latest, and the renewal may be a lease older.
    let word = proof(&|seen| {
        keeps_serving(seen);
        confirm(seen);
    });
    assert_eq!(word.landmarks[0].until_end, seconds(24));
    assert!(matches!(word.by, FencedBy::Confirmed { by, .. } if by == "alice"));
    let hooked = proof(&|seen| {
        keeps_serving(seen);
        hook(seen, epoch, HookSaid::Fenced("off".to_owned()));
        confirm(seen);
    });
    assert_eq!(hooked.landmarks, word.landmarks, "nor by a hook's");
    assert!(matches!(hooked.by, FencedBy::Hook { by, reason } if by == "pdu.example:443" && reason == "off"));
    // Who has just started does not know how old the one renewal is that it has seen: a word then bounds nothing.
    let started = |seen: &mut Seen| seen.failover.lease.as_mut().unwrap().renewals[0].since = None;
    let word = proof(&|seen| {
        keeps_serving(seen);
        confirm(seen);
        started(seen);
    });
    assert!(word.landmarks.is_empty(), "unknown is no zero");
    assert_eq!(
        proof(&started).landmarks,
        lease.landmarks,
        "a sealed lease counts from its last renewal"
    );
    // That renewal tells of the one before it, which was so much longer ago by the unit's own clock.
    let told = proof(&|seen| {
        started(seen);
        let lease = seen.failover.lease.as_mut().unwrap();
        lease.renewals[0].earlier = vec![(seconds(3), vec![("orders".into(), progress(40))])];
    });
    let places = told
        .landmarks
        .iter()
        .map(|landmark| (landmark.progress.at, landmark.until_end));
    assert_eq!(places.collect::<Vec<_>>(), [(50, seconds(12)), (40, seconds(15))]);
    let heard = proof(&|seen| seen.members[0].lag = Some(seconds(4)));
    assert!(heard.heard.is_empty(), "its age is a matter of two machines' clocks");
    let report = proof(&|seen| {
        seen.sources[0].fence = Some(FenceSeen {
            epoch,
            positions: vec![position()],
        });
    });
    assert_eq!(report.by, FencedBy::Report);
    assert!(report.heard.iter().all(|heard| heard.until_end == seconds(0)));
}

#[test]
fn a_target_that_fails_is_replaced_and_where_nobody_else_may_only_a_living_unit_gets_its_slots_back() {
    let unready = |seen: &mut Seen| {
        seen.target.as_mut().unwrap().ready = Some(UnitReady::NotReady("gone".into()));
        seen.since.unready = Some(at(0));
    };
    let alone = move |seen: &mut Seen| {
        unready(seen);
        seen.failover.candidates = vec![usable("north")];
    };
    for (step, at_once, replaced, nobody) in [
        (
            Step::Check,
            "wait for the target: north is not ready: gone",
            "to south",
            "Refused/TargetNotReady",
        ),
        (
            Step::Prepare,
            "wait for the target: north is not ready: gone",
            "to south",
            "Aborted/TargetNotReady",
        ),
        (
            Step::Fence,
            "wait for the target: north is not ready: gone",
            "to south",
            "wait for the decision Abort of east",
        ),
        (
            Step::Cut,
            "wait for the decision AcceptDataLoss",
            "to south",
            "wait for the decision Abort of east",
        ),
        (
            Step::Drain,
            "wait for the target: north is not ready: gone",
            "wait for the decision Abort of east",
            "wait for the decision Abort of east",
        ),
    ] {
        let table = brought_to(begun(), step);
        let starts = |movement: Move, want: &str| {
            let got = short(&movement);
            assert!(got.starts_with(want), "{step}: {got} instead of {want}");
        };
        starts(pass(&table, 4, unready), at_once);
        starts(pass(&table, 5, unready), replaced);
        starts(pass(&table, 5, alone), nobody);
    }
    let table = brought_to(begun(), Step::Fence);
    let epoch = table.operations[0].epoch;
    let alive = pass(&table, 5, |seen| {
        alone(seen);
        seen.sources[0].fence = Some(FenceSeen {
            epoch,
            positions: vec![position()],
        });
    });
    assert_eq!(short(&alive), "Aborted/TargetNotReady");
}

#[test]
fn a_lease_is_sealed_from_fence_on_and_an_abort_grants_it_anew_as_of_its_own_table() {
    let east = unit("east");
    let table = brought_to(begun(), Step::Prepare);
    assert_eq!(lease_wanted(&table, &east), LeaseWanted::Granted { at: Epoch::NEVER });
    let early = aborted(&table);
    assert_eq!(
        lease_wanted(&early, &east),
        LeaseWanted::Granted { at: Epoch::NEVER },
        "it was never taken"
    );
    for step in [Step::Fence, Step::Cut, Step::Drain] {
        let table = brought_to(begun(), step);
        let fence = table.operations[0].failover.as_ref().unwrap().fence;
        let by = "uid-east".into();
        assert_eq!(
            lease_wanted(&table, &east),
            LeaseWanted::Sealed(Seal { by, at: fence }),
            "{step}"
        );
        let back = aborted(&table);
        assert_eq!(
            lease_wanted(&back, &east),
            LeaseWanted::Granted { at: back.epoch },
            "{step}"
        );
        assert_eq!(back.keyspaces[0].span_of(0).unwrap().epoch, back.epoch, "{step}");
        assert!(back.quarantined.is_empty(), "{step}");
    }
}

#[test]
fn slots_go_back_to_who_handed_them_on_only_on_the_lost_units_own_word() {
    let mut table = brought_to(begun(), Step::Fence);
    let (epoch, target) = (table.operations[0].epoch, table.operations[0].target.clone());
    let failover = table.operations[0].failover.as_mut().unwrap();
    failover.named = true;
    failover.superseded = Some(Superseded {
        uid: "move".into(),
        sources: vec![target],
        behind: Vec::new(),
    });
    let wait = "wait for the fence of east: only its own databases can say that they never opened the slots";
    assert!(
        short(&pass(&table, 99, |_| {})).starts_with(wait),
        "its lease's end says nothing of that"
    );
    let hooked = pass(&table, 99, |seen| {
        keeps_serving(seen);
        hook(seen, epoch, HookSaid::Fenced("off".to_owned()));
    });
    assert!(short(&hooked).starts_with(wait), "nor does its hook");
    for (opened, want) in [
        (None, "wait for the fence of east: has it opened the slots?"),
        (Some(true), "Aborted/TargetMayHaveOpened"),
        (Some(false), "Cut"),
    ] {
        let got = pass(&table, 99, |seen| {
            seen.failover.opened = opened;
            seen.sources[0].fence = Some(FenceSeen {
                epoch,
                positions: vec![position()],
            });
        });
        assert_eq!(short(&got), want, "{opened:?}");
    }
}
