//! A way to the hub that a test watches: each write is noted with its answer, and one that the test names is kept on its
//! way until it is let through, as a network or a frozen process may do.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use multiactive_runtime::kube_client::{Patience, from_file};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};

/// Whether the test wants to keep a commit of this table.
type Wanted = Box<dyn Fn(&Value) -> bool + Send>;

#[derive(Default)]
struct State {
    wanted: Mutex<Option<Wanted>>,
    kept: watch::Sender<Option<u16>>,
    open: Notify,
    writes: Mutex<Vec<String>>,
    looks: AtomicUsize,
}

/// The answer that a kept write has not got yet.
const WAITING: u16 = 0;

/// One way to the hub.
pub struct Gate {
    /// A kubeconfig that goes through it.
    pub kubeconfig: PathBuf,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gate {
    /// Opens a way to the hub of `kubeconfig`; its own kubeconfig goes to `dir`.
    pub async fn open(kubeconfig: &Path, dir: &Path, name: &str) -> Self {
        let hub = from_file(kubeconfig, Patience::WATCHES).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let path = dir.join(format!("{name}.kubeconfig"));
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "gate",
            "clusters": [{"name": "gate", "cluster": {"server": url}}], "users": [{"name": "gate", "user": {}}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}]});
        std::fs::write(&path, text.to_string()).unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (hub, state) = (hub.clone(), Arc::clone(&shared));
                let pass = service_fn(move |request| pass(hub.clone(), Arc::clone(&state), request));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), pass);
                tokio::spawn(connection);
            }
        });
        Self {
            kubeconfig: path,
            state,
            task,
        }
    }

    /// Keeps the next commit of a table that is `wanted`.
    pub fn keep(&self, wanted: impl Fn(&Value) -> bool + Send + 'static) {
        *self.state.wanted.lock().unwrap() = Some(Box::new(wanted));
    }

    /// Waits until the wanted commit has come and is kept.
    pub async fn kept(&self) {
        let mut kept = self.state.kept.subscribe();
        kept.wait_for(Option::is_some).await.unwrap();
    }

    /// Lets the kept commit through; what the hub answers to it.
    pub async fn let_through(&self) -> u16 {
        let mut kept = self.state.kept.subscribe();
        self.state.open.notify_one();
        let answer = kept.wait_for(|kept| kept.is_some_and(|answer| answer != WAITING)).await;
        answer.unwrap().unwrap()
    }

    /// How often the lease was read.
    pub fn looks(&self) -> usize {
        self.state.looks.load(Ordering::Relaxed)
    }

    /// Every write that went through, as `PUT /apis/… 200`; those of leases and events aside.
    pub fn writes(&self) -> Vec<String> {
        self.state.writes.lock().unwrap().clone()
    }
}

async fn pass(
    hub: Client,
    state: Arc<State>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Body>, kube::Error> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(http::header::HOST);
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let what = format!("{} {}", parts.method, parts.uri.path());
    let aside = ["/leases", "/events"].iter().any(|kind| what.contains(kind));
    if parts.method == http::Method::GET && what.contains("/leases/") {
        state.looks.fetch_add(1, Ordering::Relaxed);
    }
    let write = parts.method != http::Method::GET && !aside;
    let keep = parts.method == http::Method::PUT && what.ends_with("/routingtables/routing") && wants(&state, &body);
    if keep {
        state.kept.send_replace(Some(WAITING));
        state.open.notified().await;
    }
    let answer = hub.send(hyper::Request::from_parts(parts, Body::from(body))).await?;
    if keep {
        state.kept.send_replace(Some(answer.status().as_u16()));
    }
    if write {
        let line = format!("{what} {}", answer.status().as_u16());
        state.writes.lock().unwrap().push(line);
    }
    Ok(answer)
}

/// Whether this is the commit that the test waits for; it is kept once.
fn wants(state: &State, body: &Bytes) -> bool {
    let mut wanted = state.wanted.lock().unwrap();
    let table: Value = serde_json::from_slice(body).unwrap_or_default();
    let matches = wanted.as_ref().is_some_and(|wanted| wanted(&table["spec"]));
    if matches {
        *wanted = None;
    }
    matches
}
