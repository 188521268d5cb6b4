//! The product: an order is one row, named by its number and its user, and knows the user's order before it.

use crate::database::{Database, NOT_OWNED, Refusal};
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// By this header the router learns that the fence refused, and that nothing was written: it looks for the owner again.
const REFUSED: &str = "x-multiactive-refused";

/// An order as it is kept and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Number and user, such as 12-u7.
    pub id: String,
    /// The user.
    pub user: String,
    /// The order's number for this user, from 1.
    pub seq: i64,
    /// The largest number that this user had when this order was taken; one less, unless one was lost.
    pub prev: i64,
    /// The unit that took it.
    pub unit: String,
}

/// The product in one unit.
pub struct Service {
    unit: String,
    database: Database,
    /// What one unit writes and all read, each by the beginning of its paths: the catalog, the prices.
    items: Vec<(&'static str, Database)>,
}

impl Service {
    /// The product of `unit`: orders in one database, items in others, each by the beginning of its paths.
    pub fn new(unit: String, database: Database, items: Vec<(&'static str, Database)>) -> Self {
        Self { unit, database, items }
    }

    /// Serves until `token` is cancelled, then ends what is under way.
    ///
    /// # Errors
    ///
    /// Where the address cannot be listened on.
    pub async fn listen(self, address: SocketAddr, token: CancellationToken) -> Result<()> {
        let service = Arc::new(self);
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address}"))?;
        tracing::info!(unit = service.unit, %address, "serving orders");
        let graceful = GracefulShutdown::new();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted?.0,
                () = token.cancelled() => break,
            };
            stream.set_nodelay(true)?;
            let service = Arc::clone(&service);
            let handler = hyper::service::service_fn(move |request| {
                let service = Arc::clone(&service);
                async move { Ok::<_, std::convert::Infallible>(service.answer(request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            let connection = server
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), handler);
            tokio::spawn(graceful.watch(connection));
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), graceful.shutdown()).await;
        Ok(())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let id = path.strip_prefix("/orders/").map(str::to_owned);
        let mut items = self.items.iter();
        if let Some((sku, items)) = items.find_map(|(begin, items)| Some((path.strip_prefix(begin)?, items))) {
            return match *request.method() {
                Method::GET => self.item(items, sku).await,
                Method::PUT => self.change(items, sku).await,
                _ => reply(
                    StatusCode::METHOD_NOT_ALLOWED,
                    &serde_json::json!({"reason": "NoSuchMethod", "expected": "GET or PUT"}),
                ),
            };
        }
        match (request.method(), id) {
            (&Method::GET, None) if path == "/healthz" => self.health().await,
            (&Method::GET, Some(id)) => self.show(&id).await,
            (&Method::POST | &Method::PUT, Some(id)) => {
                if Limited::new(request.into_body(), 64 * 1024).collect().await.is_err() {
                    return reply(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        &serde_json::json!({"reason": "BodyTooLarge"}),
                    );
                }
                self.order(&id).await
            }
            _ => reply(
                StatusCode::NOT_FOUND,
                &serde_json::json!({"reason": "NoSuchPath", "path": path}),
            ),
        }
    }

    async fn health(&self) -> Response<Full<Bytes>> {
        match self.database.find("none").await {
            Ok(_) => reply(StatusCode::OK, &serde_json::json!({"unit": self.unit})),
            Err(error) => self.failed(&error),
        }
    }

    async fn show(&self, id: &str) -> Response<Full<Bytes>> {
        match self.database.find(id).await {
            Ok(Some(order)) => reply(StatusCode::OK, &order),
            Ok(None) => reply(
                StatusCode::NOT_FOUND,
                &serde_json::json!({"reason": "NoSuchOrder", "unit": self.unit}),
            ),
            Err(error) => self.failed(&error),
        }
    }

    async fn item(&self, items: &Database, sku: &str) -> Response<Full<Bytes>> {
        match items.item(sku).await {
            Ok(item) => reply(
                StatusCode::OK,
                &serde_json::json!({"item": item, "answeredBy": self.unit}),
            ),
            Err(error) => self.failed(&error),
        }
    }

    async fn change(&self, items: &Database, sku: &str) -> Response<Full<Bytes>> {
        match items.change(sku, &self.unit).await {
            Ok(item) => reply(StatusCode::OK, &item),
            Err(error) => self.failed(&error),
        }
    }

    async fn order(&self, id: &str) -> Response<Full<Bytes>> {
        let parsed = id
            .split_once('-')
            .and_then(|(seq, user)| Some((seq.parse().ok()?, user.to_owned())));
        let Some((seq, user)) = parsed else {
            return reply(
                StatusCode::BAD_REQUEST,
                &serde_json::json!({"reason": "BadOrderId", "expected": "NUMBER-USER"}),
            );
        };
        let order = Order {
            id: id.to_owned(),
            user,
            seq,
            prev: 0,
            unit: self.unit.clone(),
        };
        match self.database.take(&order).await {
            Ok((order, true)) => reply(StatusCode::CREATED, &order),
            Ok((order, false)) => reply(StatusCode::OK, &order),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, Refusal { code, message }: &Refusal) -> Response<Full<Bytes>> {
        tracing::warn!(unit = self.unit, message, "the database refused");
        let refused = *code;
        let (status, reason) = match refused {
            Some(NOT_OWNED) => (StatusCode::CONFLICT, "NotOwned"),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "NoWriteLease"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "DatabaseFailed"),
        };
        let mut response = reply(
            status,
            &serde_json::json!({"reason": reason, "unit": self.unit, "message": message}),
        );
        if let Some(value) = refused.and_then(|code| http::HeaderValue::from_str(code).ok()) {
            response.headers_mut().insert(REFUSED, value);
        }
        response
    }
}

fn reply(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
