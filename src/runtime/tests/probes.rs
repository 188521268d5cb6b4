//! The probes' server over a real socket.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use multiactive_runtime::probes::{Extra, Readiness, serve_on};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn probes_say_why_not_metrics_count_and_routes_can_be_added() {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("things", "Things", counter.clone());
    counter.inc_by(3);
    let readiness = Readiness::not_ready("no table yet");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let extra: Extra = Arc::new(|parts| {
        Box::pin(async move {
            (parts.uri.path() == "/route").then(|| http::Response::new(Full::new(Bytes::from_static(b"there"))))
        })
    });
    let server = tokio::spawn(serve_on(
        listener,
        Arc::new(registry),
        readiness.clone(),
        Some(extra),
        token.clone(),
    ));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let get = async |path: &str| {
        let answer = client
            .get(format!("http://{addr}{path}").parse().unwrap())
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(get("/livez").await.0, 200);
    assert_eq!(get("/readyz").await, (503, "no table yet\n".into()));
    readiness.set_ready_but("by an old table");
    assert_eq!(get("/readyz").await, (200, "ok: by an old table\n".into()));
    readiness.set_ready();
    assert_eq!(get("/readyz").await, (200, "ok\n".into()));
    assert!(get("/metrics").await.1.contains("things_total 3"));
    assert_eq!(get("/route").await, (200, "there".into()));
    assert_eq!(get("/other").await.0, 404);
    token.cancel();
    server.await.unwrap();
}
