//! What a member may do in the hub: renew the leases of its own units, and nothing else. Pure.

use crate::tables::MANAGED_BY;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// One member's rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    member: String,
    namespace: String,
    leases: BTreeSet<String>,
}

/// The account of a member's agents in the hub; its Role and RoleBinding are called so, too.
pub(super) fn account_name(member: &str) -> String {
    format!("multiactive-member-{member}")
}

impl Access {
    /// The right of `member` to renew these leases in `namespace`.
    pub(super) fn new(member: &str, namespace: &str, leases: BTreeSet<String>) -> Self {
        Self {
            member: member.to_owned(),
            namespace: namespace.to_owned(),
            leases,
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(account_name(&self.member)),
            namespace: Some(self.namespace.clone()),
            labels: Some(BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())])),
            ..ObjectMeta::default()
        }
    }

    pub(super) fn account(&self) -> ServiceAccount {
        ServiceAccount {
            metadata: self.metadata(),
            ..ServiceAccount::default()
        }
    }

    /// A rule without names would be one for every lease: without units there is none.
    pub(super) fn role(&self) -> Role {
        let rule = PolicyRule {
            api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
            resources: Some(vec!["leases".to_owned()]),
            resource_names: Some(self.leases.iter().cloned().collect()),
            verbs: vec!["get".to_owned(), "update".to_owned()],
            ..PolicyRule::default()
        };
        Role {
            metadata: self.metadata(),
            rules: (!self.leases.is_empty()).then(|| vec![rule]),
        }
    }

    pub(super) fn binding(&self) -> RoleBinding {
        RoleBinding {
            metadata: self.metadata(),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "Role".to_owned(),
                name: account_name(&self.member),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: account_name(&self.member),
                namespace: Some(self.namespace.clone()),
                ..Subject::default()
            }]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_may_touch_the_leases_of_its_own_units_and_without_units_none() {
        let some = Access::new("east", "system", BTreeSet::from(["shop.east-1".to_owned()]));
        let rules = some.role().rules.unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(
            rules[0].resource_names.as_deref(),
            Some(&["shop.east-1".to_owned()][..])
        );
        assert_eq!(rules[0].verbs, ["get", "update"]);
        let none = Access::new("east", "system", BTreeSet::new());
        assert_eq!(none.role().rules, None, "no names would be all names");
    }
}
