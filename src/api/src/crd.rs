//! The CustomResourceDefinitions of all kinds, as they are installed: what derives, and what deriving cannot say.

use crate::{
    DataStore, Failover, Keyspace, MemberCluster, Promotion, Region, ReplicationLink, RoutingTable, ShardRange, Unit,
    UnitAssignment, UnitWorkload, Verification,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

/// The definitions of every kind, sorted by plural.
///
/// # Errors
///
/// A schema that is no JSON of a CustomResourceDefinition: a mistake in this crate.
pub fn all() -> serde_json::Result<Vec<CustomResourceDefinition>> {
    [
        DataStore::crd(),
        Failover::crd(),
        Keyspace::crd(),
        MemberCluster::crd(),
        Promotion::crd(),
        Region::crd(),
        ReplicationLink::crd(),
        RoutingTable::crd(),
        ShardRange::crd(),
        UnitAssignment::crd(),
        Unit::crd(),
        UnitWorkload::crd(),
        Verification::crd(),
    ]
    .iter()
    .map(finish)
    .collect()
}

/// The definition as text, the same for the same types.
///
/// # Errors
///
/// As [`all`].
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let mut json = serde_json::to_value(crd).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    whole_numbers(&mut json);
    serde_yaml::to_string(&json)
}

/// Bounds are floats in the type and whole numbers in what people read.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_991.0)
            {
                *value = Value::from(whole as i64);
            }
        }
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn finish(crd: &CustomResourceDefinition) -> serde_json::Result<CustomResourceDefinition> {
    let mut json = serde_json::to_value(crd)?;
    tidy(&mut json);
    if crd.spec.names.kind == "UnitAssignment" {
        let keyspaces =
            json.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/keyspaces");
        // What it repeats was checked in the hub, and 256 times the cost of those rules is more than is allowed.
        keyspaces.map(without_rules);
    }
    serde_json::from_value(json)
}

/// Takes `nullable` away everywhere: an absent field is absent. Then `has(self.x)` means that there is an x, and the
/// API server drops a null that somebody sends.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn without_rules(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("x-kubernetes-validations");
            map.values_mut().for_each(without_rules);
        }
        Value::Array(list) => list.iter_mut().for_each(without_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Visits every schema below `schema`, itself first, with its path.
pub fn visit(path: &str, schema: &Map<String, Value>, see: &mut impl FnMut(&str, &Map<String, Value>)) {
    see(path, schema);
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            if let Value::Object(property) = property {
                visit(&format!("{path}.{name}"), property, see);
            }
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(Value::Object(below)) = schema.get(key) {
            visit(&format!("{path}{suffix}"), below, see);
        }
    }
}
