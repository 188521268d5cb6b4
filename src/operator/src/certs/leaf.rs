//! The Secret of one unit's routers or one member's agent.

use super::authority::{CaSecret, bytes, life, text};
use super::plan::{LEAF_LIFE, LeafSeen, Life};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use multiactive_runtime::certs::{Ca, IssueError};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::extensions::GeneralName;

/// A Secret that shall exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The member.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The name in the certificate.
    pub name: String,
}

/// What is to be said of a leaf's Secret at `now`.
pub fn look(secret: &Secret, leaf: &Leaf, ca: &CaSecret, now: Timestamp) -> LeafSeen {
    let (cert, key) = (text(secret, "tls.crt"), text(secret, "tls.key"));
    let cert = cert.unwrap_or_default();
    let life = life(&cert);
    LeafSeen {
        whole: key.is_some_and(|key| belong_together(&cert, &key)),
        of_current: life.is_some_and(|life| issued_by(&cert, &ca.current.cert, life, now)),
        names_match: names(&cert).is_some_and(|names| names == [leaf.name.as_str()]),
        trusts: text(secret, "ca.crt").is_some_and(|trusted| trusted == ca.bundle()),
        life,
    }
}

/// A Secret with a new certificate.
///
/// # Errors
///
/// Where the authority cannot be used.
pub fn issue(leaf: &Leaf, ca: &CaSecret, now: Timestamp) -> Result<Secret, IssueError> {
    let authority = Ca::from_pem(&ca.current.cert, &ca.current.key)?;
    let life = Life::new(now, LEAF_LIFE, life(&ca.current.cert));
    let issued = authority.issue(std::slice::from_ref(&leaf.name), life.from, life.until)?;
    Ok(secret(leaf, &ca.bundle(), &issued.cert_pem, &issued.key_pem))
}

/// The Secret as it is, with the present authorities.
pub fn trust(leaf: &Leaf, ca: &CaSecret, known: &Secret) -> Option<Secret> {
    Some(secret(
        leaf,
        &ca.bundle(),
        &text(known, "tls.crt")?,
        &text(known, "tls.key")?,
    ))
}

fn secret(leaf: &Leaf, trusted: &str, cert: &str, key: &str) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(leaf.secret.clone());
    let label = ("app.kubernetes.io/managed-by".to_owned(), "multiactive".to_owned());
    secret.metadata.labels = Some(BTreeMap::from([label]));
    let data = [("ca.crt", trusted), ("tls.crt", cert), ("tls.key", key)];
    secret.data = Some(data.into_iter().map(|(name, text)| bytes(name, text)).collect());
    secret.type_ = Some("kubernetes.io/tls".to_owned());
    secret
}

/// Whether the key is that of the certificate.
pub fn belong_together(cert: &str, key: &str) -> bool {
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>();
    let (Ok(chain), Ok(key)) = (chain, PrivateKeyDer::from_pem_slice(key.as_bytes())) else {
        return false;
    };
    if chain.is_empty() {
        return false;
    }
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).is_ok()
}

/// Whether `authority` issued `cert`. A time is taken at which the certificate holds: its end is another matter.
fn issued_by(cert: &str, authority: &str, life: Life, now: Timestamp) -> bool {
    let roots = || {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.as_bytes()).ok()?)
            .ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .ok()
    };
    let (Some(verifier), Ok(cert)) = (roots(), CertificateDer::from_pem_slice(cert.as_bytes())) else {
        return false;
    };
    let last = life.until.as_second().saturating_sub(1).max(life.from.as_second());
    let at = u64::try_from(now.as_second().clamp(life.from.as_second(), last)).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    verifier.verify_client_cert(&cert, &[], at).is_ok()
}

/// The DNS names of a certificate.
fn names(cert: &str) -> Option<Vec<String>> {
    let der = CertificateDer::from_pem_slice(cert.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut dns = Vec::new();
    for name in &names.value.general_names {
        // Every other kind of name is none of ours.
        if let GeneralName::DNSName(name) = name {
            dns.push((*name).to_owned());
        }
    }
    Some(dns)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{CaStep, LeafStep, leaf_step};
    use super::*;
    use jiff::SignedDuration;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn leaf() -> Leaf {
        Leaf {
            cluster: "east".into(),
            namespace: "shop".into(),
            secret: "east-1-router-tls".into(),
            name: "east-1.shop.router.multiactive.internal".into(),
        }
    }

    fn ca() -> CaSecret {
        CaSecret::after(None, CaStep::Create, now()).unwrap().unwrap()
    }

    #[test]
    fn what_was_issued_is_kept_and_any_damage_is_seen() {
        let (ca, other) = (ca(), ca());
        let good = issue(&leaf(), &ca, now()).unwrap();
        let step = |secret: &Secret, leaf: &Leaf, ca: &CaSecret, at| leaf_step(Some(look(secret, leaf, ca, at)), at);
        assert_eq!(step(&good, &leaf(), &ca, now()), LeafStep::Keep);
        let later = |days: i64| now() + SignedDuration::from_hours(24 * days);
        assert_eq!(step(&good, &leaf(), &ca, later(59)), LeafStep::Keep);
        let due = LeafStep::Issue("two thirds of its life are over");
        assert_eq!(step(&good, &leaf(), &ca, later(61)), due);
        assert_eq!(
            step(&good, &leaf(), &ca, later(400)),
            due,
            "over is over, and not another authority's"
        );
        assert_eq!(
            step(&good, &leaf(), &other, now()),
            LeafStep::Issue("another authority issued it")
        );
        let renamed = Leaf {
            name: "north-1.shop.router.multiactive.internal".into(),
            ..leaf()
        };
        assert_eq!(step(&good, &renamed, &ca, now()), LeafStep::Issue("it has other names"));
        let foreign = issue(&leaf(), &other, now()).unwrap();
        for (key, value) in [
            ("tls.crt", "x".to_owned()),
            ("tls.key", String::new()),
            ("tls.key", text(&foreign, "tls.key").unwrap()),
        ] {
            let mut damaged = good.clone();
            damaged.data.as_mut().unwrap().extend([bytes(key, &value)]);
            assert_eq!(
                step(&damaged, &leaf(), &ca, now()),
                LeafStep::Issue("it is damaged"),
                "{key}"
            );
        }
    }

    #[test]
    fn a_new_authority_is_trusted_without_a_new_certificate() {
        let ca = ca();
        let good = issue(&leaf(), &ca, now()).unwrap();
        let renewing = CaSecret::after(Some(&ca), CaStep::AddNext, now()).unwrap().unwrap();
        assert_eq!(
            leaf_step(Some(look(&good, &leaf(), &renewing, now())), now()),
            LeafStep::Trust
        );
        let both = trust(&leaf(), &renewing, &good).unwrap();
        assert_eq!(text(&both, "tls.crt"), text(&good, "tls.crt"));
        assert_eq!(
            leaf_step(Some(look(&both, &leaf(), &renewing, now())), now()),
            LeafStep::Keep
        );
        let promoted = CaSecret::after(Some(&renewing), CaStep::Promote, now())
            .unwrap()
            .unwrap();
        let step = leaf_step(Some(look(&both, &leaf(), &promoted, now())), now());
        assert_eq!(step, LeafStep::Issue("another authority issued it"));
    }
}
