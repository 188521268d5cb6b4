//! Tests of `failover`.

use super::failover::plan;
use super::failover_lost::{self, Which};
use super::failover_shapes::{Asked, Looks, Lost, LostView, State};
use super::failover_text as text;
use crate::fetch::World;
use crate::print::Paint;
use crate::view::fixtures::{cluster, failover, link, stored_table, unit, world};
use jiff::Timestamp;
use multiactive_api::{LeaseMode, OnLeaseLoss};
use serde_json::json;

fn asked() -> Asked {
    Asked {
        max_data_loss: "5s".to_owned(),
        ..Asked::default()
    }
}

/// The world, in which east's ranges may go to the north, else to the south.
fn fleet() -> World {
    let mut world = world();
    let units = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    world.ranges[0].spec.failover_units = units(&["north-1", "south-1"]);
    world.ranges[1].spec.failover_units = units(&["south-1"]);
    world
}

fn lost(units: &[&str]) -> Vec<Lost> {
    let lost = units.iter().map(|unit| Lost {
        namespace: "shop".to_owned(),
        unit: (*unit).to_owned(),
    });
    lost.collect()
}

/// The plan of a world in which the east is silent.
fn plan_of(change: impl FnOnce(&mut World), units: &[&str], asked: &Asked) -> Vec<LostView> {
    let mut world = fleet();
    world.clusters[0] = cluster("east", "False", "Unreachable");
    change(&mut world);
    plan(&world, &lost(units), asked, Timestamp::UNIX_EPOCH)
}

fn one(change: impl FnOnce(&mut World)) -> LostView {
    plan_of(change, &["east-1"], &asked()).remove(0)
}

/// Who takes what: range, slots, unit.
fn taken(view: &LostView) -> Vec<String> {
    let parts = view.placement.placed.iter().chain(&view.placement.unplaced);
    parts
        .map(|part| {
            let (range, target) = (part.range.as_deref(), part.target.as_deref());
            format!("{} {} {}", range.unwrap_or("-"), part.slots, target.unwrap_or("nobody"))
        })
        .collect()
}

fn passed_over(view: &LostView) -> Vec<String> {
    let skipped = view.skipped().into_iter();
    skipped
        .map(|skipped| format!("{}: {}", skipped.unit, skipped.why))
        .collect()
}

#[test]
fn the_first_usable_unit_takes_over_and_the_object_says_what_was_looked_at() {
    let view = one(|_| {});
    assert_eq!(
        (view.state, taken(&view)),
        (State::Begins, vec!["users-0 0-7 north-1".to_owned()])
    );
    assert_eq!((view.slots, view.region.as_deref()), (Some(8), Some("east")));
    let object = view.object.unwrap();
    assert_eq!(object.metadata.name.as_deref(), Some("failover-east-1-6"));
    assert_eq!(object.metadata.namespace.as_deref(), Some("shop"));
    let spec = serde_json::to_value(&object.spec).unwrap();
    assert_eq!(
        spec,
        json!({"lostUnit": "east-1", "expectedEpoch": 6, "maxDataLoss": "5s"})
    );
    let named = Asked {
        to: Some("south-1".to_owned()),
        name: Some("lost-east".to_owned()),
        expected_epoch: Some(5),
        ..asked()
    };
    let view = plan_of(|_| {}, &["east-1"], &named).remove(0);
    assert_eq!(taken(&view), ["users-0 0-7 south-1"]);
    let object = view.object.unwrap();
    assert_eq!(object.metadata.name.as_deref(), Some("lost-east"));
    let spec = (object.spec.target_unit.as_deref(), object.spec.expected_epoch);
    assert_eq!(spec, (Some("south-1"), 5));
}

