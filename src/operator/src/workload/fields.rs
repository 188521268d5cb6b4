//! Who owns which field of an object: reading `managedFields`.
//!
//! What we applied and still own has the value that we gave it, in the server's own spelling. So a field drifted exactly
//! where we ask for it, do not own it any more, and the object has something else there.

use serde_json::{Map, Value};
use std::fmt;

/// One step of a path into an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// The item of a list that has these fields.
    Key(Map<String, Value>),
    /// The item of a set.
    Item(Value),
}

/// A path, written as the API server writes it in conflicts: `.spec.containers[name="shop"].image`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path(pub Vec<Step>);

impl Path {
    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Key(key) => {
                    let parts: Vec<String> = key.iter().map(|(field, value)| format!("{field}={value}")).collect();
                    write!(f, "[{}]", parts.join(","))?;
                }
                Step::Item(value) => write!(f, "[={value}]")?,
            }
        }
        Ok(())
    }
}

/// The fields that `manager` applied (not: updated), in the form of `fieldsV1`.
pub fn applied_by<'a>(live: &'a Value, manager: &str) -> Option<&'a Value> {
    entries(live)
        .find(|entry| text(entry, "manager") == manager && text(entry, "operation") == "Apply" && !is_sub(entry))?
        .get("fieldsV1")
}

/// The managers other than `ours` that own the field at `path` or one below it.
pub fn owners(live: &Value, path: &Path, ours: &str) -> Vec<FieldOwner> {
    let others = entries(live).filter(|entry| text(entry, "manager") != ours);
    let owning = others.filter(|entry| entry.get("fieldsV1").is_some_and(|fields| owns(fields, &path.0)));
    owning
        .map(|entry| FieldOwner {
            manager: text(entry, "manager").to_owned(),
            applied: text(entry, "operation") == "Apply",
            subresource: entry.get("subresource").and_then(Value::as_str).map(ToOwned::to_owned),
        })
        .collect()
}

/// A manager that owns a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOwner {
    /// Its name.
    pub manager: String,
    /// Whether it applied the field, and so declares it as its own; else it updated it.
    pub applied: bool,
    /// The subresource by which it wrote.
    pub subresource: Option<String>,
}

/// Where `live` is not as `desired`, though that was applied: fields that `owned` (ours in `managedFields`) does not
/// hold any more and that have another value, or none.
pub fn drift(desired: &Value, live: &Value, owned: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    walk(&Path::default(), desired, Some(live), owned, &mut found);
    found
}

fn walk(at: &Path, desired: &Value, live: Option<&Value>, owned: &Value, found: &mut Vec<Path>) {
    // An owned field without fields below: a scalar, or a map or list that is owned as a whole.
    if owned.as_object().is_none_or(Map::is_empty) {
        return;
    }
    match desired {
        Value::Object(map) => {
            for (field, value) in map {
                if at.0.is_empty() && matches!(field.as_str(), "apiVersion" | "kind") {
                    continue;
                }
                if is_identity(at, field) {
                    continue;
                }
                let here = at.with(Step::Field(field.clone()));
                let live = live.and_then(|live| live.get(field));
                compare(here, value, live, owned.get(format!("f:{field}")), found);
            }
        }
        Value::Array(list) => {
            for item in list {
                let (here, below) = item_in(at, item, owned);
                let live = live.and_then(Value::as_array).and_then(|list| find_item(list, &here));
                compare(here, item, live, below, found);
            }
        }
        // Owned with fields below, yet a scalar is asked for: the type changed, and so did the hash.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn compare(here: Path, desired: &Value, live: Option<&Value>, owned: Option<&Value>, found: &mut Vec<Path>) {
    match owned {
        Some(owned) => walk(&here, desired, live, owned, found),
        None => differ(here, desired, live, found),
    }
}

/// The fields of something of which we own nothing that are not as desired, each by itself where there are some.
fn differ(here: Path, desired: &Value, live: Option<&Value>, found: &mut Vec<Path>) {
    match (desired, live) {
        (desired, Some(live)) if covers(live, desired) => {}
        (Value::Object(map), Some(live @ Value::Object(_))) => {
            for (field, value) in map {
                differ(here.with(Step::Field(field.clone())), value, live.get(field), found);
            }
        }
        _ => found.push(here),
    }
}

/// Name and namespace say which object it is; no manager owns them.
fn is_identity(at: &Path, field: &str) -> bool {
    at.0 == [Step::Field("metadata".into())] && matches!(field, "name" | "namespace")
}

/// The step for an item of a list, and what we own of it.
fn item_in<'a>(at: &Path, item: &Value, owned: &'a Value) -> (Path, Option<&'a Value>) {
    let entries = owned.as_object().into_iter().flatten();
    for (key, below) in entries {
        if let Some(fields) = key.strip_prefix("k:").and_then(|text| serde_json::from_str(text).ok())
            && matches(item, &fields)
        {
            return (at.with(Step::Key(fields)), Some(below));
        }
        if let Some(value) = key
            .strip_prefix("v:")
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            && value == *item
        {
            return (at.with(Step::Item(value)), Some(below));
        }
    }
    (at.with(guess(item)), None)
}

