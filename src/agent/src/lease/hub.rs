//! The way to the ledger: a kubeconfig in a Secret that the hub's operator keeps fresh.

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use multiactive_api::{HUB_ACCESS_KEY, HUB_ACCESS_SECRET};
use multiactive_ledger::KubernetesLeases;
use multiactive_runtime::kube_client::{Patience, from_kubeconfig};
use multiactive_runtime::watch::{self as watches, Seen};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;

/// A renewal that is not answered soon is tried again.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    read: Duration::from_secs(3),
};

/// The way to the ledger.
#[derive(Clone)]
pub enum Hub {
    /// Not known yet, or there is none; why.
    None(String),
    /// There is one.
    Leases(Box<KubernetesLeases>),
}

impl Default for Hub {
    fn default() -> Self {
        Self::None("the way to the hub is not known yet".to_owned())
    }
}

/// Keeps the way to the ledger as the Secret in `namespace` says it. One that makes no sense does not take the place of the
/// last good one, whose token may still be valid.
pub async fn watch_hub(client: Client, namespace: String, hub: watch::Sender<Hub>) {
    let api = Api::namespaced(client, &namespace);
    let mut seen = pin!(watches::one::<Secret>(api, HUB_ACCESS_SECRET));
    let mut last: Option<Vec<u8>> = None;
    while let Some(seen) = seen.next().await {
        let secret = match seen {
            Seen::Present(secret) => secret,
            Seen::Absent => {
                tracing::warn!(
                    namespace,
                    secret = HUB_ACCESS_SECRET,
                    "there is no Secret with the way to the hub"
                );
                // Its token is good until it ends or its account is gone, whether the Secret is there or not.
                if last.is_none() {
                    hub.send_replace(Hub::None(format!(
                        "there is no Secret {namespace}/{HUB_ACCESS_SECRET}: the hub's operator writes it where it knows the \
                         hub's address (operator.hubServer) and this MemberCluster is Ready"
                    )));
                }
                continue;
            }
            Seen::Unparsable { .. } => continue,
        };
        let text = secret.data.as_ref().and_then(|data| data.get(HUB_ACCESS_KEY));
        let text = text.map(|text| text.0.clone()).unwrap_or_default();
        if last.as_ref() == Some(&text) {
            continue;
        }
        match leases(&text).await {
            Ok(leases) => {
                tracing::info!("the way to the hub is known");
                last = Some(text);
                hub.send_replace(Hub::Leases(Box::new(leases)));
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                secret = HUB_ACCESS_SECRET,
                "the way to the hub makes no sense, going on with the last"
            ),
        }
    }
}

async fn leases(text: &[u8]) -> anyhow::Result<KubernetesLeases> {
    // What a parser says may quote what it read, which is a Secret.
    let kubeconfig = std::str::from_utf8(text)
        .ok()
        .and_then(|text| Kubeconfig::from_yaml(text).ok());
    let kubeconfig = kubeconfig.context("key kubeconfig holds no kubeconfig")?;
    let client = from_kubeconfig(kubeconfig, PATIENCE).await?;
    let namespace = client.default_namespace().to_owned();
    Ok(KubernetesLeases::new(client, &namespace))
}
