//! Which cluster a MemberCluster is, whatever address and credentials it has: the uid of its kube-system namespace. Pure.

use crate::status::ACCEPT_CLUSTER;
use kube::ResourceExt;
use multiactive_api::MemberCluster;

/// Why the cluster that answered is not the MemberCluster's; `None` where it is, or where it is the first one.
///
/// `told` is the uid that this process knew last; before that the status tells. A person accepts another cluster by its
/// uid, so that no second change goes unnoticed.
pub(super) fn changed(object: &MemberCluster, told: Option<&str>, answered: &str) -> Option<String> {
    let noted = object.status.as_ref().and_then(|status| status.cluster_uid.as_deref());
    let known = told.or(noted)?;
    let accepted = object.annotations().get(ACCEPT_CLUSTER);
    if known == answered || accepted.is_some_and(|uid| uid == answered) {
        return None;
    }
    let name = object.name_any();
    Some(format!(
        "another cluster answers: its kube-system has the uid {answered}, that of {name} was {known}; nothing is written \
         there. Put the kubeconfig of the old cluster back, or, if the new one shall take its place: kubectl annotate \
         --overwrite membercluster {name} {ACCEPT_CLUSTER}={answered}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn another_cluster_is_told_until_a_person_accepts_that_very_one() {
        let object = |noted: Option<&str>, accepted: Option<&str>| {
            let object: MemberCluster = serde_json::from_value(json!({
                "apiVersion": "multiactive.io/v1alpha1", "kind": "MemberCluster",
                "metadata": {"name": "north", "annotations": accepted.map(|uid| json!({ACCEPT_CLUSTER: uid}))},
                "spec": {"region": "north", "access": {"type": "InCluster"}},
                "status": {"clusterUid": noted},
            }))
            .unwrap();
            object
        };
        for (noted, told, accepted, answered, want) in [
            (None, None, None, "a", false),
            (Some("a"), None, None, "a", false),
            (Some("a"), None, None, "b", true),
            (Some("a"), None, Some("b"), "b", false),
            (Some("a"), None, Some("b"), "c", true),
            (Some("b"), Some("b"), Some("b"), "a", true),
            // The status may be of before.
            (Some("a"), Some("b"), None, "b", false),
            (None, Some("a"), None, "b", true),
        ] {
            let problem = changed(&object(noted, accepted), told, answered);
            assert_eq!(problem.is_some(), want, "{noted:?} {told:?} {accepted:?} {answered}");
            assert!(
                problem.is_none_or(|problem| problem.contains(&format!("{ACCEPT_CLUSTER}={answered}"))),
                "what to do is said"
            );
        }
    }
}
