//! A certificate authority of our own and the certificates that it gives. Time is an argument.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::Duration;

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refused.
    #[error("making or reading a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The text holds no certificate.
    #[error("the PEM text holds no certificate: {0}")]
    Pem(String),
    /// A time before 1970.
    #[error("a certificate cannot begin or end before 1970: {0}")]
    Time(Timestamp),
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PEM (PKCS #8).
    pub key_pem: String,
}

/// Keeps the key out of logs.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// A certificate authority.
pub struct Ca {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new authority with a new key.
    ///
    /// # Errors
    ///
    /// Where the times are before 1970 or no key can be made.
    pub fn generate(common_name: &str, not_before: Timestamp, not_after: Timestamp) -> Result<Self, IssueError> {
        let mut params = params(&[], common_name, not_before, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            cert_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority from what [`Ca::cert_pem`] and [`Ca::key_pem`] gave. Of several certificates the first counts.
    ///
    /// # Errors
    ///
    /// Where certificate or key cannot be read.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            issuer: Issuer::from_ca_cert_pem(cert_pem, key)?,
        })
    }

    /// The authority's certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key, PEM (PKCS #8).
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate with a new key, good for both ends of a connection, with these DNS names.
    ///
    /// # Errors
    ///
    /// Where a name is no DNS name or the times are before 1970.
    pub fn issue(&self, names: &[String], not_before: Timestamp, not_after: Timestamp) -> Result<Issued, IssueError> {
        // A common name is at most 64 characters long; the names that count are the alternative ones.
        let mut params = params(names, "multiactive", not_before, not_after)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok(Issued {
            cert_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn params(
    names: &[String],
    common_name: &str,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, IssueError> {
    // Adding to the epoch spares a dependency on the library's library of time.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at: Timestamp| {
        let seconds = u64::try_from(at.as_second()).map_err(|_| IssueError::Time(at))?;
        Ok::<_, IssueError>(epoch + Duration::from_secs(seconds))
    };
    let mut params = CertificateParams::new(names)?;
    params.not_before = since(not_before)?;
    params.not_after = since(not_after)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

/// From when until when the first certificate of a PEM text holds.
///
/// # Errors
///
/// Where the text holds no readable certificate.
pub fn validity(cert_pem: &str) -> Result<(Timestamp, Timestamp), IssueError> {
    let unreadable = |error: &dyn std::fmt::Display| IssueError::Pem(error.to_string());
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|e| unreadable(&e))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| unreadable(&e))?;
    let validity = parsed.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|e| unreadable(&e));
    Ok((at(validity.not_before)?, at(validity.not_after)?))
}
