//! A client without an operator. Its objects are of kinds of its own with the same schemas, so that the API server has
//! the same work with them and nobody else looks at them.

use crate::{AT_ONCE, RANGES, Scene};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use multiactive_api::{RoutingTableSpec, ShardRange, ShardRangeStatus};
use multiactive_e2e::kube_ext::wait_for;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const GROUP: &str = "bare.example";
const NAMESPACE: &str = "bare";
/// The only one that the schema takes.
const NAME: &str = "routing";
const LIMIT: Duration = Duration::from_secs(60);

/// A kind of ours, with the schema of the real one.
fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind))
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &resource(kind))
}

/// Defines the kinds in every cluster, and makes the namespace.
pub async fn define(scene: &Scene) -> Result<()> {
    let all = multiactive_api::crd::all()?;
    for client in &scene.clients {
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &namespace).await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for kind in ["ShardRange", "RoutingTable"] {
            let found = all.iter().find(|crd| crd.spec.names.kind == kind);
            let mut crd = found.context("no such kind")?.clone();
            let name = format!("{}.{GROUP}", crd.spec.names.plural);
            crd.metadata.name = Some(name.clone());
            GROUP.clone_into(&mut crd.spec.group);
            (crd.spec.names.short_names, crd.spec.names.categories) = (None, None);
            definitions.create(&PostParams::default(), &crd).await?;
            wait_for(&definitions, &name, LIMIT, |crd| {
                let conditions = crd.status.as_ref()?.conditions.as_ref()?;
                let mut established = conditions
                    .iter()
                    .filter(|c| c.type_ == "Established" && c.status == "True");
                established.next().map(drop)
            })
            .await?;
        }
    }
    Ok(())
}

/// Creates an object for each range in the hub and writes the status of each, as the operator does; how long that took
/// together. The objects are deleted again.
pub async fn ranges(scene: &Scene, ranges: &[ShardRange], status: &ShardRangeStatus) -> Result<Duration> {
    let api = &api(scene.hub()?, "ShardRange");
    let (create, apply) = (&PostParams::default(), &PatchParams::apply("bare").force());
    let one = |range: &ShardRange| {
        let (name, spec) = (range.metadata.name.clone().unwrap_or_default(), range.spec.clone());
        async move {
            let object = DynamicObject::new(&name, &resource("ShardRange")).data(json!({"spec": spec}));
            let made = api.create(create, &object).await?;
            let body = json!({
                "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "ShardRange",
                "metadata": {"name": name, "resourceVersion": made.metadata.resource_version},
                "status": status,
            });
            api.patch_status(&name, apply, &Patch::Apply(&body)).await.map(drop)
        }
    };
    let began = Instant::now();
    let writes = futures::stream::iter(ranges.iter().map(one)).buffer_unordered(AT_ONCE);
    let written: usize = writes.try_fold(0, async |sum, ()| Ok(sum + 1)).await?;
    let took = began.elapsed();
    anyhow::ensure!(written == RANGES, "{written} objects");
    api.delete_collection(&DeleteParams::default(), &Default::default())
        .await?;
    Ok(took)
}

/// The same table in every cluster, kept by a client without an operator, and a watch of each.
pub struct Copies {
    /// Of each cluster, the hub's first: its object, newest.
    held: Vec<(Api<DynamicObject>, DynamicObject)>,
    seen: Vec<watch::Receiver<Option<u64>>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Copies {
    /// Creates the copies.
    pub async fn create(scene: &Scene, spec: &RoutingTableSpec) -> Result<Self> {
        let (mut held, mut seen, mut tasks) = (Vec::new(), Vec::new(), tokio::task::JoinSet::new());
        for client in &scene.clients {
            let api = api(client, "RoutingTable");
            let object = DynamicObject::new(NAME, &resource("RoutingTable")).data(json!({"spec": spec}));
            let made = api.create(&PostParams::default(), &object).await?;
            let (tell, value) = watch::channel(None);
            let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
            let events = watcher(api.clone(), config).default_backoff().applied_objects();
            tasks.spawn(async move {
                let mut events = std::pin::pin!(events);
                while let Some(next) = events.next().await {
                    // A watch that breaks is begun again by the watcher.
                    let Ok(object) = next else { continue };
                    let epoch = object.data.pointer("/spec/epoch").and_then(|epoch| epoch.as_u64());
                    tell.send_replace(epoch);
                }
            });
            held.push((api, made));
            seen.push(value);
        }
        let mut copies = Self { held, seen, tasks };
        copies.everywhere(u64::try_from(spec.epoch)?).await?;
        Ok(copies)
    }

    /// Writes `spec` to the hub, then to the others at once, and waits until every watch shows it; how long that took.
    pub async fn change(&mut self, spec: &RoutingTableSpec) -> Result<Duration> {
        anyhow::ensure!(!self.tasks.is_empty(), "nobody watches");
        let spec_value = serde_json::to_value(spec)?;
        let began = Instant::now();
        let replace = async |held: &mut (Api<DynamicObject>, DynamicObject)| {
            held.1.data = json!({"spec": spec_value.clone()});
            held.1.metadata.managed_fields = None;
            held.1 = held.0.replace(NAME, &PostParams::default(), &held.1).await?;
            anyhow::Ok(())
        };
        let (hub, members) = self.held.split_first_mut().context("no cluster")?;
        replace(hub).await?;
        try_join_all(members.iter_mut().map(replace)).await?;
        self.everywhere(u64::try_from(spec.epoch)?).await?;
        Ok(began.elapsed())
    }

    async fn everywhere(&mut self, epoch: u64) -> Result<()> {
        let waits = self
            .seen
            .iter_mut()
            .map(|seen| seen.wait_for(|value| *value == Some(epoch)));
        let all = tokio::time::timeout(LIMIT, try_join_all(waits));
        all.await.context("a copy was not seen everywhere")??;
        Ok(())
    }
}
