//! Tables to grants and duties, row by row.

use super::*;
use jiff::Timestamp;
use multiactive_core::promotion::{Budgets, Evidence, Move, MovingStore, Request, Verify, admit, record};
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, TableUnit};

pub(super) const UNITS: [&str; 3] = ["east", "north", "south"];

/// East owns 0 to 99, north 100 to 199, nobody the rest; the epochs are 2 and 3.
pub(super) fn table() -> RoutingTable {
    let mut keyspace = KeyspaceTable::unowned("users".into(), 256);
    let range = SlotSet::range;
    keyspace.set(
        &range(0, 99),
        Some(&"east".into()),
        SpanState::Serving,
        Epoch::new(1, 2),
    );
    keyspace.set(
        &range(100, 199),
        Some(&"north".into()),
        SpanState::Serving,
        Epoch::new(1, 3),
    );
    RoutingTable {
        epoch: Epoch::new(1, 3),
        units: UNITS
            .iter()
            .map(|name| TableUnit {
                name: (*name).into(),
                router: String::new(),
            })
            .collect(),
        keyspaces: vec![keyspace],
        ..RoutingTable::default()
    }
}

/// The table with a promotion of slots 10 to 19 from east to north, taken to `step`.
fn promoted_to(step: Step) -> (RoutingTable, OperationUid) {
    let mut table = table();
    let uid = OperationUid::from("op");
    let request = Request {
        uid: uid.clone(),
        name: "move".into(),
        target: "north".into(),
        select: vec![("users".into(), SlotSet::range(10, 19))],
        stores: Vec::new(),
        expected_epoch: 99,
        verify: Verify::Full,
        budgets: Budgets {
            fence: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
        },
    };
    let now = Timestamp::UNIX_EPOCH;
    table.operations.push(admit(&table, &request, now).unwrap());
    let path = [
        Step::Prepare,
        Step::Verify,
        Step::Hold,
        Step::Fence,
        Step::Drain,
        Step::Commit,
        Step::Settle,
    ];
    for next in path
        .into_iter()
        .take_while(|next| *next <= step || (step == Step::Open && *next == Step::Commit))
    {
        let positions = if next == Step::Drain {
            vec![position("orders")]
        } else {
            Vec::new()
        };
        let movement = Move::Enter {
            step: next,
            not_needed: Vec::new(),
            passed: Vec::new(),
            positions,
            behind: Vec::new(),
            evidence: Evidence::None,
        };
        table = record(&table, &uid, &movement, now).unwrap().unwrap();
    }
    (table, uid)
}

fn position(store: &str) -> StorePosition {
    StorePosition {
        store: store.into(),
        source: "east".into(),
        vector: Vec::new(),
    }
}

pub(super) fn open(table: &RoutingTable, unit: &str) -> SlotSet {
    let grants = grants(table, &"users".into(), &unit.into());
    let open = grants.iter().filter(|grant| grant.open);
    open.flat_map(|grant| grant.slots.ranges().iter().copied()).collect()
}

#[test]
fn slots_are_open_in_their_owner_only_and_closed_from_fence_to_open() {
    for (step, east, north) in [
        (Step::Check, "0-99", "100-199"),
        // Whether those that leave are open, the fence of the operation says.
        (Step::Hold, "0-9,20-99", "100-199"),
        (Step::Fence, "0-9,20-99", "100-199"),
        (Step::Drain, "0-9,20-99", "100-199"),
        (Step::Open, "0-9,20-99", "10-19,100-199"),
        (Step::Settle, "0-9,20-99", "10-19,100-199"),
    ] {
        let (table, _) = promoted_to(step);
        assert_eq!(open(&table, "east").to_string(), east, "{step} east");
        assert_eq!(open(&table, "north").to_string(), north, "{step} north");
        assert!(open(&table, "south").is_empty(), "{step} south");
    }
}

