//! Tests of `problems`.

use super::problems::*;
use crate::fetch::{Unreadable, World};
use crate::view::fixtures::{
    cluster, link, object as made, operation, range_that, region, single_writer, stored_table, unit, world,
};
use serde_json::json;

/// `object reason` of each, with the cause.
fn of_world(change: impl Fn(&mut World)) -> Vec<String> {
    let mut world = world();
    change(&mut world);
    let text = |problem: Problem| match problem.because {
        None => format!("{} {}", problem.object, problem.reason),
        Some(because) => format!("{} {} <- {because}", problem.object, problem.reason),
    };
    problems(&world).into_iter().map(text).collect()
}

/// An object of a newer version.
fn unreadable(kind: &str, name: &str) -> Unreadable {
    Unreadable {
        kind: kind.to_owned(),
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
        error: "unknown variant `Center`".to_owned(),
    }
}

#[test]
fn first_causes_come_first_and_what_follows_names_them() {
    assert!(of_world(|_| {}).is_empty());
    let lost = of_world(|world| {
        world.regions[1] = region("north", "False");
        world.clusters[1] = cluster("north", "False", "Unreachable");
        world.units[1] = unit("north-1", "north", "False", "MemberNotReady");
        world.links = vec![
            link("orders", "east-1", "north-1", "Unknown"),
            link("orders", "north-1", "east-1", "Broken"),
        ];
        let mut range = range_that("users-1", 8, 15, "north-1", "north-1", "False", "OwnerNotReady");
        range.status.as_mut().unwrap().conditions[0].message = "north-1 is not ready: no answer".to_owned();
        world.ranges[1] = range;
    });
    assert_eq!(
        lost,
        [
            "MemberCluster north Unreachable",
            "Unit shop/north-1 MemberNotReady <- MemberCluster north",
            "ReplicationLink shop/orders-east-1-north-1 Unknown <- MemberCluster north",
            "ReplicationLink shop/orders-north-1-east-1 Broken <- MemberCluster north",
            "ShardRange shop/users-1 OwnerNotReady <- Unit shop/north-1",
            "Region north MembersReady <- MemberCluster north",
        ]
    );
}

#[test]
fn what_moves_as_planned_is_no_problem_and_what_stands_still_is() {
    let moving = |world: &mut World| {
        world.ranges[0] = range_that("users-0", 0, 7, "east-1", "east-1", "False", "Moving");
    };
    let running = json!({"step": "Hold", "conditions": [{"type": "Ready", "status": "False", "reason": "Running",
        "message": "at Hold", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let mut stuck = running.clone();
    stuck["conditions"] = json!([
        {"type": "Ready", "status": "False", "reason": "RecordMisfit", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Stalled", "status": "True", "reason": "RecordMisfit", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    for (status, want) in [
        (None, vec!["ShardRange shop/users-0 Moving"]),
        (Some(running), vec![]),
        (
            Some(stuck),
            vec!["Promotion shop/move RecordMisfit", "ShardRange shop/users-0 Moving"],
        ),
    ] {
        let got = of_world(|world| {
            moving(world);
            world.operations = status.iter().map(|status| operation("move", status.clone())).collect();
        });
        assert_eq!(got, want, "{status:?}");
    }
}

#[test]
fn what_was_never_reported_or_cannot_be_read_is_a_problem_and_not_taken_for_well() {
    let silent = of_world(|world| {
        world.units[0] = made(
            "Unit",
            "east-1",
            json!({"cluster": "east", "role": "Sharded", "router": "https://e:1"}),
            json!(null),
        )
    });
    assert_eq!(silent, ["Unit shop/east-1 NotReported"]);
    let broken = of_world(|world| world.tables = vec![stored_table(6, "8s0@1.4,8s7@1.6")]);
    assert_eq!(broken, ["RoutingTable shop/routing Unreadable"]);
    let unread = of_world(|world| {
        world.unreadable = vec![unreadable("Unit", "new-1")];
    });
    assert_eq!(unread, ["Unit shop/new-1 Unreadable"]);
}

#[test]
fn what_is_in_force_and_was_deleted_is_told_and_nothing_is_called_deleted_that_could_not_be_seen() {
    let of = |change: fn(&mut World)| {
        of_world(|world| {
            let writer = world.tables[0].spec.keyspaces[0].clone();
            world.tables[0].spec.keyspaces.push(multiactive_api::TableKeyspace {
                name: "catalog.writer".to_owned(),
                slots: 1,
                spans: "1s1@1.6".to_owned(),
                ..writer
            });
            change(world);
        })
    };
    assert_eq!(of(|_| {}), ["DataStore shop/catalog Deleted"]);
    let both = ["DataStore shop/catalog Deleted", "Keyspace shop/users Deleted"];
    assert_eq!(of(|world| world.keyspaces.clear()), both);
    let of_another = |world: &mut World| {
        world.stores.push(single_writer("catalog", "east-1"));
        world.stores[1].metadata.namespace = Some("bank".to_owned());
    };
    assert!(of(of_another).contains(&both[0].to_owned()));
    let seen = of(|world| world.stores.push(single_writer("catalog", "east-1")));
    assert_eq!(seen, ["DataStore shop/catalog NotReported"]);
    let unread = of(|world| {
        world.unreadable = vec![unreadable("DataStore", "catalog")];
    });
    assert_eq!(unread, ["DataStore shop/catalog Unreadable"]);
    let forbidden = of(|world| world.unknown = vec!["datastores: forbidden".to_owned()]);
    assert!(forbidden.is_empty(), "{forbidden:?}");
}
