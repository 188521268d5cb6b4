//! The end of a UnitWorkload: its objects are deleted first, unless the whole namespace or the whole API goes.

use super::actor::{Actor, Next};
use super::refused::REFUSED;
use super::render::Id;
use super::status::readiness;
use crate::apply::read;
use crate::conditions::Readiness;
use crate::error::Error;
use crate::status::{GIVE_UP, is_given_up};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::events::EventType;
use kube::{Api, CustomResourceExt, ResourceExt};
use multiactive_api::{UnitWorkload, UnitWorkloadStatus};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Holds a UnitWorkload until its objects in the members are gone.
pub const FINALIZER: &str = "multiactive.io/workload";

/// How many objects of a unit, and units, an event names.
const SHOWN: usize = 5;

impl Actor {
    /// Deletes what the UnitWorkload made, waits for it, and lets the UnitWorkload go.
    pub(super) async fn leave(&mut self, workload: &UnitWorkload, old: &UnitWorkloadStatus) -> Result<Next, Error> {
        if !workload.finalizers().iter().any(|known| known == FINALIZER) {
            self.forget_runners();
            return Ok(Next::Wait(None));
        }
        if self.all_goes().await? {
            tracing::info!(
                namespace = self.namespace,
                name = self.name,
                "namespace or API goes: objects in members stay"
            );
            self.forget_runners();
            return self.let_go(workload).await;
        }
        if is_given_up(workload) {
            self.tell_what_stays(workload, old);
            self.forget_runners();
            return self.let_go(workload).await;
        }
        self.stays.clear();
        for known in &old.units {
            let Some(cluster) = known.cluster.clone() else { continue };
            let place = (known.unit.clone(), cluster);
            self.assign(workload, &place, Arc::default(), Some(known.clone()));
        }
        let (news, complete) = self.gather(old);
        if complete && news.is_empty() {
            return self.let_go(workload).await;
        }
        let readiness = match readiness(&news, None, true) {
            Readiness::Stalled { reason, message } => Readiness::Stalled {
                reason,
                message: format!("waits for its objects to be deleted: {message}{}", self.way_out()),
            },
            Readiness::Ready { message, .. } => Readiness::Reconciling {
                reason: "Deleting",
                message,
            },
            Readiness::Reconciling { reason, message } => Readiness::Reconciling {
                reason,
                message: format!("waits for its objects to be deleted: {message}{}", self.way_out()),
            },
        };
        // Entries of places that are empty must be gone from the record before they are forgotten here.
        self.report_when_due(workload, old, &news, &readiness, complete).await
    }

    /// How a person lets it go all the same.
    fn way_out(&self) -> String {
        let name = &self.name;
        format!("; to let it go and leave there what may be there, annotate it {GIVE_UP}={name}")
    }

    /// An event that names what may be left of one that was given up.
    fn tell_what_stays(&self, workload: &UnitWorkload, old: &UnitWorkloadStatus) {
        let left = old.units.iter().filter_map(|unit| {
            let objects: Vec<_> = unit.objects.iter().filter(|object| object.state != REFUSED).collect();
            let names: Vec<_> = objects
                .iter()
                .take(SHOWN)
                .map(|object| Id::from(*object).to_string())
                .collect();
            let more = match objects.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let cluster = unit.cluster.as_deref().unwrap_or("?");
            (!names.is_empty()).then(|| format!("{}{more} in member {cluster}", names.join(", ")))
        });
        let left: Vec<_> = left.take(SHOWN).collect();
        if !left.is_empty() {
            let note = format!("it was given up; this may be left: {}", left.join("; "));
            self.shared.ctx.event(workload, EventType::Warning, "GivenUp", note);
        }
    }

    async fn let_go(&mut self, workload: &UnitWorkload) -> Result<Next, Error> {
        let mut finalizers = workload.finalizers().to_vec();
        finalizers.retain(|known| known != FINALIZER);
        match self.set_metadata(workload, json!({"finalizers": finalizers})).await {
            // Somebody changed it meanwhile: the next look has the newer one.
            Err(error) if error.status().is_some_and(kube::core::Status::is_conflict) => {
                Ok(Next::Wait(Some(Duration::from_millis(200))))
            }
            Err(error) if error.status().is_some_and(kube::core::Status::is_not_found) => Ok(Next::Wait(None)),
            Err(error) => Err(error),
            Ok(()) => Ok(Next::Wait(None)),
        }
    }

    /// Whether the namespace, or the definition of UnitWorkload itself, is being deleted. That is no wish of the team
    /// to have its workloads deleted everywhere.
    async fn all_goes(&self) -> Result<bool, Error> {
        let client = &self.shared.ctx.client;
        let namespace: Option<Namespace> = read(&Api::all(client.clone()), &self.namespace).await?;
        if namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            return Ok(true);
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let definition = read(&definitions, UnitWorkload::crd_name()).await?;
        Ok(definition.is_none_or(|definition| definition.metadata.deletion_timestamp.is_some()))
    }
}