/// How an item that we do not own is most likely told from the others.
fn guess(item: &Value) -> Step {
    for key in ["name", "containerPort", "port", "mountPath", "ip", "type", "key"] {
        if let Some(value) = item.get(key) {
            return Step::Key(Map::from_iter([(key.to_owned(), value.clone())]));
        }
    }
    Step::Item(item.clone())
}

fn find_item<'a>(list: &'a [Value], path: &Path) -> Option<&'a Value> {
    match path.0.last()? {
        Step::Key(fields) => list.iter().find(|item| matches(item, fields)),
        Step::Item(value) => list.iter().find(|item| *item == value),
        Step::Field(_) => None,
    }
}

/// Whether `item` has these fields; one that it does not name has the server's default.
fn matches(item: &Value, fields: &Map<String, Value>) -> bool {
    let given = fields
        .iter()
        .filter_map(|(field, value)| Some((item.get(field)?, value)));
    let mut some = false;
    for (have, want) in given {
        if have != want {
            return false;
        }
        some = true;
    }
    some
}

/// Whether `live` has everything that `desired` asks for.
fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(field, value)| live.get(field).is_some_and(|live| covers(live, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| covers(live, desired))
        }
        (live, desired) => live == desired,
    }
}

/// Whether `fields` hold `path`: exactly, or something below it, or it as part of something owned as a whole.
fn owns(fields: &Value, path: &[Step]) -> bool {
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    let Some(map) = fields.as_object() else {
        return false;
    };
    let below = match step {
        Step::Field(name) => map.get(&format!("f:{name}")),
        Step::Key(key) => map.iter().find_map(|(name, below)| {
            let fields: Map<String, Value> = serde_json::from_str(name.strip_prefix("k:")?).ok()?;
            (fields == *key || key.iter().all(|(field, value)| fields.get(field) == Some(value))).then_some(below)
        }),
        Step::Item(value) => map.iter().find_map(|(name, below)| {
            let item: Value = serde_json::from_str(name.strip_prefix("v:")?).ok()?;
            (item == *value).then_some(below)
        }),
    };
    match below {
        Some(below) if below.as_object().is_some_and(Map::is_empty) => true,
        Some(below) => owns(below, rest),
        None => false,
    }
}

