//! Clients of API servers: no hidden retries, timeouts on everything, dead connections noticed, tokens read again when
//! they change.
//!
//! kube's default client retries 429, 503 and 504 up to 15 times with pauses of minutes and waits for an answer
//! without limit. Here an unknown outcome is an outcome: the caller reads again and compares.

use crate::watch;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tower::util::{BoxService, MapRequestLayer};
use tower::{BoxError, ServiceBuilder, ServiceExt};

type GenericService = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// A connection on which nothing comes for this long is probed,
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// this often,
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// and is dead after this many probes without an answer.
const KEEPALIVE_TIMES: u32 = 3;

/// How patient a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The longest time to connect.
    pub connect: Duration,
    /// The longest silence while an answer is awaited, or while it comes.
    pub read: Duration,
}

impl Patience {
    /// For single requests: 3 s to connect, 10 s of silence.
    pub const REQUESTS: Self = Self {
        connect: Duration::from_secs(3),
        read: Duration::from_secs(10),
    };
    /// For watches: 3 s to connect, and 15 s more of silence than a watch may keep: the server ends it after
    /// [`watch::SECONDS`], so only one that is dead is silent for longer.
    pub const WATCHES: Self = Self {
        connect: Duration::from_secs(3),
        read: Duration::from_secs(watch::SECONDS as u64 + 15),
    };
}

/// A client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read.
    #[error("reading the kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// There is neither a `$KUBECONFIG` nor a ServiceAccount.
    #[error("there is no $KUBECONFIG, and no ServiceAccount of a pod")]
    InCluster(#[from] kube::config::InClusterError),
    /// Its TLS or authentication cannot be set up.
    #[error("setting up the client")]
    Build(#[source] kube::Error),
}

/// The client of the cluster that this program runs in: `$KUBECONFIG`, else the pod's ServiceAccount.
///
/// # Errors
///
/// [`ClientError`] where neither is usable.
pub async fn own_cluster(patience: Patience) -> Result<Client, ClientError> {
    match std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        Some(path) => from_file(Path::new(&path), patience).await,
        None => build(Config::incluster()?, patience, None),
    }
}

/// The address and the authorities of the cluster that this program runs in, and whether the address is that of a
/// kubeconfig: the one that pods are given means nothing elsewhere.
///
/// # Errors
///
/// [`ClientError`] where neither a `$KUBECONFIG` nor a ServiceAccount is usable.
pub async fn own_address() -> Result<(Config, bool), ClientError> {
    match std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(Path::new(&path))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok((config, true))
        }
        None => Ok((Config::incluster()?, false)),
    }
}

/// A client from a kubeconfig file; a token in it that is renewed in place is used from the next request on.
///
/// # Errors
///
/// [`ClientError`] where the file is not usable.
pub async fn from_file(path: &Path, patience: Patience) -> Result<Client, ClientError> {
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
    // A token in the file itself would never be read again by kube, so it becomes ours to send.
    let token = config.auth_info.token.take().map(|_| RenewedToken::new(path));
    build(config, patience, token)
}

/// A client from a kubeconfig at hand, such as one in a Secret.
///
/// # Errors
///
/// [`ClientError`] where it is not usable.
pub async fn from_kubeconfig(kubeconfig: Kubeconfig, patience: Patience) -> Result<Client, ClientError> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    build(config, patience, None)
}

/// A client from a config at hand.
///
/// # Errors
///
/// [`ClientError`] where it is not usable.
pub fn from_config(config: Config, patience: Patience) -> Result<Client, ClientError> {
    build(config, patience, None)
}

/// A client that sends what `header` says as its authorization, whatever the config holds.
///
/// # Errors
///
/// [`ClientError`] where the config is not usable.
pub fn authorized(
    mut config: Config,
    patience: Patience,
    header: impl Fn() -> HeaderValue + Clone + Send + Sync + 'static,
) -> Result<Client, ClientError> {
    config.auth_info = kube::config::AuthInfo::default();
    let layer = MapRequestLayer::new(move |mut request: Request<Body>| {
        request.headers_mut().insert(AUTHORIZATION, header());
        request
    });
    Ok(builder(config, patience)?.with_layer(&layer).build())
}

