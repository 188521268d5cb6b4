//! A client without an operator: the same objects, straight to each cluster, by server-side apply and by creation.

use crate::{AT_ONCE, Scene};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By server-side apply.
    Apply,
    /// By creation.
    Create,
}

/// An object of about 1 kB; `labels` may be empty.
pub fn object(name: &str, labels: &Value, fill: char) -> Value {
    let value: String = std::iter::repeat_n(fill, 900).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": {"value": value},
    })
}

/// Makes a namespace in every cluster.
pub async fn namespace(scene: &Scene, name: &str) -> Result<()> {
    for client in &scene.clients {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("namespace {name}"))?;
    }
    Ok(())
}

/// Writes `count` objects to every cluster; how long until all of them were answered.
pub async fn write(scene: &Scene, namespace: &str, count: usize, how: How) -> Result<Duration> {
    let began = Instant::now();
    try_join_all(scene.clients.iter().map(|client| to_one(client, namespace, count, how))).await?;
    Ok(began.elapsed())
}

async fn to_one(client: &Client, namespace: &str, count: usize, how: How) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply("bare").force();
    let one = |number: usize| {
        let (api, params) = (&api, &params);
        async move {
            let name = format!("object-{number}");
            let object = object(&name, &json!({"bench": "bare"}), 'x');
            match how {
                How::Apply => api.patch(&name, params, &Patch::Apply(&object)).await,
                How::Create => {
                    api.create(&PostParams::default(), &serde_json::from_value(object)?)
                        .await
                }
            }
            .with_context(|| format!("writing {name}"))
        }
    };
    let writes = futures::stream::iter((0..count).map(one)).buffer_unordered(AT_ONCE);
    writes.try_for_each(|_| std::future::ready(Ok(()))).await
}
