//! The customers: each user orders one after the other, through every router in turn, and every attempt is recorded.

use crate::service::Order;
use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long one attempt may take; far more than a promotion's pause.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to load, and how hard.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// URLs of routers, such as `http://127.0.0.11:18000`.
    pub routers: Vec<String>,
    /// The users who order at once; each one's orders are numbered from 1, so those of another load are others.
    pub users: Vec<String>,
    /// A user's pause after each order.
    pub think: Duration,
}

/// So many users of a load of this name: those of another load have other names.
pub fn users(count: u32, load: &str) -> Vec<String> {
    (0..count).map(|number| format!("u{number}-{load}")).collect()
}

/// One attempt to order.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// When it began, in milliseconds since the load began.
    pub at_ms: f64,
    /// When it began, by the clock.
    pub began: jiff::Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// The user.
    pub user: String,
    /// The order's number for the user.
    pub seq: i64,
    /// Which router it went to, from 0.
    pub router: usize,
    /// The order as acknowledged; `None` where it failed.
    pub order: Option<Order>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Every attempt of a load.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// In the order of their ends.
    pub attempts: Vec<Attempt>,
}

/// A load that runs.
pub struct Load {
    token: CancellationToken,
    users: JoinSet<()>,
    record: Arc<Mutex<Record>>,
}

type Http = Client<HttpConnector, Full<Bytes>>;

impl Load {
    /// Starts ordering.
    ///
    /// # Errors
    ///
    /// Where no router is given.
    pub fn start(options: LoadOptions) -> Result<Self> {
        anyhow::ensure!(!options.routers.is_empty(), "no router is given");
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http: Http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        let (token, record, began) = (
            CancellationToken::new(),
            Arc::new(Mutex::new(Record::default())),
            Instant::now(),
        );
        let options = Arc::new(options);
        let mut users = JoinSet::new();
        for (offset, name) in options.users.iter().enumerate() {
            let user = User {
                name: name.clone(),
                http: http.clone(),
                options: Arc::clone(&options),
                began,
            };
            users.spawn(user.order_until(offset, token.clone(), Arc::clone(&record)));
        }
        Ok(Self { token, users, record })
    }

    /// How many orders were acknowledged so far.
    pub async fn acknowledged(&self) -> usize {
        self.record.lock().await.acknowledged().count()
    }

    /// What happened so far.
    pub async fn record(&self) -> Record {
        self.record.lock().await.clone()
    }

    /// Lets every user finish the order that is under way, and hands over the record.
    pub async fn stop(mut self) -> Record {
        self.token.cancel();
        while self.users.join_next().await.is_some() {}
        std::mem::take(&mut *self.record.lock().await)
    }
}

struct User {
    name: String,
    http: Http,
    options: Arc<LoadOptions>,
    began: Instant,
}

impl User {
    async fn order_until(self, offset: usize, token: CancellationToken, record: Arc<Mutex<Record>>) {
        let (mut seq, mut turn) = (1, offset);
        while !token.is_cancelled() {
            let attempt = self.attempt(seq, turn % self.options.routers.len()).await;
            // An order that failed is sent again under its own number: it may have been taken without a reply.
            if attempt.order.is_some() {
                seq += 1;
            }
            turn += 1;
            record.lock().await.attempts.push(attempt);
            tokio::select! {
                () = token.cancelled() => {}
                () = tokio::time::sleep(self.options.think) => {}
            }
        }
    }

    async fn attempt(&self, seq: i64, router: usize) -> Attempt {
        let (began, start) = (jiff::Timestamp::now(), Instant::now());
        let uri = format!("{}/orders/{seq}-{}", self.options.routers[router], self.name);
        let result = match tokio::time::timeout(PATIENCE, self.send(&uri)).await {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("no reply within {PATIENCE:?}")),
        };
        let (order, error) = match result {
            Ok(order) => (Some(order), None),
            Err(error) => (None, Some(error)),
        };
        Attempt {
            at_ms: start.duration_since(self.began).as_secs_f64() * 1000.0,
            began,
            took_ms: start.elapsed().as_secs_f64() * 1000.0,
            user: self.name.clone(),
            seq,
            router,
            order,
            error,
        }
    }

    async fn send(&self, uri: &str) -> Result<Order> {
        let request = http::Request::post(uri)
            .header("content-type", "application/json")
            .body(Full::from("{}"))?;
        let response = self.http.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Record {
    /// The orders that were acknowledged.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Order> {
        self.attempts.iter().filter_map(|attempt| attempt.order.as_ref())
    }

    /// How many attempts failed.
    pub fn failures(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.order.is_none()).count()
    }

    /// The slowest of `share` of the attempts, in milliseconds: 0.5 is the median.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let mut times: Vec<_> = self.attempts.iter().map(|attempt| attempt.took_ms).collect();
        times.sort_by(f64::total_cmp);
        times
            .get(((times.len() as f64 - 1.0) * share).round() as usize)
            .copied()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let ms = |share| {
            self.quantile_ms(share)
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
        };
        let (taken, failed) = (self.acknowledged().count(), self.failures());
        format!(
            "{taken} orders acknowledged, {failed} failed, p50 {}, p99 {}, max {}",
            ms(0.5),
            ms(0.99),
            ms(1.0)
        )
    }

    /// Writes every attempt as a line of JSON.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn write_lines(&self, path: &Path) -> Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for attempt in &self.attempts {
            serde_json::to_writer(&mut file, attempt)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}
