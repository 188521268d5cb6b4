//! The largest table, 16,384 spans, no two of which can be joined: a real API server takes it, and routers route
//! by what it gives back.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::{NAMESPACE, UNITS, World, limits, tables};
use kube::Api;
use kube::api::PostParams;
use multiactive_api::{ROUTING_TABLE, RoutingTable, RoutingTableSpec};
use multiactive_core::epoch::Epoch;
use multiactive_core::hash::Function;
use multiactive_core::span::{Span, SpanState};
use multiactive_core::table::{KeyspaceTable, RoutingTable as Owners, TableUnit};
use multiactive_fleet::cluster::{Cluster, Options};
use std::time::Instant;

const SLOTS: u32 = 16_384;
/// Numbers as they are after years.
const TERM: u32 = 4_000;
const EPOCH: u64 = 1_000_000_000;

/// The owner of a slot.
fn owner(slot: u16) -> &'static str {
    UNITS[usize::from(slot) % UNITS.len()]
}

fn table(world: &World) -> Owners {
    let spans = (0..SLOTS as u16).map(|slot| Span {
        first: slot,
        last: slot,
        owner: Some(owner(slot).into()),
        state: SpanState::Serving,
        epoch: Epoch::new(TERM, EPOCH + u64::from(slot)),
    });
    let unit = |name: &str| TableUnit {
        name: name.into(),
        router: format!("https://{}", world.unit(name).peer_addr),
    };
    Owners {
        epoch: Epoch::new(TERM, EPOCH + u64::from(SLOTS)),
        units: UNITS.map(unit).into(),
        keyspaces: vec![KeyspaceTable {
            name: "users".into(),
            slots: SLOTS,
            definition: None,
            spans: spans.collect(),
        }],
        operations: Vec::new(),
        finished: Vec::new(),
        quarantined: Vec::new(),
        leases: Vec::new(),
        fencing: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_16384_spans_is_stored_and_routed_by() {
    let cluster = Cluster::start(Options::api_server_only("large")).await.unwrap();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");
    cluster.kubectl(&["apply", "--filename", crds]).await.unwrap();
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all"])
        .await
        .unwrap();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).await.unwrap();

    let world = World::new(limits()).await;
    let made = table(&world);
    let spec = RoutingTableSpec::try_from(&made).unwrap();
    let bytes = serde_json::to_vec(&spec).unwrap().len();
    println!("a table of {SLOTS} spans has {bytes} bytes");
    assert!(bytes < 1 << 20, "{bytes} bytes");
    let api: Api<RoutingTable> = Api::namespaced(cluster.client().await.unwrap(), NAMESPACE);
    api.create(&PostParams::default(), &RoutingTable::new(ROUTING_TABLE, spec))
        .await
        .unwrap();
    let stored = api.get(ROUTING_TABLE).await.unwrap();
    let read = Owners::try_from(&stored.spec).unwrap();
    assert_eq!(read, made);

    for unit in UNITS {
        let unit_of = world.unit(unit);
        let mut assignment = tables::assignment(unit, unit_of.backend.addr);
        for keyspace in &mut assignment.keyspaces {
            keyspace.spec.slots = SLOTS.cast_signed();
            keyspace.spec.overrides.clear();
        }
        unit_of.state.take_assignment(&assignment).unwrap();
        let began = Instant::now();
        unit_of.state.take_table(read.clone()).unwrap();
        println!("{unit} took it in {:?}", began.elapsed());
    }
    let mut served = std::collections::BTreeSet::new();
    for number in 0..30 {
        let key = format!("user-{number}");
        let slot = Function::Crc32.slot(key.as_bytes(), SLOTS);
        for unit in UNITS {
            let answer = world.get(unit, &key).await;
            let got = (
                answer.status,
                answer.header("x-multiactive-unit"),
                answer.header("x-multiactive-slot"),
            );
            assert_eq!(got, (200, owner(slot), slot.to_string().as_str()), "{key} by {unit}");
            let epoch = format!("{TERM}.{}", EPOCH + u64::from(slot));
            assert_eq!(answer.header("x-multiactive-epoch"), epoch);
        }
        served.insert(owner(slot));
    }
    assert_eq!(served.len(), UNITS.len());
    cluster.stop().await;
}