#[test]
fn grants_cover_every_slot_once_and_carry_the_epoch_of_their_span() {
    let (table, uid) = promoted_to(Step::Open);
    for unit in UNITS {
        let grants = grants(&table, &"users".into(), &unit.into());
        let covered: usize = grants.iter().map(|grant| grant.slots.len()).sum();
        let all: SlotSet = grants
            .iter()
            .flat_map(|grant| grant.slots.ranges().iter().copied())
            .collect();
        assert_eq!((covered, all.to_string().as_str()), (256, "0-255"), "{unit}");
        for grant in grants {
            let slot = grant.slots.iter().next().unwrap();
            assert_eq!(
                grant.epoch,
                table.keyspaces[0].span_of(slot).unwrap().epoch,
                "{unit} {slot}"
            );
            // Only what the operation brings waits for its positions, and only in its target.
            let brought = unit == "north" && slot == 10;
            assert_eq!(grant.brought_by, brought.then(|| uid.clone()), "{unit} {slot}");
        }
    }
}

#[test]
fn slots_that_are_being_held_are_left_to_the_fence_of_their_operation_in_the_source_alone() {
    for (step, want) in [
        (Step::Check, ""),
        (Step::Hold, "10-19"),
        (Step::Fence, "10-19"),
        (Step::Drain, ""),
        (Step::Open, ""),
    ] {
        let (table, _) = promoted_to(step);
        assert_eq!(
            fencing(&table, &"users".into(), &"east".into()).to_string(),
            want,
            "{step}"
        );
        let named: SlotSet = grants(&table, &"users".into(), &"east".into())
            .iter()
            .flat_map(|grant| grant.slots.ranges().iter().copied())
            .collect();
        let left = SlotSet::range(0, 255).difference(&named);
        assert_eq!(left.to_string(), want, "{step}: every other slot is granted or closed");
        for unit in ["north", "south"] {
            assert!(
                fencing(&table, &"users".into(), &unit.into()).is_empty(),
                "{step} {unit}"
            );
        }
    }
}

#[test]
fn a_keyspace_that_the_table_does_not_have_grants_nothing() {
    assert!(grants(&table(), &"places".into(), &"east".into()).is_empty());
}

#[test]
fn each_step_asks_of_each_unit_what_the_machine_waits_for() {
    let east: Vec<UnitName> = vec!["east".into()];
    let slots = SlotSet::range(10, 19);
    let nothing = Ask::Nothing;
    let reach = |takes_over| Ask::Reach {
        positions: vec![position("orders")],
        takes_over,
    };
    let follow = |takes_over| Ask::Follow {
        sources: east.clone(),
        takes_over,
    };
    let compared = slots.clone();
    let compare = |changed| Ask::Compare {
        owners: vec![("east".into(), compared.clone())],
        changed,
    };
    let fence = Ask::Fence {
        slots,
        budget: SignedDuration::from_secs(10),
        superseded: None,
    };
    for (step, source, target, member) in [
        (Step::Check, Ask::Beat, Ask::Lag(east.clone()), Ask::Lag(east.clone())),
        (Step::Prepare, Ask::Beat, Ask::Lag(east.clone()), Ask::Lag(east.clone())),
        (Step::Verify, Ask::Beat, compare(false), nothing.clone()),
        (Step::Hold, fence.clone(), follow(true), follow(false)),
        (Step::Fence, fence.clone(), follow(true), follow(false)),
        (Step::Drain, nothing.clone(), reach(true), reach(false)),
        (Step::Open, nothing.clone(), nothing.clone(), nothing.clone()),
        (Step::Settle, nothing.clone(), nothing.clone(), nothing.clone()),
    ] {
        let (table, uid) = promoted_to(step);
        for (unit, role, ask) in [
            ("east", Role::Source, source),
            ("north", Role::Target, target),
            ("south", Role::Member, member),
        ] {
            let duties = duties(&table, &unit.into(), &[("orders".into(), "users".into())], |_, _| true);
            // A comparison may last, and writes are held right after it: the lag is asked for besides. Until all has
            // arrived everybody else writes heartbeats, for what is applied of his log is waited for too.
            let besides = match (step, role) {
                (Step::Verify, Role::Target | Role::Member) => vec![Ask::Lag(east.clone()), Ask::Beat],
                (Step::Hold | Step::Fence, _) => vec![],
                (_, Role::Target | Role::Member) if step <= Step::Drain => vec![Ask::Beat],
                (_, _) => vec![],
            };
            let store = StoreDuty {
                store: "orders".into(),
                ask,
                besides,
            };
            let want = Duty {
                operation: uid.clone(),
                epoch: table.operations[0].epoch,
                step,
                role,
                quiet: step >= Step::Hold,
                stores: vec![store],
                missing: Vec::new(),
            };
            assert_eq!(duties, [want], "{step} {unit}");
        }
    }
    let (mut table, _) = promoted_to(Step::Verify);
    table.operations[0].verify = Verify::Changed;
    let stores = [("orders".into(), "users".into())];
    let asked = duties(&table, &"north".into(), &stores, |_, _| true);
    assert_eq!(asked[0].stores[0].ask, compare(true));
}

