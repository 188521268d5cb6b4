//! A double of an agent: takes the table as soon as it sees it and reports, as an agent whose databases and routers
//! obey at once. Which slots its database holds open outlives it, as a database does.

use super::NAMESPACE;
use super::databases::Databases;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use multiactive_api::{ROUTING_TABLE, RoutingTable as Object, UnitAssignment};
use multiactive_core::promotion::{Operation, Step};
use multiactive_core::table::RoutingTable;
use multiactive_runtime::watch::{self, Seen};
use serde_json::{Value, json};

/// The history that positions of doubles count in.
pub const LOG: &str = "7";
/// How far a survivor has a lost unit's log.
pub const RECEIVED: u64 = 100;

/// Reports until it is dropped.
pub async fn run(client: Client, unit: String, databases: Databases) {
    let tables = watch::one::<Object>(Api::namespaced(client.clone(), NAMESPACE), ROUTING_TABLE);
    let assignments = watch::one::<UnitAssignment>(Api::namespaced(client.clone(), NAMESPACE), &unit);
    let (mut tables, mut assignments) = (std::pin::pin!(tables), std::pin::pin!(assignments));
    let api: Api<UnitAssignment> = Api::namespaced(client, NAMESPACE);
    let (mut table, mut assignment) = (None, None);
    let mut said = None;
    loop {
        tokio::select! {
            // What makes no sense, or is gone, changes nothing: the last good table stays.
            Some(seen) = tables.next() => if let Seen::Present(seen) = seen {
                table = RoutingTable::try_from(&seen.spec).ok().or(table);
            },
            Some(seen) = assignments.next() => match seen {
                Seen::Present(seen) => assignment = Some(seen),
                Seen::Absent | Seen::Unparsable { .. } => assignment = None,
            },
        }
        let (Some(table), Some(assignment)) = (&table, &assignment) else {
            said = None;
            continue;
        };
        // A database that refuses the table is told of, as one that does not stand at it.
        let stands = assignment.spec.stores.is_empty() || databases.apply(&unit, table);
        let status = status(&unit, table, assignment, stands);
        if said.as_ref() == Some(&status) {
            continue;
        }
        let patch = Patch::Merge(json!({"status": status}));
        if api.patch_status(&unit, &PatchParams::default(), &patch).await.is_ok() {
            said = Some(status);
        }
    }
}

fn status(unit: &str, table: &RoutingTable, assignment: &UnitAssignment, stands: bool) -> Value {
    let applied = json!({"term": table.epoch.term, "epoch": table.epoch.epoch});
    let stores = assignment
        .spec
        .stores
        .iter()
        .map(|store| json!({"name": store.name, "ready": stands}));
    let links = assignment.spec.stores.iter().flat_map(|store| {
        let peers = store.peers.iter();
        peers.map(|peer| json!({"store": store.name, "from": peer.unit, "state": "Running"}))
    });
    json!({
        "observedGeneration": assignment.metadata.generation,
        "protocol": 1,
        "applied": stands.then_some(&applied),
        "routers": [{"name": "r1", "table": applied, "connected": true}],
        "stores": stores.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "lease": {"state": "Held"},
        "operations": table.operations.iter().map(|op| operation(unit, op, assignment)).collect::<Vec<_>>(),
    })
}

fn operation(unit: &str, op: &Operation, assignment: &UnitAssignment) -> Value {
    let source = op.sources().iter().any(|source| source.as_str() == unit);
    let mut report = json!({"uid": op.uid.as_str(), "term": op.epoch.term, "epoch": op.epoch.epoch});
    match (op.step, source) {
        (Step::Check | Step::Prepare | Step::Verify, false) => report["lagMs"] = json!(3),
        (Step::Hold | Step::Fence, true) => {
            report["inFlight"] = json!(0);
            let position = |store: &multiactive_api::AssignedStore| json!({"store": store.name, "source": unit, "vector": [{"unit": unit, "position": "0/1"}]});
            report["fenced"] = assignment.spec.stores.iter().map(position).collect();
        }
        // All that survives has the lost unit's log up to the same place.
        (Step::Cut, false) => {
            let lost = op.lost().map(|lost| lost.to_string()).unwrap_or_default();
            let cut = |store: &multiactive_api::AssignedStore| {
                let vector = json!([{"unit": lost, "position": "0/64"}]);
                json!({"store": store.name, "log": LOG, "at": RECEIVED.to_string(),
                    "position": {"store": store.name, "source": lost, "vector": vector}})
            };
            report["cut"] = assignment.spec.stores.iter().map(cut).collect();
        }
        (Step::Hold | Step::Fence | Step::Drain, false) => report["reach"] = json!({"state": "Reached"}),
        (_, _) => {}
    }
    report
}
