//! Kubeconfigs: made, merged, turned into clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::certs::Pair;
use crate::{Error, Result};

/// A kubeconfig with one context named `name`, whose user shows a certificate.
pub fn for_certificate(name: &str, server: &str, ca: &str, user: &Pair) -> Value {
    let user = json!({
        "client-certificate-data": STANDARD.encode(&user.cert),
        "client-key-data": STANDARD.encode(&user.key),
    });
    let cluster = json!({"server": server, "certificate-authority-data": STANDARD.encode(ca)});
    one(name, cluster, user, None)
}

/// A kubeconfig for a pod: token and authority are files, which clients read again when they change.
pub fn for_files(server: &str, ca_file: &str, token_file: &str, namespace: &str) -> Value {
    let cluster = json!({"server": server, "certificate-authority": ca_file});
    one("pod", cluster, json!({"tokenFile": token_file}), Some(namespace))
}

fn one(name: &str, cluster: Value, user: Value, namespace: Option<&str>) -> Value {
    let mut context = json!({"cluster": name, "user": name});
    if let Some(namespace) = namespace {
        context["namespace"] = namespace.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    })
}

/// One kubeconfig with the contexts of all; the first one's is current.
pub fn merge(all: &[Value]) -> Value {
    let mut merged = json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []});
    for list in ["clusters", "users", "contexts"] {
        let entries = all.iter().filter_map(|one| one[list].as_array()).flatten().cloned();
        merged[list] = Value::Array(entries.collect());
    }
    merged["current-context"] = all
        .first()
        .map_or(Value::Null, |first| first["current-context"].clone());
    merged
}

/// As the text of a file.
///
/// # Errors
///
/// [`Error::Refused`] when it cannot be written as YAML.
pub fn to_yaml(kubeconfig: &Value) -> Result<String> {
    serde_yaml::to_string(kubeconfig).map_err(|error| Error::Refused(format!("writing a kubeconfig: {error}")))
}

/// A client for the current context.
///
/// # Errors
///
/// [`Error::Refused`] when the kubeconfig is not usable.
pub async fn client(kubeconfig: &Value) -> Result<Client> {
    let refused = |error: String| Error::Refused(format!("using a kubeconfig: {error}"));
    let parsed: Kubeconfig = serde_json::from_value(kubeconfig.clone()).map_err(|e| refused(e.to_string()))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(parsed, &options)
        .await
        .map_err(|e| refused(e.to_string()))?;
    Client::try_from(config).map_err(|e| refused(e.to_string()))
}