#[test]
fn who_is_passed_over_is_named_with_the_reason() {
    for (change, want) in [
        (
            &(|world: &mut World| world.units[1].spec.cordoned = true) as &dyn Fn(&mut World),
            "north-1: cordoned",
        ),
        (
            &|world| world.clusters[1] = cluster("north", "False", "NotAnswering"),
            "north-1: does not answer",
        ),
        (
            &|world| world.units[1] = unit("north-1", "north", "False", "StoreNotReady"),
            "north-1: not ready: StoreNotReady: said by the test",
        ),
        (
            &|world| world.units[1] = unit("north-1", "north", "False", "AgentNotReporting"),
            "north-1: it is not known whether it is ready",
        ),
        (
            &|world| drop(world.stores[0].spec.members.remove(1)),
            "north-1: DataStore orders has no member in it",
        ),
        (
            &|world| {
                let done = json!({"kind": "Promotion", "uid": "u", "name": "move-1", "outcome": "Succeeded",
                    "at": "1970-01-01T00:00:00Z", "term": 1, "epoch": 6, "behind": ["north-1"], "history": []});
                world.tables[0].spec.finished = vec![serde_json::from_value(done).unwrap()];
                world.links = vec![link("orders", "south-1", "north-1", "Broken")];
            },
            "north-1: behind: it had not applied all when move-1 committed: \
             ReplicationLink orders-south-1-north-1 is Broken",
        ),
        (
            &|world| {
                let status = json!({"units": [{"unit": "north-1", "cluster": "north", "state": "Failed", "message": "no image"}]});
                let spec = json!({"manifests": []});
                world.workloads = vec![crate::view::fixtures::object("UnitWorkload", "web", spec, status)];
            },
            "north-1: not ready: UnitWorkload web: no image",
        ),
    ] {
        let view = one(change);
        assert_eq!(passed_over(&view), [want]);
        assert_eq!(taken(&view), ["users-0 0-7 south-1"], "{want}");
    }
}

#[test]
fn where_nobody_may_take_over_it_is_refused_with_what_to_do_and_left_to_the_operator_where_that_is_not_known() {
    let gone = |ready: &'static str| {
        move |world: &mut World| {
            world.clusters[1] = cluster("north", ready, "R");
            world.clusters[2] = cluster("south", ready, "R");
        }
    };
    let view = one(gone("False"));
    assert_eq!((view.state, view.reason.as_deref()), (State::Refused, Some("NoTarget")));
    let message = view.message.unwrap();
    assert!(
        message.contains("north-1: does not answer; south-1: does not answer"),
        "{message}"
    );
    assert!(view.object.is_none());
    let view = one(gone("Unknown"));
    assert_eq!(view.state, State::Begins, "{:?}", view.message);
    assert!(view.object.is_some());
    // Who may not read the clusters takes the units' own word.
    let view = one(|world| {
        world.clusters.clear();
        world.units[0] = unit("east-1", "east", "False", "MemberNotReady");
        world.units[1] = unit("north-1", "north", "False", "MemberNotReady");
    });
    assert_eq!(taken(&view), ["users-0 0-7 south-1"]);
    assert_eq!(passed_over(&view), ["north-1: does not answer"]);
    assert_eq!(view.life.looks, Looks::Silent, "{:?}", view.life);
}

#[test]
fn two_that_are_lost_together_do_not_take_over_from_each_other() {
    let views = plan_of(|_| {}, &["east-1", "north-1"], &asked());
    let all: Vec<_> = views.iter().map(taken).collect();
    assert_eq!(all, [["users-0 0-7 south-1"], ["users-1 8-15 south-1"]]);
    assert_eq!(passed_over(&views[0]), ["north-1: lost or in quarantine"]);
}

