//! What people may decide, as data. Only what the API knows is offered: a type that it learns is offered by itself.

use clap::builder::{PossibleValue, PossibleValuesParser};
use multiactive_api::DecisionType;

/// A type of decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its name in `spec.decisions`.
    pub name: &'static str,
    /// What it does, for help and confirmation.
    pub does: &'static str,
    /// Whether it counts only before the owner changes; else it is given once the operation has ended.
    pub before_commit: bool,
    /// Whether it names a unit or a range.
    pub names_target: bool,
}

/// Every type of the design; those that the API does not know yet are not offered.
const ALL: &[Type] = &[
    Type {
        name: "Abort",
        does: "ends it before its commit: the sources keep the slots and serve them again",
        before_commit: true,
        names_target: false,
    },
    Type {
        name: "Approve",
        does: "lets it go on where it waits for a person",
        before_commit: true,
        names_target: false,
    },
    Type {
        name: "AcceptDataLoss",
        does: "accepts that acknowledged writes are lost, up to the bound in its status",
        before_commit: true,
        names_target: true,
    },
    Type {
        name: "ConfirmFenced",
        does: "states that the lost unit takes no write any more; if that is false, two units write",
        before_commit: true,
        names_target: true,
    },
    Type {
        name: "AcceptDivergence",
        does: "gives up what only the returned unit holds, so that it rejoins; for a Failover that has ended",
        before_commit: false,
        names_target: true,
    },
    Type {
        name: "OverrideRule",
        does: "lets it go on against a rule that its status names",
        before_commit: true,
        names_target: true,
    },
];

/// The types that the API knows.
pub fn offered() -> impl Iterator<Item = &'static Type> {
    ALL.iter()
        .filter(|kind| crate::text::parse_word::<DecisionType>(kind.name).is_some())
}

/// The offered type of this name, in any case.
pub fn named(name: &str) -> Option<&'static Type> {
    offered().find(|kind| kind.name.eq_ignore_ascii_case(name))
}

/// For the command line.
pub fn parser() -> PossibleValuesParser {
    PossibleValuesParser::new(offered().map(|kind| PossibleValue::new(kind.name).help(kind.does)))
}

/// For the help.
pub fn help() -> String {
    offered()
        .map(|kind| format!("  {:<17} {}\n", kind.name, kind.does))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_the_definition_knows_is_offered_and_nothing_else() {
        let crds = multiactive_api::crd::all().unwrap();
        let mut known = std::collections::BTreeSet::new();
        for crd in crds {
            let json = serde_json::to_value(&crd).unwrap();
            let types = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/decisions/items/properties/type/enum";
            let types = json
                .pointer(types)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            known.extend(types.into_iter().filter_map(|kind| kind.as_str().map(str::to_owned)));
        }
        let offered: std::collections::BTreeSet<_> = offered().map(|kind| kind.name.to_owned()).collect();
        assert_eq!(offered, known);
    }
}
