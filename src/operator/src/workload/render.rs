//! From manifests and patches to the objects that one unit shall have.

use super::autoscale::{ScaleTarget, target_of};
use super::marks::{HASH, Owner, UNIT, WORKLOAD, WORKLOAD_UID, hash};
use super::merge::{merge, without_nulls};
use super::order::Wave;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use multiactive_api::{UnitPatch, UnitWorkloadSpec, WorkloadObject};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// Which object of a cluster and namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Id {
    /// The group, empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Whether both are one object, in whatever version.
    pub fn same_object(&self, other: &Self) -> bool {
        (self.group(), &self.kind, &self.name) == (other.group(), &other.kind, &other.name)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl From<&WorkloadObject> for Id {
    fn from(object: &WorkloadObject) -> Self {
        Self {
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
            name: object.name.clone(),
        }
    }
}

/// An object that a unit shall have. There may be thousands, so it is kept as text, which is far smaller.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Which.
    pub id: Id,
    /// When it is applied.
    pub wave: Wave,
    /// What it scales, where it is an autoscaler.
    pub scales: Option<ScaleTarget>,
    /// Whether it says how many replicas there shall be.
    pub replicas: bool,
    text: Box<str>,
    hash: Box<str>,
}

impl Desired {
    /// `value`, all of it with our marks but for the hash.
    pub fn new(id: Id, wave: Wave, value: &Value) -> Self {
        Self {
            id,
            wave,
            scales: target_of(value),
            replicas: value.pointer("/spec/replicas").is_some(),
            text: value.to_string().into(),
            hash: hash(value).into(),
        }
    }

    /// All of it, with our marks but for the hash.
    pub fn value(&self) -> Value {
        // What was written here is read here.
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The hash of all of it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The object as it is applied: with the hash of all the rest among its marks.
    pub fn sealed(&self) -> Value {
        let mut value = self.value();
        value["metadata"]["annotations"][HASH] = json!(self.hash);
        value
    }
}

/// Why a UnitWorkload cannot be rendered: which part of it, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field of the UnitWorkload.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Invalid {
    Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}

/// The objects of `owner`'s unit, in the order in which they are applied.
///
/// # Errors
///
/// The first manifest or patch that is wrong; nothing of an invalid UnitWorkload is applied.
pub fn render(spec: &UnitWorkloadSpec, owner: &Owner) -> Result<Vec<Desired>, Invalid> {
    let mut manifests = Vec::new();
    for (at, manifest) in spec.manifests.iter().enumerate() {
        let field = format!("spec.manifests[{at}]");
        let value = without_nulls(manifest);
        let id = identify(&value, &owner.namespace).map_err(|problem| invalid(&field, problem))?;
        manifests.push((field, id, value));
    }
    for (at, patch) in spec
        .patches
        .iter()
        .enumerate()
        .filter(|(_, patch)| patch.unit == owner.unit)
    {
        let field = format!("spec.patches[{at}]");
        apply_patch(&mut manifests, patch).map_err(|problem| invalid(&field, problem))?;
    }
    let mut seen = BTreeSet::new();
    let mut desired = Vec::new();
    for (field, id, mut value) in manifests {
        let after = identify(&value, &owner.namespace).map_err(|problem| invalid(&field, problem))?;
        if after != id {
            return Err(invalid(
                &field,
                format!("a patch made {after} of {id}; patches must not change which object it is"),
            ));
        }
        if !seen.insert((id.group().to_owned(), id.kind.clone(), id.name.clone())) {
            return Err(invalid(&field, format!("{id} appears twice; keep one of them")));
        }
        clean(&mut value).map_err(|problem| invalid(&field, problem))?;
        mark(&mut value, owner).map_err(|problem| invalid(&field, problem))?;
        let wave = Wave::of(&id.api_version, &id.kind);
        desired.push(Desired::new(id, wave, &value));
    }
    desired.sort_by_key(|object| object.wave);
    Ok(desired)
}

