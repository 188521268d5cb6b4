//! The three files of a TLS Secret, `ca.crt`, `tls.crt` and `tls.key`, read again when they change.
//!
//! Kubernetes replaces a mounted Secret by swapping a symlink, so a change is seen as other modification times or
//! lengths behind the same paths. A new set that cannot be read keeps the last good one in force and is logged.

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use socket2::{SockRef, TcpKeepalive};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::extensions::GeneralName;

/// How long a set of files is used before they are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A connection that one of ours opened.
pub type PeerStream = tokio_rustls::client::TlsStream<TcpStream>;

/// The files are not usable.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read.
    #[error("reading {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no PEM of the kind that it should.
    #[error("{path}: {message}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Certificate, key and authority do not fit together.
    #[error("the certificates in {dir} cannot be used: {message}")]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        message: String,
    },
}

struct Loaded {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Modification time and length of each file: what tells one set from the next.
type Marks = [Option<(SystemTime, u64)>; 3];

struct Looked {
    at: Instant,
    marks: Marks,
}

/// TLS from files that may change at any time. Clones share the state.
#[derive(Clone)]
pub struct TlsFiles {
    dir: Arc<Path>,
    loaded: Arc<ArcSwap<Loaded>>,
    looked: Arc<Mutex<Looked>>,
}

impl TlsFiles {
    /// Reads `ca.crt`, `tls.crt` and `tls.key` of `dir`.
    ///
    /// # Errors
    ///
    /// [`CertError`] where a file is missing or the three do not fit together.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CertError> {
        let dir: Arc<Path> = dir.as_ref().into();
        // The marks come first: a change between the two is then seen at the next look.
        let marks = marks(&dir);
        let loaded = load(&dir)?;
        Ok(Self {
            dir,
            loaded: Arc::new(ArcSwap::from_pointee(loaded)),
            looked: Arc::new(Mutex::new(Looked {
                at: Instant::now(),
                marks,
            })),
        })
    }

    /// For servers: demands a certificate of our authority from every client.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.current().server.clone()
    }

    /// For clients: presents our certificate and accepts servers of our authority. The expected name is the
    /// connection's [`ServerName`].
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.current().client.clone()
    }

    /// Dials `addr` and demands `expected_name` in the server's certificate, whatever the address is called.
    ///
    /// # Errors
    ///
    /// Where the address cannot be reached, or the server cannot prove the name.
    pub async fn connect(&self, addr: impl ToSocketAddrs, expected_name: &str) -> std::io::Result<PeerStream> {
        let name = ServerName::try_from(expected_name.to_owned()).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(addr).await?;
        prepare(&stream)?;
        TlsConnector::from(self.client_config()).connect(name, stream).await
    }

    /// Answers a client that dialled us; its names are [`peer_names`] of the connection.
    ///
    /// # Errors
    ///
    /// Where the client has no certificate of our authority.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
        prepare(&stream)?;
        TlsAcceptor::from(self.server_config()).accept(stream).await
    }

    /// Looks at the files now, instead of at the next use after a second.
    pub fn reload(&self) {
        self.reload_if_changed(Duration::ZERO);
    }

    fn current(&self) -> Arc<Loaded> {
        self.reload_if_changed(LOOK_AGAIN);
        self.loaded.load_full()
    }

    fn reload_if_changed(&self, older_than: Duration) {
        // The state is whole at every point, so a panic elsewhere does not spoil it.
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.at.elapsed() < older_than {
            return;
        }
        looked.at = Instant::now();
        let marks = marks(&self.dir);
        if marks == looked.marks {
            return;
        }
        looked.marks = marks;
        match load(&self.dir) {
            Ok(loaded) => {
                tracing::info!(dir = %self.dir.display(), "certificates were read again");
                self.loaded.store(Arc::new(loaded));
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(dir = %self.dir.display(), error, "new certificates cannot be used, keeping the old");
            }
        }
    }
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// The DNS names in the certificate that the other side of a connection proved; empty where it has none.
pub fn peer_names(connection: &CommonState) -> Vec<String> {
    let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) else {
        return Vec::new();
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let mut dns = Vec::new();
    for name in &names.value.general_names {
        // Every other kind of name is none of ours.
        if let GeneralName::DNSName(name) = name {
            dns.push((*name).to_owned());
        }
    }
    dns
}

/// Small messages go at once; a peer that vanished is noticed after some 20 s, not after hours.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(2);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

fn marks(dir: &Path) -> Marks {
    ["ca.crt", "tls.crt", "tls.key"].map(|name| {
        let meta = std::fs::metadata(dir.join(name)).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CertError> {
    std::fs::read(path).map_err(|source| CertError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let bad = |message: String| CertError::Pem {
        path: path.to_owned(),
        message,
    };
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("holds no certificate".into()));
    }
    Ok(found)
}

fn load(dir: &Path) -> Result<Loaded, CertError> {
    let unusable = |error: &dyn std::fmt::Display| CertError::Unusable {
        dir: dir.to_owned(),
        message: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for ca in certificates(&dir.join("ca.crt"))? {
        roots.add(ca).map_err(|e| unusable(&e))?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(&dir.join("tls.crt"))?;
    let key_path = dir.join("tls.key");
    let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?).map_err(|error| CertError::Pem {
        path: key_path.clone(),
        message: error.to_string(),
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|e| unusable(&e))?;
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|e| unusable(&e))?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable(&e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| unusable(&e))?;
    Ok(Loaded {
        server: Arc::new(server),
        client: Arc::new(client),
    })
}
