//! Which units a UnitWorkload selects.

use super::render::Invalid;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use multiactive_api::{Unit, UnitWorkloadSpec};
use std::sync::Arc;

/// The selected units, and what was named and is not there.
#[derive(Debug, Default)]
pub struct Selected {
    /// The units, in the order of the spec or by name.
    pub units: Vec<Arc<Unit>>,
    /// Names in `spec.units` that no Unit has.
    pub missing: Vec<String>,
}

/// The units of `all` that `spec` selects.
///
/// # Errors
///
/// A selector that cannot be read, or none at all.
pub fn select(spec: &UnitWorkloadSpec, all: &[Arc<Unit>]) -> Result<Selected, Invalid> {
    let of = |keep: &dyn Fn(&Unit) -> bool| Selected {
        units: all.iter().filter(|unit| keep(unit)).cloned().collect(),
        missing: Vec::new(),
    };
    let invalid = |field: &str, problem: String| Invalid {
        field: field.to_owned(),
        problem,
    };
    match (&spec.units, &spec.roles, &spec.selector) {
        (Some(names), None, None) => {
            let mut selected = Selected::default();
            for name in names {
                match all.iter().find(|unit| unit.name_any() == *name) {
                    Some(_) if selected.units.iter().any(|known| known.name_any() == *name) => {}
                    Some(unit) => selected.units.push(Arc::clone(unit)),
                    None => selected.missing.push(name.clone()),
                }
            }
            Ok(selected)
        }
        (None, Some(roles), None) => Ok(of(&|unit| roles.contains(&unit.spec.role))),
        (None, None, Some(labels)) => {
            let selector = Selector::try_from(labels.clone())
                .map_err(|error| invalid("spec.selector", format!("it cannot be read: {error}")))?;
            Ok(of(&|unit| selector.matches(unit.labels())))
        }
        _ => Err(invalid(
            "spec",
            "give exactly one of units, roles and selector".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn unit(name: &str, role: &str, tier: &str) -> Arc<Unit> {
        let value = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "Unit",
            "metadata": {"name": name, "labels": {"tier": tier}},
            "spec": {"cluster": "c", "role": role, "router": "https://r:1"}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn units_are_selected_by_name_role_or_label() {
        let all = [
            unit("a", "Sharded", "x"),
            unit("b", "Sharded", "y"),
            unit("c", "Standby", "x"),
        ];
        for (selection, want, missing) in [
            (json!({"units": ["b", "a", "b"]}), vec!["b", "a"], vec![]),
            (json!({"units": ["a", "gone"]}), vec!["a"], vec!["gone"]),
            (json!({"roles": ["Sharded"]}), vec!["a", "b"], vec![]),
            (json!({"roles": ["Standby", "Sharded"]}), vec!["a", "b", "c"], vec![]),
            (
                json!({"selector": {"matchLabels": {"tier": "x"}}}),
                vec!["a", "c"],
                vec![],
            ),
            (
                json!({"selector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}}),
                vec!["b"],
                vec![],
            ),
            (json!({"selector": {"matchLabels": {"tier": "z"}}}), vec![], vec![]),
        ] {
            let mut spec = selection.clone();
            spec["manifests"] = json!([{}]);
            let selected = select(&serde_json::from_value(spec).unwrap(), &all).unwrap();
            let names: Vec<String> = selected.units.iter().map(|unit| unit.name_any()).collect();
            assert_eq!(
                (names, selected.missing),
                (
                    want.iter().map(ToString::to_string).collect(),
                    missing.iter().map(|name: &&str| (*name).to_owned()).collect()
                ),
                "{selection}"
            );
        }
        for bad in [
            json!({}),
            json!({"units": ["a"], "roles": ["Sharded"]}),
            json!({"selector": {"matchExpressions": [{"key": "tier", "operator": "Like"}]}}),
        ] {
            let mut spec = bad.clone();
            spec["manifests"] = json!([{}]);
            assert!(select(&serde_json::from_value(spec).unwrap(), &all).is_err(), "{bad}");
        }
    }
}
