//! What the API server says when fields that we apply belong to others.

use super::marks::workload_of_manager;
use kube::core::Status;

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager.
    pub manager: String,
    /// Whether it applied the field, and so declares it as its own; else it updated it, and that is drift.
    pub applied: bool,
    /// The field, such as `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    /// What is wrong and what to do, for people.
    pub fn message(&self) -> String {
        let Self { manager, field, .. } = self;
        match workload_of_manager(manager) {
            Some(workload) => format!(
                "the object is claimed by UnitWorkload {workload} too (field {field}); remove it from one of the two"
            ),
            None => format!(
                "field {field} was applied by manager {manager:?} and is left to it; remove the field here or there"
            ),
        }
    }
}

/// The conflicts that a refused apply names; empty where it was refused for another reason.
pub fn conflicts(status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| {
            let (manager, rest) = manager(&cause.message);
            Conflict {
                manager: manager.to_owned(),
                // Only a manager that updated is written with the version and time of its update.
                applied: !rest.contains(" using "),
                field: cause.field.clone(),
            }
        })
        .collect()
}

/// The manager in `conflict with "name" …`, and what follows.
fn manager(message: &str) -> (&str, &str) {
    message
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'))
        .unwrap_or((message, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(causes: serde_json::Value) -> Status {
        serde_json::from_value(json!({"code": 409, "reason": "Conflict", "message": "Apply failed",
            "details": {"causes": causes}}))
        .unwrap()
    }

    #[test]
    fn an_update_is_drift_and_an_apply_is_a_conflict() {
        for (message, manager, applied) in [
            (r#"conflict with "kubectl-edit" using apps/v1"#, "kubectl-edit", false),
            (
                r#"conflict with "kubectl-edit" using apps/v1 at 2026-11-22T12:00:00Z"#,
                "kubectl-edit",
                false,
            ),
            (
                r#"conflict with "kube-controller-manager" with subresource "scale" using apps/v1 at 2026-11-22T12:00:00Z"#,
                "kube-controller-manager",
                false,
            ),
            (r#"conflict with "flux""#, "flux", true),
            (
                r#"conflict with "multiactive-workload-other""#,
                "multiactive-workload-other",
                true,
            ),
        ] {
            let cause = json!([{"reason": "FieldManagerConflict", "message": message, "field": ".spec.replicas"}]);
            let want = Conflict {
                manager: manager.into(),
                applied,
                field: ".spec.replicas".into(),
            };
            assert_eq!(conflicts(&status(cause)), [want], "{message}");
        }
    }

    #[test]
    fn another_refusal_has_no_conflicts() {
        assert_eq!(
            conflicts(&status(
                json!([{"reason": "FieldValueInvalid", "message": "x", "field": "spec"}])
            )),
            []
        );
        assert_eq!(conflicts(&Status::failure("no", "Conflict")), []);
    }

    #[test]
    fn a_conflict_with_another_workload_names_it() {
        let conflict = Conflict {
            manager: "multiactive-workload-first".into(),
            applied: true,
            field: ".data.a".into(),
        };
        assert!(
            conflict.message().contains("UnitWorkload first"),
            "{}",
            conflict.message()
        );
        let conflict = Conflict {
            manager: "flux".into(),
            applied: true,
            field: ".data.a".into(),
        };
        assert!(conflict.message().contains("flux") && conflict.message().contains(".data.a"));
    }
}
