//! Shapes that several kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The condition that every kind has: true when all that the spec asks for holds.
pub const READY: &str = "Ready";
/// True while the operator is still working towards the spec (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// True when the operator cannot go on without a change from outside (kstatus).
pub const STALLED: &str = "Stalled";

/// The schema of a condition list: merged by type, so each manager owns its own conditions.
pub fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
