//! From a MemberCluster's `access` to a client: what a kubeconfig may hold, and until when it is good.

use base64::Engine;
use jiff::Timestamp;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use multiactive_runtime::kube_client::{ClientError, Patience, from_config, own_cluster};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::Duration;

/// How long a connection to a member may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a kubeconfig is not used; nothing but an edit changes that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// It is no kubeconfig.
    #[error("the kubeconfig cannot be read: {0}")]
    Malformed(String),
    /// It would run a program or read a file of the operator's own machine.
    #[error(
        "user {user} of the kubeconfig has {field}, which the operator does not run or read: put a token or a client \
         certificate itself into the kubeconfig"
    )]
    Refused {
        /// The user entry.
        user: String,
        /// The field.
        field: &'static str,
    },
    /// The server's name would not be checked.
    #[error("cluster {cluster} of the kubeconfig has {field}: put certificate-authority-data into the kubeconfig")]
    Insecure {
        /// The cluster entry.
        cluster: String,
        /// The field.
        field: &'static str,
    },
}

impl AccessError {
    /// One word, for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "KubeconfigInvalid",
            Self::Refused { .. } | Self::Insecure { .. } => "KubeconfigRefused",
        }
    }
}

/// How a member is reached.
#[derive(Clone)]
pub struct Access {
    /// Its client; without retries of its own.
    pub client: Client,
    /// What the client was made from.
    pub config: Config,
    /// When the credentials end, where that can be read from them.
    pub until: Option<Timestamp>,
}

/// The access of a kubeconfig's text.
///
/// # Errors
///
/// [`AccessError`] where it must not or cannot be used.
pub async fn from_kubeconfig(text: &str) -> Result<Access, AccessError> {
    let kubeconfig = parse(text)?;
    let malformed = |error: &(dyn std::error::Error + 'static)| AccessError::Malformed(crate::error::chain(error));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| malformed(&error))?;
    let until = credentials_until(&config.auth_info);
    let (client, config) = connect(config).map_err(|error| malformed(&error))?;
    Ok(Access { client, config, until })
}

/// The access to the cluster that the operator runs in.
///
/// # Errors
///
/// [`AccessError`] where there is neither a `$KUBECONFIG` nor a ServiceAccount.
pub async fn in_cluster() -> Result<Access, AccessError> {
    let malformed = |error: &(dyn std::error::Error + 'static)| AccessError::Malformed(crate::error::chain(error));
    let config = Config::infer().await.map_err(|error| malformed(&error))?;
    let (_, config) = connect(config).map_err(|error| malformed(&error))?;
    // This client reads a renewed token again.
    let client = own_cluster(Patience::WATCHES)
        .await
        .map_err(|error| malformed(&error))?;
    Ok(Access {
        client,
        config,
        until: None,
    })
}

/// Not by kube's own client, which lets a small message wait for the acknowledgement of the one before it.
fn connect(mut config: Config) -> Result<(Client, Config), ClientError> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    let patience = Patience {
        connect: CONNECT,
        ..Patience::WATCHES
    };
    Ok((from_config(config.clone(), patience)?, config))
}

/// The kubeconfig, if all it names is inside it.
///
/// # Errors
///
/// [`AccessError`] where it is malformed, would run a program, read a file, or skip the check of the server.
pub fn parse(text: &str) -> Result<Kubeconfig, AccessError> {
    let kubeconfig =
        Kubeconfig::from_yaml(text).map_err(|error| AccessError::Malformed(crate::error::chain(&error)))?;
    if kubeconfig.current_context.is_none() {
        return Err(AccessError::Malformed("it has no current-context".to_owned()));
    }
    for named in &kubeconfig.auth_infos {
        let Some(user) = &named.auth_info else { continue };
        let fields = [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("tokenFile", user.token_file.is_some()),
            ("client-certificate (a file)", user.client_certificate.is_some()),
            ("client-key (a file)", user.client_key.is_some()),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, given)| *given) {
            let user = named.name.clone();
            return Err(AccessError::Refused { user, field });
        }
    }
    for named in &kubeconfig.clusters {
        let Some(cluster) = &named.cluster else { continue };
        let fields = [
            (
                "insecure-skip-tls-verify",
                cluster.insecure_skip_tls_verify == Some(true),
            ),
            (
                "certificate-authority (a file)",
                cluster.certificate_authority.is_some(),
            ),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, given)| *given) {
            let cluster = named.name.clone();
            return Err(AccessError::Insecure { cluster, field });
        }
    }
    Ok(kubeconfig)
}

/// The end of the client certificate, or of the token where it is a JWT that says so; the earlier one of both.
fn credentials_until(user: &AuthInfo) -> Option<Timestamp> {
    // The token's type hides it; its serialized form does not.
    let user_fields = serde_json::to_value(user).unwrap_or_default();
    let token = user_fields.get("token").and_then(|token| jwt_end(token.as_str()?));
    let certificate = user.client_certificate_data.as_deref().and_then(certificate_end);
    token.into_iter().chain(certificate).min()
}

fn jwt_end(token: &str) -> Option<Timestamp> {
    let claims = token.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

fn certificate_end(data: &str) -> Option<Timestamp> {
    let pem = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    let der = CertificateDer::from_pem_slice(&pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(user: &str, cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n\
             clusters:\n- name: k\n  cluster: {{server: \"https://127.0.0.1:1\"{cluster}}}\n\
             users:\n- name: u\n  user: {user}\n"
        )
    }

    #[test]
    fn a_kubeconfig_may_only_use_what_is_inside_it() {
        for (user, cluster, want) in [
            ("{token: t}", "", "ok"),
            (
                "{exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}",
                "",
                "KubeconfigRefused",
            ),
            ("{auth-provider: {name: gcp, config: {}}}", "", "KubeconfigRefused"),
            ("{tokenFile: /etc/passwd}", "", "KubeconfigRefused"),
            ("{client-certificate: /a, client-key: /b}", "", "KubeconfigRefused"),
            ("{token: t}", ", insecure-skip-tls-verify: true", "KubeconfigRefused"),
            ("{token: t}", ", certificate-authority: /a", "KubeconfigRefused"),
        ] {
            let got = parse(&kubeconfig(user, cluster)).map_or_else(|error| error.reason(), |_| "ok");
            assert_eq!(got, want, "{user} {cluster}");
        }
        for text in ["", "a: [", "apiVersion: v1\nkind: Config\n"] {
            assert!(matches!(parse(text), Err(AccessError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_token_is_read_where_it_says_one() {
        let token = |claims: &str| {
            let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
            format!("h.{body}.s")
        };
        for (token, want) in [
            (token(r#"{"exp":1700000000}"#), Some(1_700_000_000)),
            (token("{}"), None),
            ("opaque".to_owned(), None),
        ] {
            assert_eq!(jwt_end(&token).map(Timestamp::as_second), want, "{token}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let mut params = rcgen::CertificateParams::new(vec!["u".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let data = base64::engine::general_purpose::STANDARD.encode(pem);
        let end = certificate_end(&data).unwrap();
        assert_eq!(end, "2031-02-03T00:00:00Z".parse().unwrap());
    }
}
