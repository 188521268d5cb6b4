//! What to do with each object, decided from what is wanted, what was recorded and what is there. Pure.

use super::fields::{FieldOwner, Path, applied_by, drift, owners};
use super::marks::{Marks, Owner, handed_over, marks_of};
use multiactive_api::WorkloadObject;
use serde_json::Value;

/// What is to be done with an object that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// It is as it was applied.
    Keep,
    /// It is not there.
    Create,
    /// It was never applied in this form.
    Update,
    /// Others changed fields that we applied.
    PutBack(Vec<Drifted>),
    /// It, or a field of it, belongs to another; why, and what to do.
    Conflict(String),
}

/// A field that is not as we applied it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drifted {
    /// The field.
    pub path: String,
    /// Who changed it, where `managedFields` still says so.
    pub by: Option<String>,
}

/// Whether the UnitWorkload that marked an object still is there: `(namespace/name, uid)`.
pub trait Claims {
    /// `true` also where that is not known.
    fn stands(&self, marks: &Marks) -> bool;
}

/// What to do with a wanted object. `sealed` is what would be applied and `hash` its hash; `unkept` are fields that this
/// server is known not to keep, whoever writes them.
pub fn act(
    sealed: &Value,
    hash: &str,
    live: Option<&Value>,
    owner: &Owner,
    claims: &impl Claims,
    unkept: &[String],
) -> Act {
    let Some(live) = live else {
        return Act::Create;
    };
    match marks_of(live) {
        Some(marks) if owner.wrote(&marks) => {
            if marks.hash.as_deref() == Some(hash) {
                put_back(sealed, live, owner, unkept)
            } else {
                Act::Update
            }
        }
        Some(marks) if claims.stands(&marks) => Act::Conflict(format!(
            "the object belongs to UnitWorkload {}; remove it from one of the two",
            marks.workload
        )),
        // Its UnitWorkload is gone without having been able to delete it.
        Some(_) => Act::Update,
        // Marks of ours that someone removed: managedFields remember that we applied it.
        None if applied_by(live, &owner.manager()).is_some() => put_back(sealed, live, owner, unkept),
        None if handed_over(live, owner) => Act::Update,
        None => Act::Conflict(format!(
            "it exists and was not made by multiactive{}; delete it, or hand it over with the annotation {}={}",
            makers(live),
            super::marks::ADOPT,
            owner.workload(),
        )),
    }
}

fn put_back(sealed: &Value, live: &Value, owner: &Owner, unkept: &[String]) -> Act {
    let Some(owned) = applied_by(live, &owner.manager()) else {
        return Act::Update;
    };
    let mut drifted = drift(sealed, live, owned);
    drifted.retain(|path| !unkept.contains(&path.to_string()));
    if drifted.is_empty() {
        return Act::Keep;
    }
    let owned_by = |path: &Path| owners(live, path, &owner.manager());
    let applied = |owner: &FieldOwner| owner.applied;
    let claimed = drifted
        .iter()
        .find_map(|path| Some((path, owned_by(path).into_iter().find(applied)?)));
    if let Some((path, other)) = claimed {
        let conflict = super::conflict::Conflict {
            manager: other.manager,
            applied: true,
            field: path.to_string(),
        };
        return Act::Conflict(conflict.message());
    }
    let fields = drifted.iter().map(|path| Drifted {
        path: path.to_string(),
        by: owned_by(path).into_iter().next().map(|owner| owner.manager),
    });
    Act::PutBack(fields.collect())
}

fn makers(live: &Value) -> String {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut names: Vec<&str> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("manager")?.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    format!(" (but by {})", names.join(", "))
}