#[test]
fn what_owns_nothing_or_runs_already_is_said_and_holds_up_nobody() {
    let nothing = plan_of(|_| {}, &["south-1", "east-1"], &asked());
    assert_eq!(
        (nothing[0].state, nothing[1].state),
        (State::OwnsNothing, State::Begins)
    );
    let quarantined = one(|world| {
        world.tables[0] = stored_table(6, "16s1@1.6");
        let known = json!({"unit": "east-1", "term": 1, "epoch": 5, "by": "u", "name": "lost-east"});
        world.tables[0].spec.quarantined = vec![serde_json::from_value(known).unwrap()];
    });
    assert_eq!(quarantined.state, State::OwnsNothing);
    assert!(
        quarantined
            .message
            .unwrap()
            .contains("in quarantine since epoch 1.5, by the Failover lost-east")
    );
    let runs = one(|world| world.operations = vec![failover("lost", "east-1", json!({"step": "Fence"}))]);
    assert_eq!((runs.state, runs.failover.as_deref()), (State::Runs, Some("lost")));
    assert!(runs.object.is_none());
    for (name, status) in [
        ("failover-east-1-6", json!({"outcome": "Refused"})),
        ("failover-east-1-6", json!({"outcome": "Aborted"})),
    ] {
        let ended = one(|world| world.operations = vec![failover(name, "east-1", status)]);
        assert_eq!(
            ended.failover.as_deref(),
            Some("failover-east-1-6-2"),
            "a name is used once"
        );
    }
    let other = one(|world| world.operations = vec![failover("lost", "north-1", json!({}))]);
    assert_eq!(other.state, State::Begins);
}

#[test]
fn a_table_that_cannot_be_read_refuses_its_own_namespace_only() {
    let mut world = fleet();
    let mut elsewhere = world.tables[0].clone();
    elsewhere.metadata.namespace = Some("cart".to_owned());
    elsewhere.spec.keyspaces[0].spans = "8s0@1.4,8s7@1.6".to_owned();
    world.tables.push(elsewhere);
    let mut all = lost(&["east-1"]);
    all.push(Lost {
        namespace: "cart".to_owned(),
        unit: "east-1".to_owned(),
    });
    let views = plan(&world, &all, &asked(), Timestamp::UNIX_EPOCH);
    assert_eq!((views[0].state, views[1].state), (State::Begins, State::Refused));
    let message = views[1].message.as_deref().unwrap();
    assert!(
        message.contains("RoutingTable cart/routing cannot be read"),
        "{message}"
    );
}

#[test]
fn a_stale_expectation_is_refused() {
    let old = Asked {
        expected_epoch: Some(3),
        ..asked()
    };
    let view = plan_of(|_| {}, &["east-1"], &old).remove(0);
    assert_eq!((view.state, view.reason.as_deref()), (State::Refused, Some("Stale")));
}

#[test]
fn a_unit_that_looks_alive_is_said_to_be_with_the_promotion_that_loses_nothing() {
    let promote = "kubectl multiactive promote east-1-to-north-1-6 --to north-1 --unit east-1 -n shop";
    for (ready, unit_ready, looks, promotions) in [
        ("True", "True", Looks::Alive, vec![promote]),
        ("True", "False", Looks::Unwell, vec![promote]),
        ("False", "True", Looks::Silent, vec![]),
        ("Unknown", "True", Looks::Unknown, vec![]),
    ] {
        let view = one(|world| {
            world.clusters[0] = cluster("east", ready, "R");
            world.units[0] = unit("east-1", "east", unit_ready, "R");
        });
        assert_eq!(
            (view.life.looks, view.promotions),
            (looks, promotions.into_iter().map(str::to_owned).collect())
        );
    }
    let split = one(|world| {
        world.clusters[0] = cluster("east", "True", "Answering");
        world.tables = vec![stored_table(6, "16s0@1.4")];
    });
    // users-1 knows only the south besides its home, which is usable and first.
    let all: Vec<_> = split.promotions.iter().map(String::as_str).collect();
    assert_eq!(
        all,
        ["kubectl multiactive promote east-1-to-north-1-6 --to north-1 --unit east-1 -n shop"]
    );
    let asked = text::question(&[split]);
    assert_eq!(
        asked,
        "Fail over 16 slots of shop/east-1, which looks alive, with 1 Failover"
    );
}

