//! The two listeners: clients over plain HTTP, other routers over mutual TLS. Both finish what is under way when they
//! are told to stop.
//!
//! A router that ends says so on each answer, so that no connection is used again. Idle connections of clients are
//! closed; those of other routers stay until the other side has closed them or would not use them any more: one that was
//! closed under a forwarded write would leave its outcome unknown.

use crate::peers;
use crate::proxy::{Sender, Worker};
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use multiactive_runtime::certs::{TlsFiles, peer_names, router_unit};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an idle connection is kept, and how long a request's headers may take.
const IDLE: Duration = Duration::from_secs(75);
/// How much longer than other routers use an idle connection a router that ends keeps it.
const CLOSE_AFTER: Duration = Duration::from_millis(500);
/// The longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Binds an address that several threads share: the kernel spreads connections over them.
///
/// # Errors
///
/// Where the address cannot be bound.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    socket.listen(1024)
}

/// Serves clients until `stop`; `tasks` ends when the last request is answered.
pub async fn clients(worker: Arc<Worker>, listener: TcpListener, stop: CancellationToken, tasks: TaskTracker) {
    while let Some(stream) = accept(&listener, &stop).await {
        let _ = stream.set_nodelay(true);
        let stop = stop.clone();
        tasks.spawn(connection(
            worker.clone(),
            Sender::Client,
            stream,
            stop.cancelled_owned(),
        ));
    }
}

/// Serves the other units' routers until `stop`.
pub async fn routers(
    worker: Arc<Worker>,
    tls: TlsFiles,
    listener: TcpListener,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    while let Some(stream) = accept(&listener, &stop).await {
        let (worker, tls, stop) = (worker.clone(), tls.clone(), stop.clone());
        tasks.spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
            let stream = match stop.run_until_cancelled(handshake).await {
                Some(Ok(Ok(stream))) => stream,
                Some(Ok(Err(error))) => return tracing::warn!(%error, "refusing a router"),
                Some(Err(_)) | None => return,
            };
            let names = peer_names(stream.get_ref().1);
            let namespace = worker.state.namespace.as_str();
            let unit = names
                .iter()
                .filter_map(|name| router_unit(name))
                .find(|(_, ns)| *ns == namespace);
            match unit {
                Some((unit, _)) => {
                    let close = unused_by_routers(&worker, &stop);
                    connection(worker.clone(), Sender::Router(unit.into()), stream, close).await;
                }
                None => tracing::warn!(?names, "refusing a connection: no router of this namespace"),
            }
        });
    }
}

/// The next connection; `None` once it shall stop.
async fn accept(listener: &TcpListener, stop: &CancellationToken) -> Option<TcpStream> {
    loop {
        match stop.run_until_cancelled(listener.accept()).await? {
            Ok((stream, _)) => return Some(stream),
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "accepting a connection");
                stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(50)))
                    .await?;
            }
        }
    }
}

/// Returns when, after `stop`, no other router sends another request on an idle connection.
async fn unused_by_routers(worker: &Worker, stop: &CancellationToken) {
    stop.cancelled().await;
    if let Some(drain) = worker.state.drains() {
        tokio::time::sleep_until(drain.began + peers::IDLE + CLOSE_AFTER).await;
    }
}

/// Serves one connection, to the end of what is under way once `close` returns.
async fn connection<S>(worker: Arc<Worker>, sender: Sender, stream: S, close: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let header_bytes = worker.state.limits.header_bytes;
    let (worker, sender) = (&worker, &sender);
    let service = service_fn(move |request| async move {
        let mut response = worker.handle(sender, request).await;
        if worker.state.drains().is_some() {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_header_size(header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = close => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}
