//! How a member's server is reached, whatever its engine, and how it proves who it is.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// How a member's server is reached.
#[derive(Clone)]
pub struct Access {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// That user's password.
    pub password: String,
    /// How it and the other members' servers prove who they are; without it nothing is encrypted.
    pub tls: Option<Tls>,
}

/// Never shows the password.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// By what the servers of a store's members are known: each session and each link is encrypted, and the server at its other
/// end proves by a certificate that it has the name, or the IP address, by which it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The CA certificates, as PEM.
    pub(crate) ca: String,
    /// The file that has them on each member's server, with which that server knows the ones that it receives from.
    pub(crate) ca_file: String,
}

/// A certificate tells nothing here.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls(links by {})", self.ca_file)
    }
}

/// No CA certificate was found where there must be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCa {
    /// The text has none.
    #[error("there is no certificate in it: PEM with -----BEGIN CERTIFICATE----- is expected")]
    Empty,
    /// One of them cannot be read.
    #[error("a certificate in it cannot be read: {0}")]
    Unreadable(String),
}

impl Tls {
    /// By these CA certificates, and the file that has them on each member's server.
    ///
    /// # Errors
    ///
    /// [`BadCa`] where the text is not one or more certificates.
    pub fn new(ca: &str, ca_file: &str) -> Result<Self, BadCa> {
        let tls = Self {
            ca: ca.to_owned(),
            ca_file: ca_file.to_owned(),
        };
        tls.roots().map(|_| tls)
    }

    fn roots(&self) -> Result<RootCertStore, BadCa> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            let certificate = certificate.map_err(|error| BadCa::Unreadable(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| BadCa::Unreadable(error.to_string()))?;
        }
        match roots.is_empty() {
            true => Err(BadCa::Empty),
            false => Ok(roots),
        }
    }

    /// What a session of ours needs.
    pub(crate) fn client(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(self.roots().unwrap_or_else(|_| RootCertStore::empty()))
            .with_no_client_auth()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_told() {
        let ca = multiactive_fleet::certs::Authority::new("databases").unwrap();
        let (good, key) = (ca.cert(), ca.server("db", &["db"]).unwrap().key);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, want) in [
            ("", "no certificate"),
            (&key, "no certificate"),
            (broken, "cannot be read"),
        ] {
            let told = Tls::new(text, "/ca.crt").unwrap_err().to_string();
            assert!(told.contains(want), "{told}");
        }
        assert_eq!(
            Tls::new(&format!("{good}{good}"), "/ca.crt").unwrap().ca_file,
            "/ca.crt"
        );
        let told = Tls::new(&format!("{good}{broken}"), "/ca.crt").unwrap_err().to_string();
        assert!(told.contains("cannot be read"), "{told}");
    }
}
