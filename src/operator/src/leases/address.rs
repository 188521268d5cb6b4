//! Where the members reach the hub, and the Secret that tells their agents. Pure.

use crate::tables::MANAGED_BY;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Config, ResourceExt};
use multiactive_api::{HUB_ACCESS_KEY, HUB_ACCESS_SECRET};
use serde_json::json;
use std::collections::BTreeMap;

/// Until when the token in the Secret is valid.
const UNTIL: &str = "multiactive.io/token-until";
/// Since when.
const SINCE: &str = "multiactive.io/token-since";
/// What the Secret was made from besides the token.
const MADE_FROM: &str = "multiactive.io/made-from";

/// Whose token it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account<'a> {
    /// The namespace of the account, which is that of the leases.
    pub(super) namespace: &'a str,
    /// The account's uid: one that was made again has another, and no token of the first is good for it.
    pub(super) uid: &'a str,
}

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
    fn made_from(&self, account: Account<'_>) -> String {
        let (server, authorities, name) = (&self.server, &self.authorities, &self.server_name);
        let Account { namespace, uid } = account;
        let all = format!("{server}\n{authorities}\n{name:?}\n{namespace}\n{uid}");
        format!("{:08x}", crc32fast::hash(all.as_bytes()))
    }

    /// The Secret for a member's agents, with a token of `account` that is valid in between.
    pub(super) fn secret(&self, token: &str, account: Account<'_>, since: Timestamp, until: Timestamp) -> Secret {
        let namespace = account.namespace;
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
        let annotations = [
            (SINCE, since.to_string()),
            (UNTIL, until.to_string()),
            (MADE_FROM, self.made_from(account)),
        ];
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

    /// Whether a Secret leads here, with a token of this account of whose time half is left: a server may give less time than
    /// was asked for.
    pub(super) fn is_fresh(&self, secret: &Secret, account: Account<'_>, now: Timestamp) -> bool {
        let annotation = |name| secret.annotations().get(name);
        let time = |name| annotation(name).and_then(|time| time.parse::<Timestamp>().ok());
        let halfway =
            |(since, until): (Timestamp, Timestamp)| until.duration_since(now) * 2 >= until.duration_since(since);
        let there = secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key(HUB_ACCESS_KEY));
        there
            && annotation(MADE_FROM) == Some(&self.made_from(account))
            && time(SINCE).zip(time(UNTIL)).is_some_and(halfway)
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

    const ACCOUNT: Account<'_> = Account {
        namespace: "system",
        uid: "1",
    };

    fn address() -> HubAddress {
        HubAddress {
            server: "https://hub.example:6443".to_owned(),
            authorities: pem(&[7; 100]),
            server_name: Some("kubernetes".to_owned()),
        }
    }

    #[tokio::test]
    async fn the_secret_is_a_kubeconfig_that_leads_to_the_hub_and_the_namespace_of_leases() {
        let (since, until) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let secret = address().secret("token", ACCOUNT, since, until);
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
        let (now, hour) = (Timestamp::UNIX_EPOCH, jiff::SignedDuration::from_hours(1));
        let secret = address().secret("token", ACCOUNT, now, now + hour * 8);
        let moved = HubAddress {
            server: "https://other.example:6443".to_owned(),
            ..address()
        };
        let mut emptied = secret.clone();
        emptied.data = None;
        let elsewhere = Account {
            namespace: "elsewhere",
            ..ACCOUNT
        };
        let again = Account { uid: "2", ..ACCOUNT };
        for (address, secret, account, at, want) in [
            (address(), &secret, ACCOUNT, now, true),
            (address(), &secret, ACCOUNT, now + hour * 4, true),
            (address(), &secret, ACCOUNT, now + hour * 5, false),
            (address(), &secret, elsewhere, now, false),
            (address(), &secret, again, now, false),
            (moved, &secret, ACCOUNT, now, false),
            (address(), &emptied, ACCOUNT, now, false),
            (address(), &Secret::default(), ACCOUNT, now, false),
        ] {
            assert_eq!(
                address.is_fresh(secret, account, at),
                want,
                "{address:?} {account:?} {at}"
            );
        }
    }
}
