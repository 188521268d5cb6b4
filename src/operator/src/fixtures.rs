//! What the tests of several modules begin with.

use jiff::SignedDuration;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::{Budgets, Operation, OperationKind, SlotMove, Step, Verify};
use multiactive_core::slots::SlotSet;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object of the hub as its server returns it; its uid is its name.
pub fn object<T: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
    serde_json::from_value(json!({"apiVersion": "multiactive.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1}, "spec": spec}))
    .unwrap()
}

/// Slots 0 and 1 of `users` go from a to b; no store moves, and rows are compared.
pub fn operation(step: Step, epoch: Epoch) -> Operation {
    Operation {
        kind: OperationKind::Promotion,
        uid: "move".into(),
        name: "move".into(),
        target: "b".into(),
        moves: vec![SlotMove {
            keyspace: "users".into(),
            source: "a".into(),
            slots: SlotSet::range(0, 1),
        }],
        stores: Vec::new(),
        verify: Verify::Full,
        budgets: Budgets {
            fence: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
        },
        step,
        epoch,
        positions: Vec::new(),
        behind: Vec::new(),
        failover: None,
        history: Vec::new(),
    }
}

/// An answer of an API server.
pub fn answer(code: u16, body: &Value) -> http::Response<kube::client::Body> {
    let body = kube::client::Body::from(body.to_string().into_bytes());
    http::Response::builder().status(code).body(body).unwrap()
}
