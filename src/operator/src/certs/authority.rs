//! The authorities as they lie in the Secret `multiactive-ca`, and how they change.

use super::plan::{Authorities, CA_LIFE, CaStep, Life};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use multiactive_runtime::certs::{Ca, IssueError, validity};
use std::collections::BTreeMap;

/// The Secret's name.
pub const CA_SECRET: &str = "multiactive-ca";
/// Annotation: since when every leaf's Secret has the next authority.
const TRUSTED: &str = "multiactive.io/next-trusted-since";
/// Annotation: since when no leaf is of the previous authority any more.
const REPLACED: &str = "multiactive.io/previous-replaced-since";

/// An authority's certificate and key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

/// What the Secret holds.
#[derive(Clone, PartialEq, Eq)]
pub struct CaSecret {
    /// The one that issues.
    pub current: Pair,
    /// The one that will.
    pub next: Option<Pair>,
    /// The certificate of the one that did.
    pub previous: Option<String>,
    trusted: Option<Timestamp>,
    replaced: Option<Timestamp>,
}

impl CaSecret {
    /// What `secret` holds; `None` where the current authority is missing or damaged.
    pub fn read(secret: &Secret) -> Option<Self> {
        let since = |name: &str| secret.annotations().get(name)?.parse().ok();
        let previous = text(secret, "previous.crt").filter(|cert| validity(cert).is_ok());
        Some(Self {
            current: pair(secret, "tls.crt", "tls.key")?,
            next: pair(secret, "next.crt", "next.key"),
            previous,
            trusted: since(TRUSTED),
            replaced: since(REPLACED),
        })
    }

    /// The Secret as it is applied.
    pub fn write(&self) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(CA_SECRET.to_owned());
        let notes = [(TRUSTED, self.trusted), (REPLACED, self.replaced)];
        let notes: BTreeMap<String, String> = notes
            .into_iter()
            .filter_map(|(name, at)| Some((name.to_owned(), at?.to_string())))
            .collect();
        secret.metadata.annotations = Some(notes).filter(|notes| !notes.is_empty());
        let mut data = vec![("tls.crt", &self.current.cert), ("tls.key", &self.current.key)];
        if let Some(next) = &self.next {
            data.extend([("next.crt", &next.cert), ("next.key", &next.key)]);
        }
        data.extend(self.previous.iter().map(|cert| ("previous.crt", cert)));
        secret.data = Some(data.into_iter().map(|(name, text)| bytes(name, text)).collect());
        secret.type_ = Some("Opaque".to_owned());
        secret
    }

    /// All authorities that a leaf shall trust, PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| &next.cert);
        let all = [Some(&self.current.cert), next, self.previous.as_ref()];
        all.into_iter()
            .flatten()
            .map(|cert| format!("{}\n", cert.trim_end()))
            .collect()
    }

    /// The lives and notes, for the decision; `None` where the current one's life cannot be read.
    pub fn authorities(&self) -> Option<Authorities> {
        Some(Authorities {
            current: life(&self.current.cert)?,
            next: self
                .next
                .as_ref()
                .and_then(|next| Some((life(&next.cert)?, self.trusted))),
            previous: self
                .previous
                .as_ref()
                .and_then(|cert| Some((life(cert)?, self.replaced))),
        })
    }

    /// The authorities after `step`; `None` where it changes nothing.
    ///
    /// # Errors
    ///
    /// Where no key or certificate can be made.
    pub fn after(known: Option<&Self>, step: CaStep, now: Timestamp) -> Result<Option<Self>, IssueError> {
        let Some(known) = known.filter(|_| step != CaStep::Create) else {
            return match step {
                CaStep::Create => Ok(Some(Self {
                    current: generate(now)?,
                    next: None,
                    previous: None,
                    trusted: None,
                    replaced: None,
                })),
                CaStep::Keep
                | CaStep::AddNext
                | CaStep::NoteTrusted
                | CaStep::Promote
                | CaStep::NoteReplaced
                | CaStep::DropPrevious => Ok(None),
            };
        };
        let mut new = known.clone();
        match step {
            CaStep::Keep | CaStep::Create => return Ok(None),
            CaStep::AddNext => new.next = Some(generate(now)?),
            CaStep::NoteTrusted => new.trusted = Some(now),
            CaStep::Promote => {
                let Some(next) = new.next.take() else {
                    return Ok(None);
                };
                new.previous = Some(std::mem::replace(&mut new.current, next).cert);
                (new.trusted, new.replaced) = (None, None);
            }
            CaStep::NoteReplaced => new.replaced = Some(now),
            CaStep::DropPrevious => (new.previous, new.replaced) = (None, None),
        }
        Ok(Some(new))
    }
}

fn generate(now: Timestamp) -> Result<Pair, IssueError> {
    let life = Life::new(now, CA_LIFE, None);
    // Names that differ tell two authorities apart in a verifier's eyes.
    let ca = Ca::generate(&format!("multiactive CA {}", now.as_second()), life.from, life.until)?;
    Ok(Pair {
        cert: ca.cert_pem().to_owned(),
        key: ca.key_pem(),
    })
}

/// The life of a certificate, where it can be read.
pub fn life(cert: &str) -> Option<Life> {
    let (from, until) = validity(cert).ok()?;
    Some(Life { from, until })
}

/// A value of a Secret as text.
pub fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// A value for a Secret.
pub fn bytes(key: &str, text: &str) -> (String, ByteString) {
    (key.to_owned(), ByteString(text.as_bytes().to_vec()))
}

fn pair(secret: &Secret, cert: &str, key: &str) -> Option<Pair> {
    let pair = Pair {
        cert: text(secret, cert)?,
        key: text(secret, key)?,
    };
    let usable = Ca::from_pem(&pair.cert, &pair.key).is_ok() && super::leaf::belong_together(&pair.cert, &pair.key);
    usable.then_some(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn the_secret_is_read_back_through_a_whole_renewal() {
        let mut ca: Option<CaSecret> = None;
        let mut bundles = Vec::new();
        for (step, certificates) in [
            (CaStep::Create, 1),
            (CaStep::AddNext, 2),
            (CaStep::NoteTrusted, 2),
            (CaStep::Promote, 2),
            (CaStep::NoteReplaced, 2),
            (CaStep::DropPrevious, 1),
        ] {
            let new = CaSecret::after(ca.as_ref(), step, now()).unwrap().unwrap();
            let read = CaSecret::read(&new.write()).unwrap();
            assert!(read == new, "{step:?}");
            assert_eq!(
                new.bundle().matches("BEGIN CERTIFICATE").count(),
                certificates,
                "{step:?}"
            );
            bundles.push(new.current.cert.clone());
            ca = Some(new);
        }
        assert_eq!(
            bundles[0], bundles[2],
            "the old one issues until the new one is trusted"
        );
        assert_ne!(bundles[0], bundles[3]);
    }

    #[test]
    fn a_damaged_authority_is_none() {
        let one = CaSecret::after(None, CaStep::Create, now()).unwrap().unwrap();
        let other = CaSecret::after(None, CaStep::Create, now()).unwrap().unwrap();
        for (key, value) in [
            ("tls.crt", "no certificate"),
            ("tls.key", ""),
            ("tls.key", other.current.key.as_str()),
        ] {
            let mut secret = one.write();
            secret.data.as_mut().unwrap().extend([bytes(key, value)]);
            assert!(CaSecret::read(&secret).is_none(), "{key}");
        }
        assert!(CaSecret::after(None, CaStep::Promote, now()).unwrap().is_none());
    }
}
