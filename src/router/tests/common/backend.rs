//! A real backend: it remembers what it got, answers with it, and can be made to wait.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Got {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

pub struct Backend {
    pub addr: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    open: watch::Sender<bool>,
    refusals: Arc<AtomicUsize>,
}

impl Backend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let open = watch::Sender::new(true);
        let refusals = Arc::<AtomicUsize>::default();
        let (list, gate, left) = (got.clone(), open.subscribe(), refusals.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (list, gate, left) = (list.clone(), gate.clone(), left.clone());
                let service = service_fn(move |request| answer(request, list.clone(), gate.clone(), left.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            addr,
            got,
            open,
            refusals,
        }
    }

    /// Has so many further requests answered as a service does whose database refuses them.
    pub fn refuse(&self, requests: usize) {
        self.refusals.store(requests, Ordering::SeqCst);
    }

    /// Requests so far, in the order of their arrival.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn bodies(&self) -> Vec<String> {
        let got = self.got();
        got.iter()
            .map(|got| String::from_utf8_lossy(&got.body).into_owned())
            .collect()
    }

    /// While closed, requests are taken and not answered.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn answer(
    request: Request<Incoming>,
    list: Arc<Mutex<Vec<Got>>>,
    mut gate: watch::Receiver<bool>,
    refusals: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::new(Full::default()));
    };
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    list.lock().unwrap().push(Got {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: body.clone(),
        trailers,
    });
    gate.wait_for(|open| *open).await.unwrap();
    let one_less = |left: usize| left.checked_sub(1);
    if refusals
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
        .is_ok()
    {
        let refused = Response::builder().status(409).header("x-multiactive-refused", "MA001");
        return Ok(refused.body(Full::from("refused")).unwrap());
    }
    let response = Response::builder()
        .header("x-backend", "yes")
        // A backend cannot speak for the router.
        .header("x-multiactive-unit", "forged")
        .header("x-multiactive-reason", "Misdirected");
    Ok(response.body(Full::new(body)).unwrap())
}