fn entries(live: &Value) -> impl Iterator<Item = &Value> {
    let list = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.into_iter().flatten()
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_sub(entry: &Value) -> bool {
    !text(entry, "subresource").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(paths: &[Path]) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "labels": {"app": "shop"}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [
                {"name": "shop", "image": "a", "args": ["x"], "ports": [{"containerPort": 80}],
                 "resources": {"limits": {"cpu": "1000m"}}}]}}}})
    }

    fn owned() -> Value {
        json!({"f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"shop\"}": {
                ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                "f:resources": {"f:limits": {"f:cpu": {}}}}}}}}})
    }

    /// Removes what is at `pointer` from `owned`, as an update by another manager does.
    fn lose(owned: &mut Value, parent: &str, field: &str) {
        owned
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(field)
            .unwrap();
    }

    #[test]
    fn what_we_own_has_not_drifted_however_the_server_spells_it() {
        let mut live = deployment();
        live["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("1");
        live["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
        assert_eq!(names(&drift(&deployment(), &live, &owned())), Vec::<String>::new());
    }

    #[test]
    fn what_another_manager_changed_or_removed_has_drifted() {
        let shop = "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"shop\"}";
        for (why, parent, field, edit, want) in [
            (
                "scalar",
                "/f:spec",
                "f:replicas",
                ("/spec/replicas", json!(5)),
                ".spec.replicas",
            ),
            (
                "in a list",
                shop,
                "f:image",
                ("/spec/template/spec/containers/0/image", json!("b")),
                ".spec.template.spec.containers[name=\"shop\"].image",
            ),
            (
                "a whole list",
                shop,
                "f:args",
                ("/spec/template/spec/containers/0/args", json!(["x", "y"])),
                ".spec.template.spec.containers[name=\"shop\"].args",
            ),
            (
                "an item gone",
                "/f:spec/f:template/f:spec/f:containers",
                "k:{\"name\":\"shop\"}",
                ("/spec/template/spec/containers", json!([{"name": "other"}])),
                ".spec.template.spec.containers[name=\"shop\"]",
            ),
            (
                "a label gone",
                "/f:metadata/f:labels",
                "f:app",
                ("/metadata/labels", json!({})),
                ".metadata.labels.app",
            ),
        ] {
            let (mut live, mut owned) = (deployment(), owned());
            *live.pointer_mut(edit.0).unwrap() = edit.1;
            if field.starts_with("k:") {
                // The parent keeps a field, so that it is not read as owned whole.
                owned.pointer_mut(parent).unwrap()["k:{\"name\":\"x\"}"] = json!({});
            }
            lose(&mut owned, parent, field);
            if owned.pointer(parent) == Some(&json!({})) {
                owned.pointer_mut(parent).unwrap()["."] = json!({});
            }
            assert_eq!(names(&drift(&deployment(), &live, &owned)), [want], "{why}");
        }
    }

    #[test]
    fn a_field_that_was_changed_and_put_back_is_left() {
        let mut owned = owned();
        lose(&mut owned, "/f:spec", "f:replicas");
        assert_eq!(
            names(&drift(&deployment(), &deployment(), &owned)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_owner_is_found_by_its_entry() {
        let path = Path(vec![Step::Field("spec".into()), Step::Field("replicas".into())]);
        let fields = json!({"f:spec": {"f:replicas": {}}});
        let entry = |manager: &str, operation: &str, sub: Option<&str>| json!({"manager": manager, "operation": operation, "subresource": sub, "fieldsV1": fields});
        let live = json!({"metadata": {"managedFields": [
            entry("ours", "Apply", None), entry("flux", "Apply", None),
            entry("kube-controller-manager", "Update", Some("scale")),
            {"manager": "x", "operation": "Update", "fieldsV1": {"f:metadata": {}}}]}});
        let found = owners(&live, &path, "ours");
        assert_eq!(
            found
                .iter()
                .map(|o| (o.manager.as_str(), o.applied))
                .collect::<Vec<_>>(),
            [("flux", true), ("kube-controller-manager", false)]
        );
        assert_eq!(found[1].subresource.as_deref(), Some("scale"));
        assert_eq!(applied_by(&live, "ours"), Some(&fields));
        assert_eq!(applied_by(&live, "x"), None, "an update is not an apply");
    }
}
