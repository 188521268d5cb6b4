//! Tests of one question over real connections.

use super::*;
use hyper::body::Incoming;
use hyper::service::service_fn;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use multiactive_fleet::certs::Authority;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Heard = Arc<Mutex<Vec<(Option<String>, Bytes)>>>;

/// Answers one connection after the other with this; what it heard of authorization, and the bodies.
async fn server(tls: Option<ServerConfig>, status: u16, answer: Vec<u8>) -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Heard::default();
    let (shared, acceptor) = (Arc::clone(&heard), tls.map(|tls| TlsAcceptor::from(Arc::new(tls))));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (heard, answer) = (Arc::clone(&shared), answer.clone());
            let serve = service_fn(move |request: http::Request<Incoming>| {
                let (heard, answer) = (Arc::clone(&heard), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let token = head.headers.get(AUTHORIZATION);
                    let token = token.map(|token| token.to_str().unwrap_or_default().to_owned());
                    heard.lock().unwrap().push((token, body));
                    let response = http::Response::builder()
                        .status(status)
                        .header("location", "/elsewhere");
                    Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from(answer))).unwrap())
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            match &acceptor {
                None => drop(tokio::spawn(http.serve_connection(TokioIo::new(stream), serve))),
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        tokio::spawn(http.serve_connection(TokioIo::new(stream), serve));
                    }
                }
            }
        }
    });
    (port, heard)
}

fn credentials(entries: &[(&str, &str)]) -> Credentials {
    let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    let secret = Secret {
        data: Some(entries.iter().map(entry).collect()),
        ..Secret::default()
    };
    Credentials::of(&secret).unwrap()
}

#[tokio::test]
async fn a_token_goes_only_to_who_has_proven_its_name() {
    let (ca, other) = (Authority::new("hooks").unwrap(), Authority::new("others").unwrap());
    let pair = ca.server("pdu", &["127.0.0.1"]).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let tls = tls.with_single_cert(chain, key).unwrap();
    let (port, heard) = server(Some(tls), 200, b"{}".to_vec()).await;
    for (host, ca, want) in [
        ("127.0.0.1", ca.cert(), None),
        ("127.0.0.1", other.cert(), Some("does not prove who it is")),
        ("localhost", ca.cert(), Some("does not prove who it is")),
    ] {
        let uri: Uri = format!("https://{host}:{port}/fence").parse().unwrap();
        let credentials = credentials(&[("token", "s3cret"), ("ca.crt", ca)]);
        let got = post(&uri, &credentials, b"question".to_vec()).await;
        match want {
            None => assert_eq!(got.unwrap().0, StatusCode::OK),
            Some(want) => {
                let why = got.unwrap_err();
                assert!(why.contains(want) && !why.contains("s3cret"), "{host}: {why}");
            }
        }
    }
    let heard = heard.lock().unwrap();
    assert_eq!(*heard, [(Some("Bearer s3cret".to_owned()), Bytes::from("question"))]);
}

#[tokio::test]
async fn a_token_is_not_sent_in_the_open() {
    let (port, heard) = server(None, 200, b"{}".to_vec()).await;
    let uri: Uri = format!("http://127.0.0.1:{port}").parse().unwrap();
    let got = post(&uri, &credentials(&[("token", "s3cret")]), Vec::new()).await;
    assert_eq!(got.unwrap_err(), "a token is sent by https only");
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed_a_long_answer_is_not_read_and_nobody_there_is_told() {
    let (port, heard) = server(None, 307, b"{}".to_vec()).await;
    let uri: Uri = format!("http://127.0.0.1:{port}/fence?outlet=7").parse().unwrap();
    let got = post(&uri, &Credentials::default(), Vec::new()).await;
    assert_eq!(got.unwrap().0, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(heard.lock().unwrap().len(), 1);

    for (length, want) in [(LIMIT, true), (LIMIT + 1, false)] {
        let (port, _) = server(None, 200, vec![b' '; length]).await;
        let uri: Uri = format!("http://127.0.0.1:{port}/").parse().unwrap();
        let got = post(&uri, &Credentials::default(), Vec::new()).await;
        assert_eq!(got.is_ok(), want, "{length}");
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let why = post(&uri, &Credentials::default(), Vec::new()).await.unwrap_err();
    assert!(why.contains("cannot be reached"), "{why}");
}
