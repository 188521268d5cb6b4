//! A pod's tokens: of its ServiceAccount, bound to the pod, renewed before they expire.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::fields;

/// The tokens that one pod holds, by audience and lifetime.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    held: BTreeMap<(String, i64), Token>,
}

#[derive(Debug)]
struct Token {
    text: String,
    renew_at: Instant,
}

/// One hour: the default of Kubernetes.
const LIFETIME: i64 = 3600;

impl Tokens {
    /// The token of a projection; a new one where there is none or its time has come.
    pub(super) async fn get(
        &mut self,
        client: &Client,
        pod: &Pod,
        wanted: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let audience = wanted.audience.clone().unwrap_or_default();
        let key = (audience.clone(), wanted.expiration_seconds.unwrap_or(LIFETIME));
        if let Some(token) = self.held.get(&key).filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.text.clone());
        }
        match request(client, pod, &audience, key.1).await {
            Ok(token) => {
                let text = token.text.clone();
                self.held.insert(key, token);
                Ok(text)
            }
            Err(why) => {
                // Renewed at 80 % of its life: there is time to try again, and the old one is still good.
                let old = self.held.get_mut(&key).ok_or(why)?;
                old.renew_at = Instant::now() + Duration::from_secs(5);
                Ok(old.text.clone())
            }
        }
    }

    /// When the first of them must be renewed.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.held.values().map(|token| token.renew_at).min()
    }
}

async fn request(client: &Client, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, String> {
    let account = fields::service_account(pod);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let audiences: Vec<&str> = if audience.is_empty() {
        Vec::new()
    } else {
        vec![audience]
    };
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {},
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()},
        },
    });
    let request: TokenRequest = serde_json::from_value(request).map_err(|error| error.to_string())?;
    let asked = Instant::now();
    let made = accounts
        .create_token_request(&account, &PostParams::default(), &request)
        .await;
    let made = made.map_err(|error| format!("token of ServiceAccount {account:?}: {error}"))?;
    let status = made.status.ok_or("the API server sent no token")?;
    let left = status.expiration_timestamp.0.as_second() - k8s_openapi::jiff::Timestamp::now().as_second();
    let life = Duration::from_secs(u64::try_from(left).unwrap_or(0));
    Ok(Token {
        text: status.token,
        renew_at: asked + life.mul_f32(0.8),
    })
}
