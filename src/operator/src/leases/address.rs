//! Where the members reach the hub, and the Secret that tells their agents. Pure.

use crate::tables::MANAGED_BY;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Config, ResourceExt};
use multiactive_api::{HUB_ACCESS_KEY, HUB_ACCESS_SECRET};
use serde_json::json;
use std::collections::BTreeMap;

/// Until when the token in the Secret is valid.
const UNTIL: &str = "multiactive.io/token-until";
/// What the Secret was made from besides the token.
const MADE_FROM: &str = "multiactive.io/made-from";

/// Where the members' agents reach the hub's API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubAddress {
    server: String,
    /// Its authorities, PEM; the system's where empty.
    authorities: String,
    /// The name in its certificate, where it is not that of the address.
    server_name: Option<String>,
}

impl HubAddress {
    /// The address `server`, with the authorities that the operator's own client trusts.
    pub fn new(server: String, config: &Config) -> Self {
        let certificates = config.root_cert.iter().flatten();
        Self {
            server,
            authorities: certificates.map(|certificate| pem(certificate)).collect(),
            server_name: config.tls_server_name.clone(),
        }
    }

    /// What changes where the Secret has to be written anew though its token is valid.
    fn made_from(&self, namespace: &str) -> String {
        let all = format!(
            "{}\n{}\n{:?}\n{namespace}",
            self.server, self.authorities, self.server_name
        );
        format!("{:08x}", crc32fast::hash(all.as_bytes()))
    }

    /// The Secret for a member's agents, whose token is valid until then.
    pub(super) fn secret(&self, token: &str, namespace: &str, until: Timestamp) -> Secret {
        let mut cluster = json!({"server": self.server});
        if !self.authorities.is_empty() {
            cluster["certificate-authority-data"] = json!(STANDARD.encode(&self.authorities));
        }
        if let Some(name) = &self.server_name {
            cluster["tls-server-name"] = json!(name);
        }
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hub", "cluster": cluster}],
            "users": [{"name": "agent", "user": {"token": token}}],
            "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "agent", "namespace": namespace}}],
            "current-context": "hub",
        });
        let annotations = [(UNTIL, until.to_string()), (MADE_FROM, self.made_from(namespace))];
        Secret {
            metadata: ObjectMeta {
                name: Some(HUB_ACCESS_SECRET.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())])),
                annotations: Some(annotations.map(|(name, value)| (name.to_owned(), value)).into()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                HUB_ACCESS_KEY.to_owned(),
                ByteString(kubeconfig.to_string().into_bytes()),
            )])),
            ..Secret::default()
        }
    }

    /// Whether a Secret leads here, with a token that is valid for at least `left`.
    pub(super) fn is_fresh(&self, secret: &Secret, namespace: &str, now: Timestamp, left: SignedDuration) -> bool {
        let annotation = |name| secret.annotations().get(name);
        let until = annotation(UNTIL).and_then(|until| until.parse::<Timestamp>().ok());
        let there = secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key(HUB_ACCESS_KEY));
        there
            && annotation(MADE_FROM) == Some(&self.made_from(namespace))
            && until.is_some_and(|until| until.duration_since(now) >= left)
    }
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        // Base64 is ASCII.
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::config::{KubeConfigOptions, Kubeconfig};

    fn address() -> HubAddress {
        HubAddress {
            server: "https://hub.example:6443".to_owned(),
            authorities: pem(&[7; 100]),
            server_name: Some("kubernetes".to_owned()),
        }
    }

    #[tokio::test]
    async fn the_secret_is_a_kubeconfig_that_leads_to_the_hub_and_the_namespace_of_leases() {
        let secret = address().secret("token", "system", Timestamp::UNIX_EPOCH);
        let text = secret.data.unwrap().remove(HUB_ACCESS_KEY).unwrap().0;
        let kubeconfig = Kubeconfig::from_yaml(std::str::from_utf8(&text).unwrap()).unwrap();
        let mut bare = kubeconfig.clone();
        // The authority is no certificate: kube would not read it.
        bare.clusters[0].cluster.as_mut().unwrap().certificate_authority_data = None;
        let config = Config::from_custom_kubeconfig(bare, &KubeConfigOptions::default())
            .await
            .unwrap();
        assert_eq!(config.cluster_url.to_string(), "https://hub.example:6443/");
        assert_eq!(config.default_namespace, "system");
        assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes"));
        let authority = kubeconfig.clusters[0]
            .cluster
            .clone()
            .unwrap()
            .certificate_authority_data
            .unwrap();
        let authority = String::from_utf8(STANDARD.decode(authority).unwrap()).unwrap();
        assert!(authority.lines().all(|line| line.len() <= 64) && authority.starts_with("-----BEGIN CERTIFICATE"));
    }

    #[test]
    fn a_secret_is_written_anew_where_its_token_ends_or_the_hub_moved() {
        let (now, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        let secret = address().secret("token", "system", now + hour * 5);
        let moved = HubAddress {
            server: "https://other.example:6443".to_owned(),
            ..address()
        };
        let mut emptied = secret.clone();
        emptied.data = None;
        for (address, secret, namespace, at, want) in [
            (address(), &secret, "system", now, true),
            (address(), &secret, "system", now + hour, true),
            (address(), &secret, "system", now + hour * 2, false),
            (address(), &secret, "elsewhere", now, false),
            (moved, &secret, "system", now, false),
            (address(), &emptied, "system", now, false),
            (address(), &Secret::default(), "system", now, false),
        ] {
            assert_eq!(
                address.is_fresh(secret, namespace, at, hour * 4),
                want,
                "{address:?} {at}"
            );
        }
    }
}
