//! The definitions on disk are those of the types.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use multiactive_api::crd;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn the_definitions_on_disk_are_as_generated() {
    let output = Command::new(env!("CARGO_BIN_EXE_crdgen"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn schemas() -> Vec<(String, Map<String, Value>)> {
    let mut found = Vec::new();
    for definition in crd::all().unwrap() {
        let json = serde_json::to_value(&definition).unwrap();
        let schema = json.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        for part in ["spec", "status"] {
            if let Some(Value::Object(schema)) = schema["properties"].get(part) {
                let path = format!("{} {part}", definition.spec.names.kind);
                crd::visit(&path, schema, &mut |path, schema| {
                    found.push((path.to_owned(), schema.clone()))
                });
            }
        }
    }
    found
}

#[test]
fn every_list_map_and_text_has_a_maximum() {
    let missing: Vec<String> = schemas()
        .into_iter()
        .filter(|(_, schema)| match schema.get("type").and_then(Value::as_str) {
            Some("array") => !schema.contains_key("maxItems") || !schema.contains_key("x-kubernetes-list-type"),
            Some("string") => {
                !["maxLength", "enum"].iter().any(|key| schema.contains_key(*key))
                    && schema.get("format") != Some(&Value::from("date-time"))
            }
            Some("object") => !["maxProperties", "properties"]
                .iter()
                .any(|key| schema.contains_key(*key)),
            Some("boolean" | "integer") => false,
            // No floats, and nothing without a type.
            _ => true,
        })
        .map(|(path, _)| path)
        .collect();
    assert!(missing.is_empty(), "without a maximum:\n  {}", missing.join("\n  "));
}

#[test]
fn every_field_is_described_and_no_field_is_nullable() {
    for (path, schema) in schemas() {
        assert!(schema.get("nullable").is_none(), "{path} is nullable");
        if path.ends_with("[]") || path.ends_with("{}") {
            continue;
        }
        let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(
            text.len() > 8 && !text.contains("Auto-generated"),
            "{path} is described as `{text}`"
        );
    }
}

#[test]
fn names_are_those_that_people_type() {
    let mut short = BTreeSet::new();
    for definition in crd::all().unwrap() {
        let names = &definition.spec.names;
        let version = &definition.spec.versions[0];
        assert_eq!(
            names.categories.as_deref().unwrap_or_default(),
            ["multiactive"],
            "{}",
            names.kind
        );
        let has_status = version.subresources.as_ref().is_some_and(|sub| sub.status.is_some());
        assert_eq!(has_status, names.kind != "RoutingTable", "{}", names.kind);
        for name in names.short_names.iter().flatten() {
            assert!(short.insert(name.clone()), "{name} is used twice");
            let taken = [
                // Kubernetes
                "cj", "cm", "crd", "cs", "csr", "deploy", "ds", "ep", "ev", "hpa", "ing", "limits", "netpol", "no",
                "ns", "pc", "pdb", "po", "pv", "pvc", "quota", "rc", "rs", "sa", "sc", "sts", "svc", "vap",
                // Flux, Argo CD, Prometheus, cert-manager, Gateway API, Istio
                "ks", "hr", "gitrepo", "app", "appset", "proj", "prom", "sm", "cert", "cr", "gtw", "gc", "gw", "vs",
                "dr", "se", // OpenShift, Cluster API, Cilium, Crossplane
                "mc", "mcp", "co", "cl", "ma", "md", "ms", "mp", "cnp", "ccnp", "cep", "ciliumid", "xr",
            ];
            assert!(
                !taken.contains(&name.as_str()),
                "{name} is the short name of another kind"
            );
        }
    }
    assert_eq!(short.len(), 13);
}

#[test]
fn every_rule_has_a_test_on_a_real_api_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let tests: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    // Every second piece between quotes is a text; a refusal is recognized by a part of its message.
    let without_escapes = tests.replace("\\\"", "'");
    let texts: Vec<&str> = without_escapes
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| text.len() > 12)
        .collect();
    let mut rules = 0;
    for definition in crd::all().unwrap() {
        let kind = &definition.spec.names.kind;
        let json = serde_json::to_value(&definition).unwrap();
        let Some(Value::Object(schema)) = json.pointer("/spec/versions/0/schema/openAPIV3Schema") else {
            panic!("{kind} has no schema");
        };
        crd::visit(kind, schema, &mut |path, schema| {
            let validations = schema.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in validations.into_iter().flatten() {
                rules += 1;
                let message = rule["message"].as_str().unwrap_or_default();
                // A field that has but one value cannot change; a second value ends this exemption.
                let one_value = |pointer: &str| {
                    let values = schema["properties"]["spec"].pointer(pointer).and_then(Value::as_array);
                    values.is_some_and(|values| values.len() == 1)
                };
                if message.starts_with("function is immutable")
                    && one_value("/properties/function/properties/type/enum")
                    || message == "topology is immutable" && one_value("/properties/topology/enum")
                {
                    continue;
                }
                let tested = texts.iter().any(|text| message.contains(text));
                assert!(tested, "{path}: no test meets `{message}`");
            }
        });
    }
    assert!(rules > 40, "{rules} rules: the schemas were not read");
}

/// A Failover of a writer that left somebody behind could not be recorded, and never ended.
#[test]
fn the_record_remembers_the_writers_of_finished_operations_too() {
    let all = crd::all().unwrap();
    let table = all
        .iter()
        .find(|definition| definition.spec.names.kind == "RoutingTable");
    let json = serde_json::to_value(table.unwrap()).unwrap();
    let place =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/finished/items/properties/keyspaces/items";
    let name = json.pointer(place).unwrap();
    assert!(name["pattern"].as_str().unwrap().contains("writer"), "{name}");
}
