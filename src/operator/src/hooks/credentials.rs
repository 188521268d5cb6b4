//! By what a hook is known, and what it is told to know us: the Secret that a Unit names.

use crate::apply::read;
use http::HeaderValue;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;

/// The key of the token,
const TOKEN: &str = "token";
/// and that of the authorities that signed the hook's certificate, as PEM.
const CA: &str = "ca.crt";

/// What goes with a question.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// The header that carries the token.
    pub(super) bearer: Option<HeaderValue>,
    ca: Option<Vec<u8>>,
}

impl Credentials {
    /// What the Secret holds; else why it cannot be used, without anything of what is in it.
    pub(super) async fn read(client: &Client, namespace: &str, name: &str) -> Result<Self, String> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let secret = match read(&api, name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => return Err(format!("there is no Secret {namespace}/{name} for it")),
            Err(error) => {
                return Err(format!(
                    "Secret {namespace}/{name} cannot be read: {} (the chart's operator.fencingHookSecrets gives that right)",
                    error.chain()
                ));
            }
        };
        Self::of(&secret).map_err(|why| format!("Secret {namespace}/{name}: {why}"))
    }

    pub(super) fn of(secret: &Secret) -> Result<Self, String> {
        let data = secret.data.as_ref();
        let key = |key: &str| data.and_then(|data| data.get(key)).map(|value| value.0.clone());
        if key(TOKEN).is_none() && key(CA).is_none() {
            return Err(format!("it has neither {TOKEN} nor {CA}"));
        }
        let bearer = key(TOKEN).map(|token| {
            let text = String::from_utf8(token).map_err(|_| format!("{TOKEN} is no text"))?;
            let header = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
            let mut header = header.map_err(|_| format!("{TOKEN} cannot stand in a header"))?;
            header.set_sensitive(true);
            Ok::<_, String>(header)
        });
        Ok(Self {
            bearer: bearer.transpose()?,
            ca: key(CA),
        })
    }

    /// How a hook proves its name: by a certificate of these authorities, else of those that the system knows.
    pub(super) fn tls(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| format!("{CA} cannot be read: {error}"))?;
                    let added = roots.add(certificate);
                    added.map_err(|error| format!("a certificate of {CA} cannot be used: {error}"))?;
                }
                if roots.is_empty() {
                    return Err(format!("{CA} holds no certificate"));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(format!(
                        "the operator's system knows no authorities: put those of the hook into {CA} of the Secret that \
                         credentials names"
                    ));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let entries = entries.iter();
        Secret {
            data: Some(
                entries
                    .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    #[test]
    fn a_token_is_taken_without_the_end_of_its_line_and_shown_by_nobody() {
        let found = Credentials::of(&secret(&[("token", "s3cret\n")])).unwrap();
        let header = found.bearer.unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer s3cret");
        assert!(!format!("{header:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_that_cannot_be_used_says_why_and_nothing_of_what_is_in_it() {
        for (entries, want) in [
            (vec![], "neither token nor ca.crt"),
            (vec![("password", "s3cret")], "neither token nor ca.crt"),
            (vec![("token", "s3\ncret")], "cannot stand in a header"),
        ] {
            let why = Credentials::of(&secret(&entries)).err().unwrap();
            assert!(why.contains(want) && !why.contains("cret"), "{why}");
        }
        for (pem, want) in [
            ("s3cret", "holds no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nczNjcmV0\n-----END CERTIFICATE-----\n",
                "cannot be used",
            ),
        ] {
            let found = Credentials::of(&secret(&[("ca.crt", pem)])).unwrap();
            let why = found.tls().err().unwrap();
            assert!(why.contains(want) && !why.contains("s3cret"), "{why}");
        }
    }
}
