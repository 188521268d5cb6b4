//! An object of a member as it is kept: as text, which is far smaller than a tree of values, for there may be thousands.

use super::marks::WORKLOAD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// An object as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its resourceVersion, comparable within one kind of one server; 0 where it has none.
    pub version: u64,
    /// The UnitWorkload (`namespace/name`) that its marks name.
    pub workload: Option<Box<str>>,
    text: Box<str>,
}

impl Kept {
    /// `object` as text.
    pub fn new(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let annotations = object.pointer("/metadata/annotations");
        let workload = annotations.and_then(|annotations| annotations.get(WORKLOAD)?.as_str());
        Self {
            version: text("/metadata/resourceVersion")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            workload: workload.map(Into::into),
            text: object.to_string().into(),
        }
    }

    /// The object, as a server gives it in a list: without apiVersion and kind where those were not said.
    pub fn value(&self) -> Value {
        // What was written here is read here.
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// An object as it comes from a watch.
#[derive(Clone, Debug)]
pub struct Seen {
    metadata: ObjectMeta,
    /// All of it.
    pub kept: Arc<Kept>,
}

impl Seen {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        Ok(Self {
            // All that a watch asks of an object.
            metadata: ObjectMeta {
                name: text("/metadata/name"),
                namespace: text("/metadata/namespace"),
                resource_version: text("/metadata/resourceVersion"),
                uid: text("/metadata/uid"),
                ..ObjectMeta::default()
            },
            kept: Arc::new(Kept::new(&object)),
        })
    }
}

impl Resource for Seen {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_is_what_came_and_its_marks_are_at_hand() {
        let object = json!({"metadata": {"name": "a", "namespace": "shop", "resourceVersion": "42",
            "annotations": {WORKLOAD: "shop/web"}, "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}]},
            "data": {"b": "1", "a": "ä\"\n"}});
        let seen: Seen = serde_json::from_value(object.clone()).unwrap();
        assert_eq!((seen.name(), seen.kept.version), ("a", 42));
        assert_eq!(seen.kept.workload.as_deref(), Some("shop/web"));
        assert_eq!(seen.kept.value(), object);
        let bare = Kept::new(&json!({"metadata": {"resourceVersion": "x"}}));
        assert_eq!((bare.version, bare.workload), (0, None));
    }
}
