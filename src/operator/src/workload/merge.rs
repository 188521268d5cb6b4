//! Merging a patch into a manifest: RFC 7386, but lists of named objects merge by their key.

use serde_json::{Map, Value};

/// The fields that name an item of a list, in the order in which they are tried.
const KEYS: [&str; 2] = ["name", "containerPort"];

/// Merges `patch` into `base`: objects field by field, `null` removes, lists whose items all carry a `name` (or else a
/// `containerPort`) merge by it, all other values and lists are replaced.
pub fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => merge_objects(base, patch),
        (Value::Array(base), Value::Array(patch)) => match list_key(base, patch) {
            Some(key) => merge_lists(base, patch, key),
            None => *base = patch.iter().map(without_nulls).collect(),
        },
        (base, patch) => *base = without_nulls(patch),
    }
}

fn merge_objects(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (field, value) in patch {
        if value.is_null() {
            base.remove(field);
        } else if let Some(old) = base.get_mut(field) {
            merge(old, value);
        } else {
            base.insert(field.clone(), without_nulls(value));
        }
    }
}

fn merge_lists(base: &mut Vec<Value>, patch: &[Value], key: &str) {
    for item in patch {
        match base.iter_mut().find(|old| old.get(key) == item.get(key)) {
            Some(old) => merge(old, item),
            None => base.push(without_nulls(item)),
        }
    }
}

/// The key by which two lists merge: every item of both has it, and there is something to merge.
fn list_key(base: &[Value], patch: &[Value]) -> Option<&'static str> {
    if base.is_empty() || patch.is_empty() {
        return None;
    }
    let all = || base.iter().chain(patch);
    KEYS.into_iter().find(|key| {
        all().all(|item| {
            item.get(key)
                .is_some_and(|value| value.is_string() || value.is_number())
        })
    })
}

/// The value without fields that are `null`: a null asks for absence, also where nothing was.
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(field, value)| (field.clone(), without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_merges_by_key_and_replaces_what_has_none() {
        for (why, base, patch, want) in [
            (
                "fields merge",
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"c": 3}}),
                json!({"a": {"b": 1, "c": 3}}),
            ),
            (
                "null removes",
                json!({"a": 1, "b": 2}),
                json!({"a": null}),
                json!({"b": 2}),
            ),
            (
                "null where nothing was",
                json!({}),
                json!({"a": {"b": null}}),
                json!({"a": {}}),
            ),
            (
                "scalars are replaced",
                json!({"a": 1}),
                json!({"a": "x"}),
                json!({"a": "x"}),
            ),
            (
                "named items merge",
                json!({"c": [{"name": "x", "image": "1"}, {"name": "y", "image": "1"}]}),
                json!({"c": [{"name": "y", "image": "2"}]}),
                json!({"c": [{"name": "x", "image": "1"}, {"name": "y", "image": "2"}]}),
            ),
            (
                "new named items are appended",
                json!({"env": [{"name": "A", "value": "1"}]}),
                json!({"env": [{"name": "B", "value": "2"}]}),
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
            ),
            (
                "ports without names merge by containerPort",
                json!({"p": [{"containerPort": 80}, {"containerPort": 81}]}),
                json!({"p": [{"containerPort": 80, "hostPort": 8080}]}),
                json!({"p": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}),
            ),
            (
                "a field of a named item is removed by null",
                json!({"env": [{"name": "A", "value": "1"}]}),
                json!({"env": [{"name": "A", "value": null, "valueFrom": {"x": 1}}]}),
                json!({"env": [{"name": "A", "valueFrom": {"x": 1}}]}),
            ),
            (
                "plain lists are replaced",
                json!({"args": ["a", "b"]}),
                json!({"args": ["c"]}),
                json!({"args": ["c"]}),
            ),
            (
                "an empty list empties",
                json!({"env": [{"name": "A"}]}),
                json!({"env": []}),
                json!({"env": []}),
            ),
            (
                "a list with an item without key is replaced",
                json!({"l": [{"name": "a"}, {"x": 1}]}),
                json!({"l": [{"name": "b"}]}),
                json!({"l": [{"name": "b"}]}),
            ),
        ] {
            let mut got = base;
            merge(&mut got, &patch);
            assert_eq!(got, want, "{why}");
        }
    }
}
