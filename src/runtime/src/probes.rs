//! The probes' server: `/livez`, `/readyz` with the reason, `/metrics`, and what a program adds.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Further routes of a program: `None` where the request is for none of them.
pub type Extra = Arc<dyn Fn(Parts) -> BoxFuture<'static, Option<Response<Full<Bytes>>>> + Send + Sync>;

/// Whether the program can do its work, and why not. Clones share the state.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<Now>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Now {
    /// Why it is not ready.
    reason: Option<String>,
    /// What is to be said although it is ready.
    remark: Option<String>,
    /// Whether it stays so.
    ends: bool,
}

impl Readiness {
    /// Not ready, for this reason.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self(watch::Sender::new(Now {
            reason: Some(reason.into()),
            remark: None,
            ends: false,
        }))
    }

    /// From now on it is ready.
    pub fn set_ready(&self) {
        self.set(None, None, false);
    }

    /// From now on it is ready, and `/readyz` says this besides.
    pub fn set_ready_but(&self, remark: impl Into<String>) {
        self.set(None, Some(remark.into()), false);
    }

    /// From now on it is not ready, for this reason.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()), None, false);
    }

    /// The program ends: it is not ready for this reason, and nothing makes it ready again.
    pub fn end(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()), None, true);
    }

    /// Why it is not ready; `None` where it is.
    pub fn reason(&self) -> Option<String> {
        self.0.borrow().reason.clone()
    }

    /// What `/readyz` says besides while it is ready.
    pub fn remark(&self) -> Option<String> {
        self.0.borrow().remark.clone()
    }

    fn set(&self, reason: Option<String>, remark: Option<String>, ends: bool) {
        let next = Now { reason, remark, ends };
        self.0.send_if_modified(|now| {
            let changed = !now.ends && *now != next;
            if changed {
                match (&next.reason, &next.remark) {
                    (Some(reason), _) => tracing::warn!(reason, "not ready"),
                    (None, Some(remark)) => tracing::warn!(remark, "ready"),
                    (None, None) => tracing::info!("ready"),
                }
                *now = next;
            }
            changed
        });
    }
}

/// Binds `addr` and serves until `token` is cancelled.
///
/// # Errors
///
/// Where the address cannot be bound.
pub async fn serve(
    addr: SocketAddr,
    registry: Arc<Registry>,
    readiness: Readiness,
    extra: Option<Extra>,
    token: CancellationToken,
) -> std::io::Result<()> {
    serve_on(TcpListener::bind(addr).await?, registry, readiness, extra, token).await;
    Ok(())
}

/// Serves on a bound listener until `token` is cancelled.
pub async fn serve_on(
    listener: TcpListener,
    registry: Arc<Registry>,
    readiness: Readiness,
    extra: Option<Extra>,
    token: CancellationToken,
) {
    while let Some(accepted) = token.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "accepting a probe");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, readiness, extra) = (registry.clone(), readiness.clone(), extra.clone());
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (registry, readiness, extra) = (registry.clone(), readiness.clone(), extra.clone());
            async move {
                let parts = request.into_parts().0;
                Ok::<_, Infallible>(answer(parts, &registry, &readiness, extra).await)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(token.clone().run_until_cancelled_owned(served));
    }
}

async fn answer(
    parts: Parts,
    registry: &Registry,
    readiness: &Readiness,
    extra: Option<Extra>,
) -> Response<Full<Bytes>> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
    }
    match parts.uri.path() {
        "/livez" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => match readiness.reason() {
            None => {
                let remark = readiness.remark().map(|remark| format!(": {remark}"));
                text(StatusCode::OK, format!("ok{}\n", remark.unwrap_or_default()))
            }
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => metrics(registry),
        _ => {
            let added = match extra {
                Some(extra) => extra(parts).await,
                None => None,
            };
            added.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "no such page\n".into()))
        }
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut page = String::new();
    match encode(&mut page, registry) {
        Ok(()) => with_type(
            StatusCode::OK,
            page,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, body, "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
