//! What the keeper of a UnitWorkload writes to the hub: its finalizer, and with it what is about to be made; its status.
//! Each is written against the version that was seen, or that the write before it made.

use super::actor::Actor;
use super::leave::FINALIZER;
use crate::apply::within;
use crate::error::Error;
use crate::status::write_at;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use multiactive_api::{UnitWorkload, UnitWorkloadStatus, WorkloadUnit};
use serde_json::{Value, json};

/// The annotation that records, with the finalizer and so before anything is made, what a UnitWorkload without a status
/// is about to make: `status.units` in its own form. Once there is a status that one counts alone.
pub const INTENT: &str = "multiactive.io/intent";

/// The longest intent that goes into an annotation, in bytes; all annotations together may have 256 KiB.
const INTENT_MAX: usize = 32 * 1024;

/// What this process wrote to a UnitWorkload, or saw of it first.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its uid.
    pub uid: String,
    /// Its status.
    pub status: UnitWorkloadStatus,
    /// The resourceVersion that our last write made; `None` before the first.
    pub version: Option<String>,
    /// Whether we added our finalizer.
    pub held: bool,
}

/// What a UnitWorkload without a status was about to make.
pub fn intended(workload: &UnitWorkload) -> Vec<WorkloadUnit> {
    let text = workload.annotations().get(INTENT);
    // What somebody else wrote there is nothing of ours.
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

impl Actor {
    /// Adds our finalizer, before anything is made; whether `status.units` was recorded with it.
    pub(super) async fn hold_finalizer(
        &mut self,
        workload: &UnitWorkload,
        status: &UnitWorkloadStatus,
    ) -> Result<bool, Error> {
        let held = self.written.as_ref().is_some_and(|written| written.held);
        if held || workload.finalizers().iter().any(|known| known == FINALIZER) {
            return Ok(false);
        }
        let mut finalizers = workload.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        let mut metadata = json!({"finalizers": finalizers});
        let text = serde_json::to_string(&status.units).unwrap_or_default();
        let first = status.observed_generation.is_none() && text.len() <= INTENT_MAX;
        if first {
            metadata["annotations"] = json!({INTENT: text});
        }
        self.set_metadata(workload, metadata).await?;
        if let Some(written) = &mut self.written {
            written.held = true;
            if first {
                written.status.units.clone_from(&status.units);
            }
        }
        Ok(first)
    }

    pub(super) async fn set_metadata(&mut self, workload: &UnitWorkload, mut metadata: Value) -> Result<(), Error> {
        let api: Api<UnitWorkload> = Api::namespaced(self.shared.ctx.client.clone(), &self.namespace);
        metadata["uid"] = json!(workload.uid());
        // Lists are replaced as a whole, so they must be those that were read.
        metadata["resourceVersion"] = json!(self.version_of(workload));
        let (params, patch) = (PatchParams::default(), Patch::Merge(json!({"metadata": metadata})));
        let call = api.patch_metadata(&self.name, &params, &patch);
        let error = |source| Error::Apply {
            kind: UnitWorkload::kind(&()),
            name: self.name.clone(),
            source: Box::new(source),
        };
        let what = || format!("changing the finalizers of UnitWorkload {}", self.name);
        let answer = {
            let _permit = self.shared.permit_of_hub().await;
            within(what, call, error).await
        };
        self.wrote(answer.map(|answer| answer.metadata.resource_version))
            .map(drop)
    }

    pub(super) async fn put(&mut self, workload: &UnitWorkload, status: &UnitWorkloadStatus) -> Result<(), Error> {
        let api: Api<UnitWorkload> = Api::namespaced(self.shared.ctx.client.clone(), &self.namespace);
        let answer = {
            let _permit = self.shared.permit_of_hub().await;
            write_at(&api, workload, self.version_of(workload), status).await
        };
        if let Some(written) = self.wrote(answer.map(|answer| answer.metadata.resource_version))? {
            written.status.clone_from(status);
        }
        Ok(())
    }

    /// Notes the version that a write made. Where it failed somebody else may have changed the object: then what the watch
    /// shows counts again.
    fn wrote(&mut self, answer: Result<Option<String>, Error>) -> Result<Option<&mut Written>, Error> {
        let (version, failed) = match answer {
            Ok(version) => (version, None),
            Err(error) => (None, Some(error)),
        };
        if let Some(written) = &mut self.written {
            written.version = version;
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(self.written.as_mut()),
        }
    }

    /// The newest version that is known: the one seen, or the one that our own write made.
    fn version_of(&self, workload: &UnitWorkload) -> Option<String> {
        let number = |version: &Option<String>| version.as_deref()?.parse::<u64>().ok();
        let seen = workload.resource_version();
        let ours = self.written.as_ref().and_then(|written| written.version.clone());
        if number(&ours) > number(&seen) { ours } else { seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_as_it_was_written_and_nonsense_is_none() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "state": "InProgress"});
        let unit = json!([{"unit": "east-1", "cluster": "east", "state": "Progressing", "objects": [object]}]);
        let workload = |text: &str| {
            serde_json::from_value::<UnitWorkload>(
                json!({"metadata": {"annotations": {INTENT: text}}, "spec": {"manifests": []}}),
            )
        };
        let read = intended(&workload(&unit.to_string()).unwrap());
        assert_eq!(serde_json::to_value(&read).unwrap(), unit);
        assert!(intended(&workload("{}").unwrap()).is_empty());
    }
}