/// What to do with a recorded object that is not wanted any more.
#[derive(Clone, Debug, PartialEq)]
pub enum Removal {
    /// Delete exactly this uid.
    Delete(String),
    /// It is being deleted; its end is awaited.
    Wait,
    /// It is gone, or not ours: only the record ends. The reason is for the log.
    Forget(&'static str),
}

/// Only what we recorded, by the uid that we recorded, with our marks and our fields, is ever deleted.
pub fn removal(recorded: &WorkloadObject, live: Option<&Value>, owner: &Owner) -> Removal {
    let Some(live) = live else {
        return Removal::Forget("it is gone");
    };
    let Some(uid) = live.pointer("/metadata/uid").and_then(Value::as_str) else {
        return Removal::Forget("it has no uid");
    };
    if recorded.uid.as_deref().is_some_and(|known| known != uid) {
        return Removal::Forget("another object has its name now");
    }
    match marks_of(live) {
        Some(marks) if owner.wrote(&marks) && marks.unit == owner.unit => {}
        Some(_) => return Removal::Forget("it belongs to another unit or UnitWorkload now"),
        None => return Removal::Forget("it does not carry our marks"),
    }
    // A copy of our object, marks and all, has been applied by someone else and not by us.
    if applied_by(live, &owner.manager()).is_none() {
        return Removal::Forget("it was not applied by us");
    }
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Removal::Wait;
    }
    Removal::Delete(uid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::marks::{ADOPT, HASH, UNIT, WORKLOAD, WORKLOAD_UID};
    use super::*;
    use serde_json::json;

    struct Standing(bool);
    impl Claims for Standing {
        fn stands(&self, _: &Marks) -> bool {
            self.0
        }
    }

    fn owner() -> Owner {
        Owner {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u1".into(),
            unit: "east-1".into(),
        }
    }

    fn live(workload: &str, hash: &str, data: &str, manager: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": data}, "metadata": {
            "name": "c", "uid": "live", "labels": {WORKLOAD_UID: "u1", UNIT: "east-1"},
            "annotations": {WORKLOAD: workload, HASH: hash},
            "managedFields": [
                {"manager": manager, "operation": "Apply", "fieldsV1": {"f:data": {".": {}, "f:a": {}}, "f:metadata": {
                    "f:labels": {format!("f:{WORKLOAD_UID}"): {}, format!("f:{UNIT}"): {}},
                    "f:annotations": {format!("f:{WORKLOAD}"): {}, format!("f:{HASH}"): {}}}}}]}})
    }

    /// `live` after `manager` took the field `data.a`.
    fn taken(mut live: Value, manager: &str, operation: &str) -> Value {
        let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
        entries[0]["fieldsV1"]["f:data"].as_object_mut().unwrap().remove("f:a");
        entries.push(json!({"manager": manager, "operation": operation, "fieldsV1": {"f:data": {"f:a": {}}}}));
        live["data"]["a"] = json!("theirs");
        live
    }

    const OURS: &str = "multiactive-workload-web";

    #[test]
    fn an_object_is_written_only_for_a_reason() {
        let (sealed, hash) = (live("shop/web", "h", "ours", OURS), "h");
        let mut sealed = sealed;
        for field in ["uid", "managedFields"] {
            sealed["metadata"].as_object_mut().unwrap().remove(field);
        }
        let foreign = json!({"metadata": {"managedFields": [{"manager": "helm", "operation": "Update"}]}});
        let adopted = json!({"metadata": {"annotations": {ADOPT: "shop/web"}}});
        let drifted = |by: Option<&str>| {
            Act::PutBack(vec![Drifted {
                path: ".data.a".into(),
                by: by.map(Into::into),
            }])
        };
        for (why, seen, want) in [
            ("absent", None, Act::Create),
            ("in place", Some(live("shop/web", "h", "ours", OURS)), Act::Keep),
            (
                "spelled by the server",
                Some(live("shop/web", "h", "other spelling", OURS)),
                Act::Keep,
            ),
            (
                "other manifest",
                Some(live("shop/web", "old", "ours", OURS)),
                Act::Update,
            ),
            (
                "updated",
                Some(taken(live("shop/web", "h", "ours", OURS), "kubectl", "Update")),
                drifted(Some("kubectl")),
            ),
            ("adopted by annotation", Some(adopted), Act::Update),
        ] {
            assert_eq!(
                act(&sealed, hash, seen.as_ref(), &owner(), &Standing(true), &[]),
                want,
                "{why}"
            );
        }
        for (why, seen, want) in [
            (
                "applied",
                taken(live("shop/web", "h", "ours", OURS), "flux", "Apply"),
                "\"flux\"",
            ),
            ("foreign", foreign, "helm"),
            (
                "claimed",
                live("shop/other", "h", "ours", "multiactive-workload-other"),
                "UnitWorkload shop/other",
            ),
        ] {
            match act(&sealed, hash, Some(&seen), &owner(), &Standing(true), &[]) {
                Act::Conflict(message) => assert!(message.contains(want), "{why}: {message}"),
                other @ (Act::Keep | Act::Create | Act::Update | Act::PutBack(_)) => panic!("{why}: {other:?}"),
            }
        }
        let orphan = live("shop/other", "h", "ours", "multiactive-workload-other");
        assert_eq!(
            act(&sealed, hash, Some(&orphan), &owner(), &Standing(false), &[]),
            Act::Update
        );
        let unkept = taken(live("shop/web", "h", "ours", OURS), "kubectl", "Update");
        assert_eq!(
            act(
                &sealed,
                hash,
                Some(&unkept),
                &owner(),
                &Standing(true),
                &[".data.a".into()]
            ),
            Act::Keep
        );
    }

    #[test]
    fn only_what_is_provably_ours_is_deleted() {
        let record = |uid: Option<&str>| WorkloadObject {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: "c".into(),
            uid: uid.map(Into::into),
            state: "Current".into(),
            message: None,
        };
        let ours = live("shop/web", "h", "ours", OURS);
        let delete = Removal::Delete("live".into());
        let edit = |pointer: &str, value: Value| {
            let mut object = ours.clone();
            *object.pointer_mut(pointer).unwrap() = value;
            object
        };
        let mut going = ours.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
        for (why, recorded, seen, want) in [
            ("gone", record(Some("live")), None, Removal::Forget("it is gone")),
            ("ours", record(Some("live")), Some(ours.clone()), delete.clone()),
            (
                "ours, made just before a crash",
                record(None),
                Some(ours.clone()),
                delete,
            ),
            (
                "made again by another",
                record(Some("old")),
                Some(ours.clone()),
                Removal::Forget("another object has its name now"),
            ),
            (
                "unmarked",
                record(Some("live")),
                Some(edit("/metadata/labels", json!({}))),
                Removal::Forget("it does not carry our marks"),
            ),
            (
                "another workload's",
                record(None),
                Some(live("shop/other", "h", "ours", "multiactive-workload-other")),
                Removal::Forget("it belongs to another unit or UnitWorkload now"),
            ),
            (
                "another unit's",
                record(None),
                Some(edit("/metadata/labels", json!({WORKLOAD_UID: "u1", UNIT: "east-2"}))),
                Removal::Forget("it belongs to another unit or UnitWorkload now"),
            ),
            (
                "a copy by a person",
                record(None),
                Some(live("shop/web", "h", "ours", "kubectl")),
                Removal::Forget("it was not applied by us"),
            ),
            ("on its way", record(Some("live")), Some(going), Removal::Wait),
        ] {
            assert_eq!(removal(&recorded, seen.as_ref(), &owner()), want, "{why}");
        }
    }
}