fn build(config: Config, patience: Patience, token: Option<RenewedToken>) -> Result<Client, ClientError> {
    let builder = builder(config, patience)?;
    Ok(match token {
        Some(token) => builder
            .with_layer(&MapRequestLayer::new(move |request| token.authorize(request)))
            .build(),
        None => builder.build(),
    })
}

fn builder(mut config: Config, patience: Patience) -> Result<ClientBuilder<GenericService>, ClientError> {
    config.default_retry = false;
    config.connect_timeout = Some(patience.connect);
    config.read_timeout = Some(patience.read);
    config.write_timeout = Some(Duration::from_secs(30));
    // Else the time that a pooled connection lay idle counts as the server's silence.
    config.reset_reader_on_write = true;
    stack(config).map_err(ClientError::Build)
}

/// As `ClientBuilder::try_from`, which is left what needs a proxy or certificates of a program; but small messages go
/// at once, and a host that is gone is noticed: kube leaves Nagle's algorithm on, with which a request that takes two
/// segments may wait 40 ms for the server's delayed acknowledgement, and keepalive off.
fn stack(config: Config) -> Result<ClientBuilder<GenericService>, kube::Error> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return ClientBuilder::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(KEEPALIVE_TIMES));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http)
        .map_response(|response: Response<hyper::body::Incoming>| {
            response.map(|body| Box::new(body.map_err(BoxError::from)) as Box<DynBody>)
        })
        .boxed();
    Ok(ClientBuilder::new(service, config.default_namespace))
}

/// The token of a kubeconfig's current user, read again when the file changes.
#[derive(Clone)]
struct RenewedToken {
    path: Arc<Path>,
    last: Arc<Mutex<LastToken>>,
}

#[derive(Default)]
struct LastToken {
    /// Modification time and length of the file that it came from.
    mark: Option<(SystemTime, u64)>,
    header: Option<HeaderValue>,
}

impl RenewedToken {
    fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            last: Arc::default(),
        }
    }

    fn authorize(&self, mut request: Request<Body>) -> Request<Body> {
        if let Some(header) = self.header() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        request
    }

    /// The newest token that could be read; a file that is being replaced keeps the last one.
    fn header(&self) -> Option<HeaderValue> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = std::fs::metadata(&self.path)
            .ok()
            .and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if mark.is_some() && mark != last.mark {
            match read_token(&self.path) {
                Some(header) => {
                    *last = LastToken {
                        mark,
                        header: Some(header),
                    }
                }
                None => tracing::warn!(path = %self.path.display(), "no token in the kubeconfig, using the last"),
            }
        }
        last.header.clone()
    }
}

fn read_token(path: &Path) -> Option<HeaderValue> {
    let kubeconfig = Kubeconfig::read_from(PathBuf::from(path)).ok()?;
    let current = kubeconfig.current_context?;
    let context = kubeconfig
        .contexts
        .into_iter()
        .find(|context| context.name == current)?;
    let user = context.context?.user?;
    let info = kubeconfig.auth_infos.into_iter().find(|info| info.name == user)?;
    // The library keeps the token in a type of another crate; its serialization gives the text.
    let user = serde_json::to_value(info.auth_info?).ok()?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", user.get("token")?.as_str()?)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
        )
    }

    #[test]
    fn a_renewed_token_is_used_and_a_broken_file_keeps_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig("one")).unwrap();
        let token = RenewedToken::new(&path);
        assert_eq!(token.header().unwrap(), "Bearer one");
        for (content, want) in [
            (kubeconfig("second"), "Bearer second"),
            ("half a fi".into(), "Bearer second"),
            (kubeconfig("the-third"), "Bearer the-third"),
        ] {
            // The pod's node replaces the file whole.
            let new = dir.path().join("new");
            std::fs::write(&new, content).unwrap();
            std::fs::rename(&new, &path).unwrap();
            assert_eq!(token.header().unwrap(), want);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token.header().unwrap(), "Bearer the-third");
    }
}
