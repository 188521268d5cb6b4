//! Connections to the unit's own backends: plain HTTP on the local network, kept alive, bodies passed through.

use crate::body::Sent;
use crate::limits::Limits;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

/// The client of one worker.
pub type Home = Client<HttpConnector, Sent>;

/// A client for the runtime that calls this.
pub fn client(limits: &Limits) -> Home {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(3)));
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(limits.backend_idle)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(connector)
}
