//! Keys and certificates of a cluster: an authority of its own, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::files::write_private;
use crate::{Error, Result};
use std::path::Path;
use std::time::SystemTime;

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

/// The files of a database server's pair, in its folder.
pub(crate) const FILES: [&str; 2] = ["server.crt", "server.key"];

impl Pair {
    /// Writes both into a database server's folder; `own` gives a file to the server's user.
    pub(crate) fn write(&self, dir: &Path, own: impl Fn(&Path) -> Result<()>) -> Result<()> {
        for (name, text) in FILES.iter().zip([&self.cert, &self.key]) {
            let path = dir.join(name);
            write_private(&path, text)?;
            own(&path)?;
        }
        Ok(())
    }
}

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority") // never the key
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`], as for all that follow here.
    pub fn new(name: &str) -> Result<Authority> {
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = named(name)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            let cert = params.self_signed(&key)?.pem();
            Ok(Authority {
                issuer: Issuer::new(params, key),
                cert,
            })
        };
        make().map_err(doing("making an authority"))
    }

    /// Its certificate, PEM.
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// A certificate for a server that is reached by these names and addresses, usable by it as a client, too.
    ///
    /// # Errors
    ///
    /// As [`Authority::new`].
    pub fn server(&self, name: &str, reached_by: &[&str]) -> Result<Pair> {
        self.server_until(name, reached_by, None)
    }

    /// As [`Authority::server`], good only until then.
    ///
    /// # Errors
    ///
    /// As [`Authority::new`].
    pub fn server_until(&self, name: &str, reached_by: &[&str], until: Option<SystemTime>) -> Result<Pair> {
        let make = || {
            let mut params = CertificateParams::new(reached_by.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
            if let Some(until) = until {
                params.not_after = until.into();
            }
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            self.sign(params)
        };
        make().map_err(doing("making a server's certificate"))
    }

    /// A certificate for a user of the API server, in at most one group.
    ///
    /// # Errors
    ///
    /// As [`Authority::new`].
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        self.client_until(user, group, None)
    }

    /// As [`Authority::client`], good only until then.
    ///
    /// # Errors
    ///
    /// As [`Authority::new`].
    pub fn client_until(&self, user: &str, group: Option<&str>, until: Option<SystemTime>) -> Result<Pair> {
        let make = || {
            let mut params = named(user)?;
            if let Some(until) = until {
                params.not_after = until.into();
            }
            if let Some(group) = group {
                params.distinguished_name.push(DnType::OrganizationName, group);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            self.sign(params)
        };
        make().map_err(doing("making a user's certificate"))
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair, rcgen::Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair {
            cert,
            key: key.serialize_pem(),
        })
    }
}

/// The pair with which ServiceAccount tokens are signed: the public key in the place of a certificate.
///
/// # Errors
///
/// [`Error::Certificate`].
pub fn token_keys() -> Result<Pair> {
    let key = KeyPair::generate().map_err(doing("making the key of ServiceAccount tokens"))?;
    Ok(Pair {
        cert: key.public_key_pem(),
        key: key.serialize_pem(),
    })
}

fn named(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn doing(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let doing = what.to_owned();
    move |source| Error::Certificate { doing, source }
}
