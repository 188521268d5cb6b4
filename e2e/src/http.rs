//! A plain HTTP client for the demo and the tests.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A client that keeps its connections.
#[derive(Clone, Debug)]
pub struct Http(Client<HttpConnector, Full<Bytes>>);

impl Default for Http {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }
}

impl Http {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// Where no answer came.
    pub async fn send(&self, request: http::Request<&str>) -> Result<http::Response<Bytes>> {
        let request = request.map(|body| Full::from(body.to_owned()));
        let (parts, body) = self.0.request(request).await?.into_parts();
        Ok(http::Response::from_parts(parts, body.collect().await?.to_bytes()))
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    ///
    /// Where no answer came.
    pub async fn call(&self, method: &str, uri: &str) -> Result<http::Response<Bytes>> {
        self.send(http::Request::builder().method(method).uri(uri).body("")?)
            .await
    }
}
