//! What Check, Prepare and Verify wait for, and how they end.

use super::common::{at, slots, unit, well};
use super::{EPOCH, after, check, op, short, unready, without_routers};
use jiff::SignedDuration;
use multiactive_core::promotion::{
    Move, OperationKind, Outcome, Seen, Step, StoreCompared, Uncompared, Verify, next, wake_at,
};

#[test]
fn check_refuses_what_is_wrong_and_what_does_not_become_well_in_time() {
    let cordoned: fn(&mut Seen) = |seen| seen.target.as_mut().unwrap().cordoned = true;
    let unknown: fn(&mut Seen) = |seen| seen.target.as_mut().unwrap().ready = None;
    let source_link: fn(&mut Seen) = |seen| seen.sources[0].links = Some(Err("orders: slot is gone".to_owned()));
    let unlinked: fn(&mut Seen) = |seen| seen.members[1].links = None;
    let silent: fn(&mut Seen) = |seen| seen.sources[0].routers = None;
    let bare: fn(&mut Seen) = |seen| without_routers(seen);
    let one_away: fn(&mut Seen) = |seen| seen.sources[0].routers.as_mut().unwrap().behind = vec!["r1".to_owned()];
    let lag: fn(&mut Seen) = |seen| seen.members[0].lag = Some(SignedDuration::from_secs(31));
    let lag_at_limit: fn(&mut Seen) = |seen| seen.members[0].lag = Some(SignedDuration::from_secs(30));
    let lag_unknown: fn(&mut Seen) = |seen| seen.members[0].lag = None;
    let no_member: fn(&mut Seen) = |seen| seen.members.retain(|member| member.unit != unit("north"));
    check(
        Step::Check,
        &[
            ("target cordoned", 0, cordoned, "Refused/TargetCordoned"),
            ("target unknown", 29, unknown, "wait for the target's report"),
            ("target unknown", 30, unknown, "Refused/TargetUnknown"),
            (
                "target not seen",
                29,
                |seen| seen.target = None,
                "wait for the target's report",
            ),
            (
                "link broken",
                29,
                source_link,
                "wait for links: east: orders: slot is gone",
            ),
            ("link broken", 30, source_link, "Refused/LinksUnhealthy"),
            ("link unknown", 29, unlinked, "wait for links: south has not reported"),
            ("source silent", 29, silent, "wait for routers: east has not reported"),
            ("source silent", 30, silent, "Refused/SourceUnknown"),
            (
                "source without routers",
                29,
                bare,
                "wait for routers: no router of east is connected to its agent, so nobody counts its writes",
            ),
            ("source without routers", 30, bare, "Refused/RoutersMissing"),
            (
                "a source's router is away",
                29,
                one_away,
                "wait for routers: east/r1 is not connected to its agent, or has no table yet",
            ),
            ("a source's router is away", 30, one_away, "Refused/RoutersMissing"),
            (
                "lag too large",
                29,
                lag,
                "wait for lag: north is 31s behind, as far as the clocks of the two servers agree",
            ),
            ("lag too large", 30, lag, "Refused/LagTooLarge"),
            ("lag at the limit", 0, lag_at_limit, "Prepare"),
            (
                "lag unknown",
                29,
                lag_unknown,
                "wait for lag: north is unknown behind, as far as the clocks of the two servers agree",
            ),
            (
                "target is no member",
                29,
                no_member,
                "wait for links: north has not reported",
            ),
        ],
    );
}

#[test]
fn a_target_is_unready_only_once_that_has_lasted() {
    for (step, end) in [
        (Step::Check, "Refused/TargetNotReady"),
        (Step::Prepare, "Aborted/TargetNotReady"),
        (Step::Verify, "Aborted/TargetNotReady"),
    ] {
        for (now, want) in [(24, "wait for the target: north is not ready: 1 of 2 pods"), (25, end)] {
            let movement = after(step, now, |seen| unready(seen, 20));
            assert_eq!(short(&movement), want, "{step} after {now} s");
        }
        let mut seen = well(EPOCH);
        unready(&mut seen, 20);
        assert_eq!(wake_at(&op(step), &seen, at(20)), Some(at(25)), "{step}");
    }
}

#[test]
fn whatever_check_asks_for_is_looked_at_again_right_before_writes_are_held() {
    let rows: [(fn(&mut Seen), &str); 6] = [
        (
            |seen| seen.target.as_mut().unwrap().cordoned = true,
            "Aborted/TargetCordoned",
        ),
        (
            |seen| seen.target.as_mut().unwrap().ready = None,
            "Aborted/TargetUnknown",
        ),
        (|seen| seen.members[1].links = None, "Aborted/LinksUnhealthy"),
        (|seen| seen.members[0].lag = None, "Aborted/LagTooLarge"),
        (|seen| seen.sources[0].routers = None, "Aborted/SourceUnknown"),
        (|seen| without_routers(seen), "Aborted/RoutersMissing"),
    ];
    for (change, want) in rows {
        // Prepare has been unfit since it was entered; Verify, which may take hours, since its rows were equal.
        for (step, since, late) in [(Step::Prepare, 0, 30), (Step::Verify, 7200, 7230)] {
            let say = |now: i64| {
                let movement = after(step, now, |seen| {
                    change(seen);
                    seen.since.unfit = Some(at(since));
                });
                short(&movement)
            };
            let early = say(late - 1);
            assert!(
                early.starts_with("wait for") || early == "Aborted/TargetCordoned",
                "{step}: {early}"
            );
            assert_eq!(say(late), want, "{step}");
        }
    }
}