#[test]
fn a_source_fences_at_hold_once_its_routers_have_no_write_under_way_and_at_fence_whatever_they_say() {
    for (step, quiet, fences) in [
        (Step::Check, true, false),
        (Step::Hold, false, false),
        (Step::Hold, true, true),
        (Step::Fence, false, true),
    ] {
        let (table, uid) = promoted_to(step);
        let epoch = table.operations[0].epoch;
        let said = |of: &OperationUid, at| quiet && *of == uid && at == epoch;
        let duties = duties(&table, &"east".into(), &[("orders".into(), "users".into())], said);
        let asks_fence = matches!(duties[0].stores[0].ask, Ask::Fence { .. });
        assert_eq!(asks_fence, fences, "{step}, quiet: {quiet}");
    }
}

#[test]
fn where_a_unit_is_away_members_wait_for_the_published_positions() {
    let (mut table, _) = promoted_to(Step::Hold);
    table.operations[0].behind = vec!["south".into()];
    let duties = duties(&table, &"north".into(), &[("orders".into(), "users".into())], |_, _| {
        true
    });
    assert_eq!(duties[0].stores[0].ask, Ask::Nothing);
}

#[test]
fn an_operation_concerns_its_units_and_the_members_of_its_stores() {
    let moving = MovingStore {
        store: "orders".into(),
        keyspace: "users".into(),
        members: UNITS.map(UnitName::from).to_vec(),
    };
    for step in [Step::Hold, Step::Fence, Step::Drain] {
        let (mut table, _) = promoted_to(step);
        table.operations[0].stores = vec![moving.clone()];
        for (unit, keyspace, concerned, missing) in [
            ("south", "users", true, 0),
            ("south", "places", false, 0),
            // A target without a member of the store says so, instead of having reached what nobody asked of it.
            ("north", "places", true, 1),
            ("east", "places", true, 0),
        ] {
            let duties = duties(&table, &unit.into(), &[("orders".into(), keyspace.into())], |_, _| true);
            assert_eq!(!duties.is_empty(), concerned, "{step} {unit} {keyspace}");
            let missed = duties.first().map_or(0, |duty| duty.missing.len());
            assert_eq!(missed, missing, "{step} {unit} {keyspace}");
        }
    }
}

#[test]
fn only_a_newer_table_takes_the_place_of_the_one_that_is_held() {
    let held = table();
    for (epoch, want) in [
        (Epoch::new(1, 2), false),
        (Epoch::new(1, 3), false),
        (Epoch::new(1, 4), true),
        (Epoch::new(2, 1), true),
    ] {
        let offered = RoutingTable { epoch, ..table() };
        assert_eq!(supersedes(&offered, Some(&held)), want, "{epoch}");
        assert!(supersedes(&offered, None));
    }
}
