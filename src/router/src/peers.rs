//! Connections to the other units' routers, by mutual TLS. A request names the router in its URI's host; the
//! certificate must bear that very name, whatever address the table gives for it.

use crate::body::Sent;
use crate::state::State;
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use multiactive_runtime::certs::{PeerStream, TlsFiles, router_unit};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

/// The longest time to connect to another router, handshake included.
const CONNECT: Duration = Duration::from_secs(3);

/// How long an idle connection to another router is kept. A router that ends keeps its side open for longer than that,
/// so none is closed under a request.
pub const IDLE: Duration = Duration::from_secs(4);

/// The client of one worker.
pub type Peers = Client<PeerConnector, Sent>;

/// A client for the runtime that calls this.
pub fn client(state: Arc<State>, tls: TlsFiles) -> Peers {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(PeerConnector { state, tls })
}

/// Dials the router that a URI names.
#[derive(Clone)]
pub struct PeerConnector {
    state: Arc<State>,
    tls: TlsFiles,
}

impl Service<Uri> for PeerConnector {
    type Response = PeerConnection;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<PeerConnection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let name = uri.host().unwrap_or_default();
            let address = this.address(name)?;
            let connecting = this.tls.connect(address.as_str(), name);
            let stream = tokio::time::timeout(CONNECT, connecting).await??;
            Ok(PeerConnection(TokioIo::new(stream)))
        })
    }
}

impl PeerConnector {
    fn address(&self, name: &str) -> io::Result<String> {
        let unit = router_unit(name).map(|(unit, _)| unit).unwrap_or_default();
        let view = self.state.view.load();
        let peer = view.compiled.as_ref().and_then(|compiled| compiled.peer(&unit.into()));
        let peer = peer.ok_or_else(|| io::Error::other(format!("unit {unit} has no router")))?;
        let authority = &peer.address;
        Ok(match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:443"),
        })
    }
}

/// A connection to another router.
pub struct PeerConnection(TokioIo<PeerStream>);

impl Connection for PeerConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for PeerConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for PeerConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