#[test]
fn a_source_or_a_target_without_a_member_of_a_store_whose_rows_move_is_refused() {
    for (members, want) in [
        (vec!["north", "south"], "Refused/SourceHasNoMember"),
        (vec!["east", "south"], "Refused/TargetHasNoMember"),
        (vec!["east", "north"], "Prepare"),
    ] {
        let mut op = op(Step::Check);
        op.stores[0].members = members.into_iter().map(unit).collect();
        let mut seen = well(EPOCH);
        seen.stores = Some(op.stores.clone());
        assert_eq!(short(&next(&op, &seen, at(0))), want);
    }
}

#[test]
fn stores_that_change_end_it_before_the_commit_point_and_nothing_after() {
    let rows: [(&str, fn(&mut Seen)); 5] = [
        ("gone", |seen| seen.stores = Some(Vec::new())),
        ("another one", |seen| {
            let stores = seen.stores.as_mut().unwrap();
            let mut other = stores[0].clone();
            other.store = "bills".into();
            stores.push(other);
        }),
        ("one more member", |seen| {
            let stores = seen.stores.as_mut().unwrap();
            stores[0].members.push(unit("west"));
        }),
        ("one member less", |seen| {
            drop(seen.stores.as_mut().unwrap()[0].members.pop())
        }),
        ("of another keyspace", |seen| {
            seen.stores.as_mut().unwrap()[0].keyspace = "carts".into()
        }),
    ];
    for step in OperationKind::Promotion.steps() {
        let well = short(&after(step, 1, |_| {}));
        for (what, change) in rows {
            let want = match step {
                Step::Check => "Refused/StoresChanged",
                Step::Commit | Step::Open | Step::Settle => &well,
                Step::Prepare | Step::Verify | Step::Hold | Step::Fence | Step::Cut | Step::Drain => {
                    "Aborted/StoresChanged"
                }
            };
            assert_eq!(short(&after(step, 1, change)), want, "{step}, {what}");
        }
        // What cannot be read has not changed, and another order is no change.
        for change in [(|seen| seen.stores = None) as fn(&mut Seen), |seen| {
            seen.stores.as_mut().unwrap()[0].members.reverse()
        }] {
            assert_eq!(short(&after(step, 1, change)), well, "{step}");
        }
    }
}

#[test]
fn prepare_waits_for_links_and_gives_up() {
    let broken: fn(&mut Seen) = |seen| seen.members[0].links = Some(Err("orders: no slot".to_owned()));
    check(
        Step::Prepare,
        &[
            ("link broken", 29, broken, "wait for links: north: orders: no slot"),
            ("link broken", 30, broken, "Aborted/LinksUnhealthy"),
        ],
    );
    for verify in [Verify::Changed, Verify::Full] {
        let mut op = op(Step::Prepare);
        op.verify = verify;
        assert_eq!(short(&next(&op, &well(EPOCH), at(1))), "Verify", "{verify:?}");
    }
}

#[test]
fn verify_passes_where_all_rows_are_equal_and_else_names_slots_and_rows() {
    let compared = |store: &str, differing: &str, examples: &[&str]| StoreCompared {
        store: store.into(),
        keyspace: "users".into(),
        rows: 9,
        differing: slots(differing),
        examples: examples.iter().map(ToString::to_string).collect(),
    };
    for (all, want) in [
        (None, "wait for the comparison of rows: nobody has answered"),
        (Some(vec![]), "Hold"),
        (
            Some(vec![compared("orders", "", &[]), compared("carts", "", &[])]),
            "Hold",
        ),
        (
            Some(vec![compared("orders", "", &[]), compared("carts", "3", &[])]),
            "Aborted/RowsDiffer",
        ),
    ] {
        let mut seen = well(EPOCH);
        seen.compared.clone_from(&all);
        assert_eq!(short(&next(&op(Step::Verify), &seen, at(99))), want, "{all:?}");
    }
    let mut seen = well(EPOCH);
    let rows = ["id=1 only at east", "id=2 only at north"];
    seen.compared = Some(vec![
        compared("orders", "1,3", &rows),
        compared("carts", "3-4", &["id=7 differs"]),
    ]);
    let Move::End(Outcome::Aborted { message, .. }) = next(&op(Step::Verify), &seen, at(99)) else {
        panic!("it moves on")
    };
    assert_eq!(
        message,
        "rows differ between source and target in slots users 1,3-4; among them orders id=1 only at east, \
         orders id=2 only at north, carts id=7 differs"
    );
    let missing: fn(&mut Seen) = |seen| {
        let side = |store: &str, why: Option<&str>| Uncompared {
            store: store.into(),
            unit: super::common::unit("north"),
            why: why.map(str::to_owned),
        };
        seen.compared = None;
        seen.uncompared = vec![side("carts", None), side("orders", Some("permission denied"))];
    };
    let who = "wait for the comparison of rows: orders at north: permission denied; carts at north";
    check(Step::Verify, &[("answers are missing", 99, missing, who)]);
    let cordoned: fn(&mut Seen) = |seen| seen.target.as_mut().unwrap().cordoned = true;
    check(
        Step::Verify,
        &[("target cordoned", 0, cordoned, "Aborted/TargetCordoned")],
    );
}
