//! Tables and assignments in short.

use super::UNITS;
use multiactive_api::UnitAssignmentSpec;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{Budgets, Operation, OperationKind, SlotMove, Step, Verify};
use multiactive_core::slots::SlotSet;
use multiactive_core::span;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};
use serde_json::json;
use std::net::SocketAddr;

/// 16 slots; keys `s0` to `s15` are overridden to the slot of that number, so that tests can choose it.
pub const SLOTS: u32 = 16;

pub fn assignment(unit: &str, backend: SocketAddr) -> UnitAssignmentSpec {
    let overrides: Vec<_> = (0..SLOTS)
        .map(|slot| json!({"keys": [format!("s{slot}")], "slot": slot}))
        .collect();
    let keyspace = |name: &str, prefix: &str, on_missing: &str| {
        json!({
            "name": name,
            "slots": SLOTS,
            "routes": [{"pathPrefix": prefix, "backend": "shop"}],
            "key": {
                "sources": [
                    {"type": "Path", "path": {"pattern": format!("^{prefix}/key/([^/]*)$")}},
                    {"type": "Header", "header": {"name": "X-User-Id"}},
                ],
                "onMissing": on_missing,
            },
            "function": {"type": "Crc32"},
            "overrides": overrides,
        })
    };
    // South only stands by.
    let reads = if unit == "south" { "Writer" } else { "Local" };
    let spec = json!({
        "unit": unit,
        "cluster": format!("{unit}-cluster"),
        "backends": [{"name": "shop", "url": format!("http://{backend}")}],
        "keyspaces": [keyspace("users", "/orders", "Reject"), keyspace("pages", "/pages", "Any")],
        "writers": [
            {"store": "catalog", "routes": [{"pathPrefix": "/catalog", "backend": "shop"}], "reads": reads, "places": true},
            {"store": "stock", "routes": [{"pathPrefix": "/stock", "backend": "shop"}], "reads": reads, "places": true, "maxLag": "1s"},
            {"store": "prices", "routes": [{"pathPrefix": "/prices", "backend": "shop"}], "reads": "Writer"},
        ],
        "stores": [],
    });
    serde_json::from_value(spec).unwrap()
}

/// `12: 8s0@1.10,8h1@1.12` is the table of epoch 1.12 with these spans of the keyspace `users`; units by their place in
/// [`UNITS`]. Where a span is held or fenced, an operation of uid `move` moves it to `south`.
pub fn table(text: &str, address: impl Fn(&str) -> SocketAddr) -> RoutingTable {
    let (epoch, spans) = text.split_once(": ").unwrap();
    let epoch = Epoch::new(1, epoch.parse().unwrap());
    let names: Vec<UnitName> = UNITS.map(UnitName::from).into();
    let spans = span::decode(spans, SLOTS, &names).unwrap();
    let moves: Vec<_> = spans
        .iter()
        .filter(|span| span.state.holds_writes())
        .map(|span| SlotMove {
            keyspace: "users".into(),
            source: span.owner.clone().unwrap(),
            slots: SlotSet::range(span.first, span.last),
        })
        .collect();
    RoutingTable {
        epoch,
        units: UNITS
            .map(|name| TableUnit {
                name: name.into(),
                router: format!("https://{}", address(name)),
            })
            .into(),
        keyspaces: vec![KeyspaceTable {
            name: "users".into(),
            slots: SLOTS,
            definition: None,
            spans,
        }],
        operations: if moves.is_empty() {
            Vec::new()
        } else {
            vec![operation(epoch, moves)]
        },
        finished: Vec::new(),
        quarantined: Vec::new(),
        leases: Vec::new(),
        fencing: Vec::new(),
    }
}

fn operation(epoch: Epoch, moves: Vec<SlotMove>) -> Operation {
    Operation {
        kind: OperationKind::Promotion,
        uid: "move".into(),
        name: "move".into(),
        target: "south".into(),
        moves,
        stores: Vec::new(),
        verify: Verify::None,
        budgets: Budgets {
            fence: jiff::SignedDuration::from_secs(10),
            drain: jiff::SignedDuration::from_secs(30),
        },
        step: Step::Hold,
        epoch,
        positions: Vec::new(),
        behind: Vec::new(),
        failover: None,
        history: Vec::new(),
    }
}
