//! Tests of `status_text`.

use super::status_text::*;
use crate::print::Paint;
use crate::view::fixtures::{cluster, operation, range_that, unit, world};
use crate::view::status::status;
use jiff::Timestamp;
use serde_json::json;

fn screen(change: impl Fn(&mut crate::fetch::World), names: &[String]) -> String {
    let mut world = world();
    change(&mut world);
    let now: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
    text(&status(&world, names, now), Paint::OFF, false)
}

#[test]
fn all_is_well_on_one_screen() {
    assert_eq!(
        screen(|_| {}, &[]),
        "\
healthy, shop at epoch 1.6

                         READY   SLOTS   APPLIED   LEASE   ROUTERS   WHY
Region east              True                                        MembersReady
└─ MemberCluster east    True                                        Answering
   └─ Unit east-1        True    8       1.6       Held    1         Serving
Region north             True                                        MembersReady
└─ MemberCluster north   True                                        Answering
   └─ Unit north-1       True    8       1.6       Held    1         Serving
Region south             True                                        MembersReady
└─ MemberCluster south   True                                        Answering
   └─ Unit south-1       True    8       1.6       Held    1         Serving

RANGE     KEYSPACE   SLOTS   HOME      ACTIVE    STATE     EPOCH   WHY
users-0   users      0-7     east-1    east-1    Serving   6       Serving
users-1   users      8-15    north-1   north-1   Serving   6       Serving
"
    );
}

#[test]
fn what_is_wrong_stands_at_the_top_with_what_follows_from_it() {
    let text = screen(
        |world| {
            world.clusters[1] = cluster("north", "False", "Unreachable");
            world.units[1] = unit("north-1", "north", "False", "MemberNotReady");
            world.ranges[0] = range_that("users-0", 0, 7, "east-1", "south-1", "True", "Serving");
            let status = json!({"step": "Hold", "from": "east-1", "slots": 8, "waitingFor": "routers of east-1",
                "history": [{"step": "Hold", "at": "2026-01-01T00:00:01Z"}]});
            world.operations = vec![operation("move", status)];
        },
        &[],
    );
    let want = "\
1 problem, and 1 that follows from it, shop at epoch 1.6
  MemberCluster north Unreachable
    said by the test
    from it: Unit shop/north-1
";
    assert!(text.starts_with(want), "{text}");
    assert!(
        text.contains("promotion/move   east-1   north-1   8       Hold   4s    routers of east-1\n"),
        "{text}"
    );
    assert!(
        text.ends_with("1 range is away from home; kubectl multiactive failback --all -n shop\n"),
        "{text}"
    );
}

#[test]
fn of_many_ranges_those_are_shown_that_are_not_as_they_shall_be() {
    let text = screen(
        |world| {
            let range = |at| range_that(&format!("r-{at}"), at, at, "east-1", "east-1", "True", "Serving");
            world.ranges = (0..50).map(range).collect();
            world.ranges[7] = range_that("r-7", 7, 7, "east-1", "north-1", "True", "Serving");
        },
        &[],
    );
    assert!(text.contains("\nr-7 ") && !text.contains("\nr-8 "), "{text}");
    assert!(
        text.contains("49 ranges served at home: -o wide lists them\n"),
        "{text}"
    );
}

#[test]
fn what_may_not_be_read_is_not_called_well() {
    let text = screen(
        |world| world.unknown = vec!["listing regions: you may not".to_owned()],
        &[],
    );
    assert!(
        text.starts_with("healthy, as far as you may look, shop at epoch 1.6\n"),
        "{text}"
    );
    assert!(text.contains("unknown: listing regions: you may not\n"), "{text}");
}

#[test]
fn what_is_named_is_shown_with_its_cluster_and_nothing_else() {
    let text = screen(|_| {}, &["north-1".to_owned(), "users-0".to_owned()]);
    assert!(text.contains("Unit north-1") && text.contains("users-0"), "{text}");
    assert!(!text.contains("Unit east-1") && !text.contains("users-1"), "{text}");
}
