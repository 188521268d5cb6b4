//! The marks that prove whose an object is, and what of it was applied.

use serde_json::{Value, json};

/// Label: the uid of the UnitWorkload. Watches select by it.
pub const WORKLOAD_UID: &str = "multiactive.io/workload-uid";
/// Label: the unit.
pub const UNIT: &str = "multiactive.io/unit";
/// Annotation: namespace and name of the UnitWorkload.
pub const WORKLOAD: &str = "multiactive.io/workload";
/// Annotation: the hash of what was applied.
pub const HASH: &str = "multiactive.io/applied-hash";
/// Annotation that the owner of an object sets to `<namespace>/<name>` of a UnitWorkload to hand the object over to it.
pub const ADOPT: &str = "multiactive.io/adopt";

/// What the name of every field manager of ours begins with.
const MANAGER_PREFIX: &str = "multiactive-workload-";
/// The longest name that the API takes for a field manager.
const MANAGER_MAX: usize = 128;

/// Whose objects these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The UnitWorkload's namespace.
    pub namespace: String,
    /// The UnitWorkload's name.
    pub name: String,
    /// The UnitWorkload's uid.
    pub uid: String,
    /// The unit.
    pub unit: String,
}

impl Owner {
    /// The UnitWorkload as `namespace/name`.
    pub fn workload(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The field manager of this UnitWorkload: one each, so that the API server itself keeps two of them from taking
    /// one object from each other.
    pub fn manager(&self) -> String {
        let name = format!("{MANAGER_PREFIX}{}", self.name);
        if name.len() <= MANAGER_MAX {
            return name;
        }
        let hash = hash(&json!(self.name));
        format!("{}-{hash}", &name[..MANAGER_MAX - hash.len() - 1])
    }

    /// Whether the marks are those of this UnitWorkload, in its present or an earlier life.
    pub fn wrote(&self, marks: &Marks) -> bool {
        marks.workload == self.workload()
    }
}

/// The UnitWorkload that a field manager stands for, if it is one of ours.
pub fn workload_of_manager(manager: &str) -> Option<&str> {
    manager.strip_prefix(MANAGER_PREFIX)
}

/// The marks of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Namespace and name of the UnitWorkload.
    pub workload: String,
    /// Its uid.
    pub uid: String,
    /// The unit.
    pub unit: String,
    /// The hash of what was applied.
    pub hash: Option<String>,
}

/// The marks of `object`; `None` where it does not carry all of them.
pub fn marks_of(object: &Value) -> Option<Marks> {
    let text = |map: &str, key: &str| Some(object.get("metadata")?.get(map)?.get(key)?.as_str()?.to_owned());
    Some(Marks {
        workload: text("annotations", WORKLOAD)?,
        uid: text("labels", WORKLOAD_UID)?,
        unit: text("labels", UNIT)?,
        hash: text("annotations", HASH),
    })
}

/// Whether `object` was handed over to `owner` by annotation.
pub fn handed_over(object: &Value, owner: &Owner) -> bool {
    let adopt = object.pointer("/metadata/annotations").and_then(|map| map.get(ADOPT));
    adopt.and_then(Value::as_str) == Some(&owner.workload())
}

/// A stable hash of a value, 32 hexadecimal digits (FNV-1a, 128 bits): it detects changes, it protects nothing.
pub fn hash(value: &Value) -> String {
    let mut state: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    feed(&mut state, value);
    format!("{state:032x}")
}

fn feed(state: &mut u128, value: &Value) {
    let mut bytes = |text: &str| {
        for byte in text.bytes() {
            *state ^= u128::from(byte);
            *state = state.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    };
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => bytes(&value.to_string()),
        Value::Array(list) => {
            bytes("[");
            for item in list {
                feed(state, item);
            }
        }
        Value::Object(map) => {
            bytes("{");
            // Whether a map keeps the order of its fields depends on a feature that any crate may turn on.
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_unstable_by_key(|(field, _)| *field);
            for (field, value) in fields {
                feed(state, &Value::String(field.clone()));
                feed(state, value);
            }
        }
    }
    for byte in *b"." {
        *state ^= u128::from(byte);
        *state = state.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            namespace: "shop".into(),
            name: name.into(),
            uid: "u".into(),
            unit: "east-1".into(),
        }
    }

    #[test]
    fn managers_differ_also_where_their_names_are_cut() {
        assert_eq!(owner("shop").manager(), "multiactive-workload-shop");
        let (a, b) = (
            owner(&format!("{}a", "x".repeat(200))),
            owner(&format!("{}b", "x".repeat(200))),
        );
        assert_eq!(a.manager().len(), MANAGER_MAX);
        assert_ne!(a.manager(), b.manager());
        assert_eq!(workload_of_manager("multiactive-workload-shop"), Some("shop"));
        assert_eq!(workload_of_manager("kubectl"), None);
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_fields() {
        let a: Value = serde_json::from_str(r#"{"a": 1, "b": [1, 2]}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b": [1, 2], "a": 1}"#).unwrap();
        assert_eq!(hash(&a), hash(&b));
        assert_ne!(hash(&a), hash(&json!({"a": 1, "b": [2, 1]})));
        assert_eq!(hash(&json!("")), hash(&json!("")), "the same in every process");
    }

    #[test]
    fn an_object_without_all_marks_is_not_ours() {
        let full = json!({"metadata": {
            "labels": {WORKLOAD_UID: "u", UNIT: "east-1"},
            "annotations": {WORKLOAD: "shop/shop", HASH: "h"},
        }});
        assert!(owner("shop").wrote(&marks_of(&full).unwrap()));
        assert!(!owner("other").wrote(&marks_of(&full).unwrap()));
        for gone in ["/metadata/labels", "/metadata/annotations"] {
            let mut object = full.clone();
            *object.pointer_mut(gone).unwrap() = json!({});
            assert_eq!(marks_of(&object), None, "{gone}");
        }
    }
}
