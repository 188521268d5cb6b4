//! Tests of `plan`.

use super::plan::*;
use crate::fetch::World;
use crate::view::fixtures::{link, promotion, stored_table, table, unit, world};
use jiff::Timestamp;
use multiactive_core::table::RoutingTable;
use serde_json::Value;
use serde_json::json;

fn plan_of(world: &World, to: &str, select: Value) -> PlanView {
    let table = table("8s0@1.4,8s1@1.6", None);
    plan(world, &table, &promotion("p", to, select, 6), Timestamp::UNIX_EPOCH).unwrap()
}

#[test]
fn slots_are_counted_by_the_unit_that_they_leave() {
    for (to, select, want) in [
        (
            "north-1",
            json!({"type": "Ranges", "ranges": ["users-0"]}),
            vec![("east-1", "0-7", 8)],
        ),
        (
            "north-1",
            json!({"type": "Unit", "unit": "east-1"}),
            vec![("east-1", "0-7", 8)],
        ),
        (
            "south-1",
            json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "6-9"}}),
            vec![("east-1", "6-7", 2), ("north-1", "8-9", 2)],
        ),
    ] {
        let view = plan_of(&world(), to, select.clone());
        let got: Vec<_> = view
            .moves
            .iter()
            .map(|m| (m.source.as_str(), m.slots.as_str(), m.count))
            .collect();
        assert_eq!((got, view.blockers), (want, Vec::new()), "{select}");
        assert_eq!(view.expected_epoch, 6);
        assert_eq!(view.loss, "0s");
    }
}

#[test]
fn the_lag_is_that_of_the_slowest_link_that_the_move_depends_on_and_unknown_is_no_number() {
    let select = json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "6-9"}});
    let lag = |links: &[(&str, &str, Option<&str>)]| {
        let mut world = world();
        world.links = links
            .iter()
            .map(|(from, to, lag)| {
                let mut link = link("orders", from, to, "Running");
                link.status.as_mut().unwrap().lag = lag.map(str::to_owned);
                link
            })
            .collect();
        plan_of(&world, "south-1", select.clone()).lag
    };
    let (east, north) = (("east-1", "south-1", Some("2s")), ("north-1", "south-1", Some("1m")));
    // That from the target, and those between the sources, hold nothing up.
    let other = ("south-1", "east-1", Some("1h"));
    assert_eq!(lag(&[east, north, other]), Some("1m".to_owned()));
    assert_eq!(lag(&[east, ("north-1", "south-1", None)]), None);
}

#[test]
fn what_stands_in_the_way_is_named() {
    let ranges = json!({"type": "Ranges", "ranges": ["users-0"]});
    let spoil = |change: &dyn Fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        plan_of(&world, "north-1", ranges.clone()).blockers
    };
    let cordoned = spoil(&|world| world.units[1].spec.cordoned = true);
    assert_eq!(cordoned, ["TargetCordoned: north-1 is cordoned"]);
    let unready = spoil(&|world| world.units[1] = unit("north-1", "north", "False", "StoreNotReady"));
    assert_eq!(unready, ["TargetNotReady: north-1: StoreNotReady: said by the test"]);
    let broken = spoil(&|world| world.links = vec![link("orders", "east-1", "north-1", "Broken")]);
    assert_eq!(
        broken,
        ["LinksUnhealthy: ReplicationLink orders-east-1-north-1 is Broken"]
    );
    let no_routers = spoil(&|world| world.units[0].status.as_mut().unwrap().routers = 0);
    assert_eq!(
        no_routers,
        ["RoutersMissing: no router of east-1 is connected to its agent"]
    );
    let unknown = plan_of(&world(), "north-1", json!({"type": "Ranges", "ranges": ["nothing"]})).blockers;
    assert_eq!(unknown, ["UnknownRange: there is no ShardRange nothing"]);
    let owner = plan_of(&world(), "east-1", ranges.clone()).blockers;
    assert!(owner[0].starts_with("AlreadyOwner: "), "{owner:?}");
}

#[test]
fn the_pause_is_told_by_those_that_were_measured_and_unknown_without_any() {
    assert_eq!(pause(&table("8s0@1.4,8s1@1.6", None)), None);
    let mut stored = stored_table(6, "8s0@1.4,8s1@1.6");
    for (name, millis, outcome) in [
        ("a", 100, "Succeeded"),
        ("b", 300, "Succeeded"),
        ("c", 200, "Succeeded"),
        ("d", 9000, "Aborted"),
    ] {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap().to_string();
        let history = json!([{"step": "Hold", "at": at(0)}, {"step": "Settle", "at": at(millis)}]);
        let done = json!({"kind": "Promotion", "uid": name, "name": name, "outcome": outcome, "reason": "Late",
            "at": at(millis), "term": 1, "epoch": 6, "history": history});
        stored.spec.finished.push(serde_json::from_value(done).unwrap());
    }
    let table = RoutingTable::try_from(&stored.spec).unwrap();
    let want = PauseView {
        median: "200ms".to_owned(),
        longest: "300ms".to_owned(),
        measured: 3,
    };
    assert_eq!(pause(&table), Some(want));
}

#[test]
fn the_manifest_is_what_can_be_applied() {
    let view = plan_of(&world(), "north-1", json!({"type": "Ranges", "ranges": ["users-0"]}));
    assert_eq!(view.promotion["apiVersion"], "multiactive.io/v1alpha1");
    assert_eq!(view.promotion["spec"]["expectedEpoch"], 6);
    assert_eq!(view.promotion["spec"]["mode"], "Execute");
    assert!(view.promotion.get("status").is_none());
}
