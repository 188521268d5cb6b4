//! Open and Settle: there is only forward.

use super::check;
use super::common::unit;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{RouterBehind, Seen, Step};

#[test]
fn open_waits_without_end_for_the_target_to_stand_at_the_commit() {
    fn applied(seen: &mut Seen, epoch: Option<Epoch>) {
        seen.target.as_mut().unwrap().applied = epoch;
    }
    check(
        Step::Open,
        &[
            (
                "unknown",
                1_000_000,
                |seen| applied(seen, None),
                "wait for the databases to open of north",
            ),
            (
                "older",
                1_000_000,
                |seen| applied(seen, Some(Epoch::new(1, 19))),
                "wait for the databases to open of north",
            ),
            (
                "target not seen",
                1_000_000,
                |seen| seen.target = None,
                "wait for the databases to open of north",
            ),
            ("newer", 0, |seen| applied(seen, Some(Epoch::new(1, 21))), "Settle"),
            (
                "a higher term",
                0,
                |seen| applied(seen, Some(Epoch::new(2, 1))),
                "Settle",
            ),
        ],
    );
}

#[test]
fn settle_waits_for_source_and_target_without_end_and_for_bystanders_a_while() {
    fn router(seen: &mut Seen, name: &str) {
        let (unit, router) = (unit(name), Some("r1".to_owned()));
        seen.routers_behind = Some(vec![RouterBehind { unit, router }]);
    }
    let behind: fn(&mut Seen) = |seen| router(seen, "south");
    let own: fn(&mut Seen) = |seen| router(seen, "east");
    fn silent(seen: &mut Seen, name: &str) {
        let (unit, router) = (unit(name), None);
        seen.routers_behind = Some(vec![RouterBehind { unit, router }]);
    }
    let new: fn(&mut Seen) = |seen| silent(seen, "west");
    let broken: fn(&mut Seen) = |seen| seen.sources[0].links = Some(Err("no slot".to_owned()));
    let bystander: fn(&mut Seen) = |seen| {
        router(seen, "west");
        seen.members[1].links = Some(Err("no stream".to_owned()));
    };
    check(
        Step::Settle,
        &[
            (
                "a bystander's router is behind",
                29,
                behind,
                "wait for routers: south/r1 routes by an older table",
            ),
            (
                "a bystander's router is behind",
                30,
                behind,
                "Succeeded without south/r1 routes by an older table",
            ),
            ("a bystander's link", 29, bystander, "wait for links: south: no stream"),
            (
                "a bystander's link and a router",
                30,
                bystander,
                "Succeeded without south: no stream; west/r1 routes by an older table",
            ),
            (
                "the source's router is behind",
                9999,
                own,
                "wait for routers: east/r1 routes by an older table",
            ),
            (
                "a unit that never reported",
                29,
                new,
                "wait for routers: west has not reported its routers",
            ),
            (
                "a unit that never reported",
                30,
                new,
                "Succeeded without west has not reported its routers",
            ),
            (
                "the target does not report",
                9999,
                |seen| silent(seen, "north"),
                "wait for routers: north has not reported its routers",
            ),
            (
                "the source does not report",
                9999,
                |seen| silent(seen, "east"),
                "wait for routers: east has not reported its routers",
            ),
            (
                "nobody looked",
                9999,
                |seen| seen.routers_behind = None,
                "wait for routers: what the units report is not known",
            ),
            ("reverse link broken", 9999, broken, "wait for links: east: no slot"),
        ],
    );
}
