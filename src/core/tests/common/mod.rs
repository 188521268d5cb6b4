//! Small tables and operations for the tests.
#![allow(dead_code)] // Each test binary uses its own part.

pub mod shared;

use jiff::{SignedDuration, Timestamp};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{
    Budgets, FenceSeen, MemberSeen, MovingStore, Operation, Reach, Request, RoutersSeen, Seen, SourceSeen,
    StorePosition, TargetSeen, UnitPosition, UnitReady, Verify, admit,
};
use multiactive_core::slots::SlotSet;
use multiactive_core::span::SpanState;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};

/// Seconds after some fixed time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub fn unit(name: &str) -> UnitName {
    UnitName::from(name)
}

pub fn slots(text: &str) -> SlotSet {
    text.parse().unwrap()
}

/// Epoch 1.10; units east, north, south; keyspace `users` of 16 slots: 0-7 Serving at east since 1.4, 8-11 Serving at
/// north since 1.9, 12-15 unowned.
pub fn table() -> RoutingTable {
    let mut users = KeyspaceTable::unowned("users".into(), 16);
    users.set(&slots("0-7"), Some(&unit("east")), SpanState::Serving, Epoch::new(1, 4));
    users.set(
        &slots("8-11"),
        Some(&unit("north")),
        SpanState::Serving,
        Epoch::new(1, 9),
    );
    let units = ["east", "north", "south"].map(|name| TableUnit {
        name: unit(name),
        router: format!("https://{name}.example:8443"),
    });
    RoutingTable {
        epoch: Epoch::new(1, 10),
        units: units.into(),
        keyspaces: vec![users],
        ..RoutingTable::default()
    }
}

pub fn request() -> Request {
    Request {
        uid: "uid-1".into(),
        name: "move".to_owned(),
        target: unit("north"),
        select: vec![("users".into(), slots("0-3"))],
        stores: vec![orders()],
        expected_epoch: 10,
        verify: Verify::None,
        budgets: Budgets {
            fence: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
        },
    }
}

/// The store of keyspace `users`, with a member in each unit.
pub fn orders() -> MovingStore {
    MovingStore {
        store: "orders".into(),
        keyspace: "users".into(),
        members: ["east", "north", "south"].map(unit).into(),
    }
}

/// The table with the operation of [`request`] admitted at `at(0)`.
pub fn admitted() -> RoutingTable {
    admitted_as(&request())
}

pub fn admitted_as(request: &Request) -> RoutingTable {
    let mut table = table();
    let op = admit(&table, request, at(0)).unwrap();
    table.operations.push(op);
    table
}

pub fn operation() -> Operation {
    admitted().operations[0].clone()
}

pub fn position() -> StorePosition {
    StorePosition {
        store: "orders".into(),
        source: unit("east"),
        vector: vec![UnitPosition {
            unit: unit("east"),
            position: "0/1A2B".to_owned(),
        }],
    }
}

/// All that is to be seen is well, for an operation of `epoch`, at every step.
pub fn well(epoch: Epoch) -> Seen {
    let member = |name| MemberSeen {
        unit: unit(name),
        reachable: Some(true),
        links: Some(Ok(())),
        lag: Some(SignedDuration::from_millis(5)),
        reach: Some(Reach::Reached),
    };
    Seen {
        abort: None,
        stores: Some(vec![orders()]),
        target: Some(TargetSeen {
            cordoned: false,
            ready: Some(UnitReady::Ready),
            applied: Some(epoch),
            problem: None,
        }),
        sources: vec![SourceSeen {
            unit: unit("east"),
            routers: Some(RoutersSeen {
                count: 2,
                behind: Vec::new(),
                in_flight: Some(0),
            }),
            fence: Some(FenceSeen {
                epoch,
                positions: vec![position()],
            }),
            links: Some(Ok(())),
            problem: None,
        }],
        members: vec![member("north"), member("south")],
        compared: Some(Vec::new()),
        uncompared: Vec::new(),
        routers_behind: Some(Vec::new()),
        ..Seen::default()
    }
}
