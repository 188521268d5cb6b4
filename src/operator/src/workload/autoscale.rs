//! Who decides on `replicas`: where an autoscaler exists, not the manifest.

use super::fields::{Path, Step, owners};
use super::render::Desired;
use serde_json::{Value, json};

/// The target of an autoscaler: group, kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScaleTarget {
    /// The group of its apiVersion.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What a HorizontalPodAutoscaler scales; `None` for any other object.
pub fn target_of(object: &Value) -> Option<ScaleTarget> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let autoscaler = text("/kind")? == "HorizontalPodAutoscaler" && text("/apiVersion")?.starts_with("autoscaling/");
    autoscaler.then_some(())?;
    let api_version = text("/spec/scaleTargetRef/apiVersion").unwrap_or_default();
    Some(ScaleTarget {
        group: api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned(),
        kind: text("/spec/scaleTargetRef/kind")?.to_owned(),
        name: text("/spec/scaleTargetRef/name")?.to_owned(),
    })
}

/// Whether `desired` is scaled by another.
///
/// `targets` are those of the autoscalers among the manifests and in the member; `None` where the member's could not be
/// listed: then the object itself tells, as an autoscaler writes `replicas` by the subresource `scale`.
pub fn is_scaled(desired: &Desired, targets: Option<&[ScaleTarget]>, live: Option<&Value>) -> bool {
    if !desired.replicas {
        return false;
    }
    match targets {
        Some(targets) => targets.iter().any(|target| {
            target.group == desired.id.group() && target.kind == desired.id.kind && target.name == desired.id.name
        }),
        None => live.is_some_and(|live| {
            owners(live, &replicas(), "").iter().any(|owner| {
                owner.subresource.as_deref() == Some("scale") && owner.manager.starts_with("kube-controller-manager")
            })
        }),
    }
}

/// `desired` without `replicas`.
pub fn without_replicas(desired: &Desired) -> Desired {
    let mut value = desired.value();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    Desired::new(desired.id.clone(), desired.wave, &value)
}

/// What to send: an object without `replicas` keeps the live number as long as we own it, since to leave out a field
/// that we own sets it back to its default.
pub fn keep_owned_replicas(sealed: &mut Value, live: &Value, owned: Option<&Value>) {
    let ours = owned.and_then(|owned| owned.pointer("/f:spec/f:replicas")).is_some();
    if let Some(number) = live.pointer("/spec/replicas").filter(|_| ours) {
        sealed["spec"]["replicas"] = json!(number);
    }
}

fn replicas() -> Path {
    Path(vec![Step::Field("spec".into()), Step::Field("replicas".into())])
}

#[cfg(test)]
mod tests {
    use super::super::order::Wave;
    use super::super::render::Id;
    use super::*;

    fn deployment() -> Desired {
        let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 2, "paused": false}});
        let id = Id {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        };
        Desired::new(id, Wave::Rest, &value)
    }

    fn target(kind: &str, name: &str) -> ScaleTarget {
        let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name}}});
        target_of(&object).unwrap()
    }

    #[test]
    fn replicas_are_left_to_an_autoscaler_of_this_very_object() {
        let scaled_by = |manager: &str| {
            json!({"metadata": {"managedFields": [{"manager": manager, "operation": "Update",
            "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}})
        };
        let (hpa, person) = (scaled_by("kube-controller-manager"), scaled_by("kubectl"));
        for (why, targets, live, want) in [
            ("none", Some(vec![]), None, false),
            ("its own", Some(vec![target("Deployment", "web")]), None, true),
            ("another name", Some(vec![target("Deployment", "other")]), None, false),
            ("another kind", Some(vec![target("StatefulSet", "web")]), None, false),
            ("not listed, not scaled", None, None, false),
            ("not listed, scaled", None, Some(&hpa), true),
            ("not listed, scaled by a person", None, Some(&person), false),
            ("its autoscaler is gone", Some(vec![]), Some(&hpa), false),
        ] {
            assert_eq!(is_scaled(&deployment(), targets.as_deref(), live), want, "{why}");
        }
        assert_eq!(target_of(&json!({"kind": "Deployment", "apiVersion": "apps/v1"})), None);
    }

    #[test]
    fn what_we_still_own_keeps_the_live_number() {
        let left_out = without_replicas(&deployment());
        assert_eq!(left_out.value()["spec"], json!({"paused": false}));
        let live = json!({"spec": {"replicas": 7}});
        let ours = json!({"f:spec": {"f:replicas": {}}});
        let (mut kept, mut free) = (left_out.value(), left_out.value());
        keep_owned_replicas(&mut kept, &live, Some(&ours));
        assert_eq!(kept["spec"]["replicas"], 7);
        keep_owned_replicas(&mut free, &live, Some(&json!({"f:spec": {}})));
        assert_eq!(free["spec"].get("replicas"), None);
    }
}
