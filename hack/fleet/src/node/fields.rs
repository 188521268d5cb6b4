//! What a pod may ask about itself: `fieldRef` in environments and downward API volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// The value of a field; `None` for a path that Kubernetes does not offer.
pub(super) fn value(pod: &Pod, path: &str) -> Option<String> {
    let spec = pod.spec.as_ref();
    let keyed = |prefix: &str| Some(path.strip_prefix(prefix)?.strip_suffix("']")?.to_owned());
    if let Some(key) = keyed("metadata.labels['") {
        return Some(pod.labels().get(&key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return Some(pod.annotations().get(&key).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => Some(pod.name_any()),
        "metadata.namespace" => pod.namespace(),
        "metadata.uid" => pod.uid(),
        "metadata.labels" => Some(listed(pod.labels())),
        "metadata.annotations" => Some(listed(pod.annotations())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => Some(service_account(pod)),
        // All pods share the machine's loopback.
        "status.hostIP" | "status.hostIPs" | "status.podIP" | "status.podIPs" => Some("127.0.0.1".to_owned()),
        _ => None,
    }
}

/// The pod's ServiceAccount.
pub(super) fn service_account(pod: &Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    named.unwrap_or_else(|| "default".to_owned())
}

/// One `key="value"` a line, as the downward API writes maps.
fn listed(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_learns_its_fields_and_nothing_else() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "x", "b/c": "d"}},
            "spec": {"containers": [], "nodeName": "east"},
        }))
        .unwrap();
        for (path, want) in [
            ("metadata.name", Some("p")),
            ("metadata.namespace", Some("n")),
            ("metadata.labels['b/c']", Some("d")),
            ("metadata.labels['none']", Some("")),
            ("metadata.labels", Some("app=\"x\"\nb/c=\"d\"\n")),
            ("spec.nodeName", Some("east")),
            ("spec.serviceAccountName", Some("default")),
            ("status.podIP", Some("127.0.0.1")),
            ("spec.containers", None),
        ] {
            assert_eq!(value(&pod, path).as_deref(), want, "{path}");
        }
    }
}