#[test]
fn how_the_fence_is_proven_is_said_and_a_word_that_is_needed_has_its_command() {
    let command = "kubectl multiactive decide failover/failover-east-1-6 ConfirmFenced --target east-1 -n shop";
    for (said, declared, mode, needs_word) in [
        (Some("Fence"), OnLeaseLoss::Auto, Some(LeaseMode::Fence), false),
        (
            Some("KeepServing"),
            OnLeaseLoss::Auto,
            Some(LeaseMode::KeepServing),
            true,
        ),
        (None, OnLeaseLoss::Fence, Some(LeaseMode::Fence), false),
        (None, OnLeaseLoss::KeepServing, Some(LeaseMode::KeepServing), true),
        (None, OnLeaseLoss::Auto, None, true),
    ] {
        let view = one(|world| {
            world.units[0].spec.on_lease_loss = declared;
            let status = world.units[0].status.as_mut().unwrap();
            status.lease = said.map(|mode| serde_json::from_value(json!({"mode": mode})).unwrap());
        });
        assert_eq!(view.fence.mode, mode);
        assert_eq!(view.fence.within.is_some(), !needs_word, "{said:?} {declared:?}");
        assert_eq!(view.fence.hook, None);
        let told = text::plan(&[view], Paint::OFF);
        assert_eq!(told.contains(command), needs_word, "{told}");
    }
}

#[test]
fn a_hook_is_said_where_it_would_be_asked_and_so_is_the_other_way_on() {
    for (declared, asked) in [(OnLeaseLoss::Fence, false), (OnLeaseLoss::KeepServing, true)] {
        let view = one(|world| {
            world.units[0].spec.on_lease_loss = declared;
            world.units[0].status.as_mut().unwrap().lease = None;
            let hook = json!({"url": "https://pdu.example/s3cret", "timeout": "5s"});
            world.units[0].spec.fencing_hook = Some(serde_json::from_value(hook).unwrap());
        });
        assert_eq!(view.fence.hook.as_deref(), Some("pdu.example:443"));
        let told = text::plan(&[view], Paint::OFF);
        assert!(!told.contains("s3cret"), "{told}");
        for part in [
            "its fencing hook, pdu.example:443, is asked to fence it",
            "Blocked until it says yes, or somebody decides",
        ] {
            assert_eq!(told.contains(part), asked, "{part}: {told}");
        }
    }
}

#[test]
fn a_region_is_its_clusters_units_and_what_is_not_there_is_named() {
    let mut world = fleet();
    world.units.push(unit("east-2", "east", "True", "Serving"));
    let of = |which: Which, namespace: Option<&str>| {
        let found = failover_lost::lost(&world, &which, namespace);
        found.map(|lost| lost.into_iter().map(|lost| lost.unit).collect::<Vec<_>>())
    };
    let units = |names: &[&str]| Which::Units(names.iter().map(|name| (*name).to_owned()).collect());
    for (which, namespace, want) in [
        (Which::Region("east".to_owned()), None, Ok(vec!["east-1", "east-2"])),
        (Which::Cluster("north".to_owned()), Some("shop"), Ok(vec!["north-1"])),
        (
            units(&["south-1", "east-1"]),
            Some("shop"),
            Ok(vec!["east-1", "south-1"]),
        ),
        (
            units(&["west-1"]),
            Some("shop"),
            Err("there are: east-1, east-2, north-1, south-1"),
        ),
        (
            Which::Region("west".to_owned()),
            None,
            Err("there is no Region west; there are: east, north, south"),
        ),
        (
            Which::Cluster("west".to_owned()),
            None,
            Err("there is no MemberCluster west"),
        ),
        (
            units(&["east-1"]),
            Some("cart"),
            Err("there is no Unit east-1 in namespace cart"),
        ),
    ] {
        match (of(which, namespace), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(error), Err(want)) => {
                assert!(error.to_string().contains(want), "{error}");
                assert_eq!(error.exit().code(), 5);
            }
            (got, want) => panic!("{got:?} {want:?}"),
        }
    }
    let mut blind = fleet();
    blind.clusters.clear();
    blind.unknown = vec!["listing memberclusters: no".to_owned()];
    let error = failover_lost::lost(&blind, &Which::Region("east".to_owned()), None).unwrap_err();
    assert_eq!(error.exit().code(), 1, "{error}");
}
