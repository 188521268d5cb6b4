//! One POST over a connection of its own: no redirect, no proxy, no connection that is kept. Who calls it limits its time.

use super::credentials::Credentials;
use crate::error::chain;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// How much of an answer is read.
const LIMIT: usize = 16 * 1024;

/// Status and body of the answer; else why there is none.
pub(super) async fn post(uri: &Uri, credentials: &Credentials, body: Vec<u8>) -> Result<(StatusCode, Bytes), String> {
    let host = uri.host().ok_or("its url has no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let request = request(uri, credentials, body)?;
    let connect = async |port| {
        let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(port)));
        stream.await.map_err(|error| format!("it cannot be reached: {error}"))
    };
    match uri.scheme_str() {
        Some("https") => {
            let name =
                ServerName::try_from(bare.to_owned()).map_err(|_| "its url has no host that a certificate may name")?;
            let connector = TlsConnector::from(Arc::new(credentials.tls()?));
            let stream = connector.connect(name, connect(443).await?);
            let stream = stream
                .await
                .map_err(|error| format!("it does not prove who it is: {error}"))?;
            exchange(stream, request).await
        }
        // A token that anybody on the way may read is none any more.
        Some("http") if credentials.bearer.is_some() => Err("a token is sent by https only".to_owned()),
        Some("http") => exchange(connect(80).await?, request).await,
        Some(_) | None => Err("its url is neither http nor https".to_owned()),
    }
}

fn request(uri: &Uri, credentials: &Credentials, body: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
    let authority = uri.authority().ok_or("its url has no host")?;
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("multiactive-operator/", env!("CARGO_PKG_VERSION")));
    let bearer = credentials.bearer.iter();
    let request = bearer.fold(request, |request, bearer| request.header(AUTHORIZATION, bearer));
    let request = request.body(Full::new(Bytes::from(body)));
    request.map_err(|error| format!("its url cannot be asked: {error}"))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("the exchange broke off: {}", chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    let body = Limited::new(body, LIMIT).collect().await;
    let body = body.map_err(|error| format!("its answer was not read to its end ({LIMIT} bytes at most): {error}"))?;
    Ok((head.status, body.to_bytes()))
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