/// Which object a manifest is.
fn identify(value: &Value, namespace: &str) -> Result<Id, String> {
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let missing = |field: &str| format!("it is no Kubernetes object: {field} is missing or no text");
    let api_version = text("/apiVersion").ok_or_else(|| missing("apiVersion"))?;
    let kind = text("/kind").ok_or_else(|| missing("kind"))?;
    let name = text("/metadata/name").ok_or_else(|| missing("metadata.name"))?;
    if kind.ends_with("List") && value.get("items").is_some() {
        return Err(format!("it is a {kind}; give each of its items as a manifest"));
    }
    if let Some(other) = value
        .pointer("/metadata/namespace")
        .filter(|found| **found != json!(namespace))
    {
        return Err(format!(
            "metadata.namespace is {other}; leave it out: objects go to namespace {namespace:?}, that of the UnitWorkload"
        ));
    }
    Ok(Id {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}

fn apply_patch(manifests: &mut [(String, Id, Value)], patch: &UnitPatch) -> Result<(), String> {
    let target = &patch.target;
    let mut hits = manifests
        .iter_mut()
        .filter(|(_, id, _)| id.kind == target.kind && id.name == target.name);
    let Some((_, _, value)) = hits.next() else {
        return Err(format!(
            "its target {} {} is none of the manifests",
            target.kind, target.name
        ));
    };
    merge(value, &patch.merge);
    Ok(())
}

/// Removes what only a server writes, and brings a Secret into the form in which a server keeps it.
fn clean(value: &mut Value) -> Result<(), String> {
    let Some(object) = value.as_object_mut() else {
        return Err("it is no object".to_owned());
    };
    object.remove("status");
    let secret = object.get("kind") == Some(&json!("Secret")) && object.get("apiVersion") == Some(&json!("v1"));
    if secret && let Some(plain) = object.remove("stringData") {
        let plain: std::collections::BTreeMap<String, String> =
            serde_json::from_value(plain).map_err(|error| format!("stringData holds what is no text: {error}"))?;
        let data = object.entry("data").or_insert_with(|| json!({}));
        for (key, text) in plain {
            data[key] = json!(STANDARD.encode(text));
        }
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for field in [
            "namespace",
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            metadata.remove(field);
        }
    }
    Ok(())
}

fn mark(value: &mut Value, owner: &Owner) -> Result<(), String> {
    let Some(Value::Object(metadata)) = value.get_mut("metadata") else {
        return Err("metadata is no object".to_owned());
    };
    let mut put =
        |map: &str, key: &str, text: &str| match metadata.entry(map).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(map) => {
                map.insert(key.to_owned(), json!(text));
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(format!("metadata.{map} is no object"))
            }
        };
    put("labels", WORKLOAD_UID, &owner.uid)?;
    put("labels", UNIT, &owner.unit)?;
    put("annotations", WORKLOAD, &owner.workload())
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_api::PatchTarget;

    fn owner() -> Owner {
        Owner {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u1".into(),
            unit: "east-1".into(),
        }
    }

    fn spec(manifests: Value) -> UnitWorkloadSpec {
        serde_json::from_value(json!({"units": ["east-1"], "manifests": manifests})).unwrap()
    }

    fn config(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
    }

    fn patch(unit: &str, name: &str, merge: Value) -> UnitPatch {
        UnitPatch {
            unit: unit.into(),
            target: PatchTarget {
                kind: "ConfigMap".into(),
                name: name.into(),
            },
            merge,
        }
    }

    #[test]
    fn what_is_no_object_is_named_with_its_place() {
        for (manifest, want) in [
            (json!({}), "apiVersion is missing"),
            (
                json!({"apiVersion": "v1", "metadata": {"name": "a"}}),
                "kind is missing",
            ),
            (
                json!({"apiVersion": "v1", "kind": "ConfigMap"}),
                "metadata.name is missing",
            ),
            (
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a"}}),
                "metadata.name",
            ),
            (
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}),
                "leave it out",
            ),
            (
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"name": "a"}, "items": []}),
                "each of its items",
            ),
            (
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": 3}}),
                "metadata.labels",
            ),
            (config("ok"), "appears twice"),
        ] {
            let error = render(&spec(json!([config("ok"), manifest])), &owner()).unwrap_err();
            assert_eq!(error.field, "spec.manifests[1]");
            assert!(error.problem.contains(want), "{error}");
        }
    }

    #[test]
    fn a_patch_changes_its_unit_alone() {
        let mut spec = spec(json!([config("a")]));
        spec.patches = vec![
            patch("east-1", "a", json!({"data": {"a": "2"}})),
            patch("north-1", "a", json!({"data": {"a": "3"}})),
        ];
        assert_eq!(render(&spec, &owner()).unwrap()[0].value()["data"], json!({"a": "2"}));
        for (bad, want) in [
            (patch("east-1", "b", json!({})), "none of the manifests"),
            (
                patch("east-1", "a", json!({"metadata": {"name": "x"}})),
                "must not change",
            ),
        ] {
            spec.patches = vec![bad];
            let error = render(&spec, &owner()).unwrap_err();
            assert!(error.problem.contains(want), "{error}");
        }
        spec.patches = vec![patch("north-1", "b", json!({}))];
        assert!(
            render(&spec, &owner()).is_ok(),
            "another unit's patch is that unit's matter"
        );
    }

    #[test]
    fn objects_carry_our_marks_and_nothing_that_only_a_server_writes() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "uid": "x", "namespace": "shop"},
            "stringData": {"a": "b"}, "status": {}, "type": null});
        let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}});
        let objects = render(&spec(json!([workload, secret, role])), &owner()).unwrap();
        let kinds: Vec<&str> = objects.iter().map(|object| object.id.kind.as_str()).collect();
        assert_eq!(kinds, ["Role", "Secret", "Deployment"]);
        assert_eq!(
            objects[1].value(),
            json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "Yg=="}, "metadata": {"name": "s",
                "labels": {WORKLOAD_UID: "u1", UNIT: "east-1"}, "annotations": {WORKLOAD: "shop/web"}}})
        );
        let sealed = objects[1].sealed();
        assert_eq!(sealed["metadata"]["annotations"][HASH], json!(objects[1].hash()));
    }
}
