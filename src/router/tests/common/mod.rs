//! Routers of three units in one process, with real sockets, real certificates, real backends and an agent that speaks
//! the protocol. Tables are put in where the watch puts them in.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![allow(missing_docs, reason = "tests")]

pub mod agent;
pub mod backend;
pub mod tables;

use agent::Agent;
use backend::Backend;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use multiactive_core::table::RoutingTable;
use multiactive_router::agent_link::Link;
use multiactive_router::limits::Limits;
use multiactive_router::metrics::Metrics;
use multiactive_router::proxy::Worker;
use multiactive_router::state::State;
use multiactive_router::{home, peers, server};
use multiactive_runtime::certs::{Ca, TlsFiles, agent_name, router_name};
use multiactive_runtime::probes::Readiness;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub const NAMESPACE: &str = "shop";
pub const UNITS: [&str; 3] = ["east", "north", "south"];

/// One unit: its router, its backend, its agent.
pub struct Unit {
    pub addr: SocketAddr,
    pub peer_addr: SocketAddr,
    pub state: Arc<State>,
    pub backend: Backend,
    pub agent: Agent,
    pub stop: CancellationToken,
    pub goodbye: CancellationToken,
    pub tasks: TaskTracker,
    dir: tempfile::TempDir,
}

pub struct World {
    pub ca: Ca,
    units: BTreeMap<&'static str, Unit>,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub fn limits() -> Limits {
    Limits {
        hold_time: Duration::from_secs(20),
        // A slow machine must not let writes that were held arrive out of order.
        order_time: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// Certificates in a new folder, good from an hour ago for an hour.
pub fn certificates(ca: &Ca, name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let hour = SignedDuration::from_hours(1);
    let leaf = ca.issue(&[name.to_owned()], now - hour, now + hour).unwrap();
    let write = |file: &str, text: &str| std::fs::write(Path::new(dir.path()).join(file), text).unwrap();
    write("ca.crt", ca.cert_pem());
    write("tls.crt", &leaf.cert_pem);
    write("tls.key", &leaf.key_pem);
    dir
}

pub fn authority() -> Ca {
    let now = Timestamp::now();
    let hour = SignedDuration::from_hours(1);
    Ca::generate("multiactive test", now - hour, now + hour).unwrap()
}

impl World {
    /// Three units with their assignments, and no table yet.
    pub async fn new(limits: Limits) -> Self {
        let ca = authority();
        let mut units = BTreeMap::new();
        for name in UNITS {
            units.insert(name, unit(&ca, name, limits.clone()).await);
        }
        Self {
            ca,
            units,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// The same, with `table` in force everywhere and applied by every agent.
    pub async fn with(limits: Limits, table: &str) -> Self {
        let world = Self::new(limits).await;
        world.give_all(table);
        for name in UNITS {
            world.applied(name, world.table(table).epoch).await;
        }
        world
    }

    pub fn unit(&self, name: &str) -> &Unit {
        &self.units[name]
    }

    pub fn table(&self, text: &str) -> RoutingTable {
        tables::table(text, |unit| self.unit(unit).peer_addr)
    }

    /// Puts a table into force in one unit's router.
    pub fn give(&self, unit: &str, table: &str) {
        self.unit(unit).state.take_table(self.table(table)).unwrap();
    }

    pub fn give_all(&self, table: &str) {
        for unit in UNITS {
            self.give(unit, table);
        }
    }

    /// Lets the unit's agent say that its stores stand at `epoch`, and waits until the router has heard.
    pub async fn applied(&self, unit: &str, epoch: multiactive_core::epoch::Epoch) {
        let unit = self.unit(unit);
        unit.agent.say_applied(epoch);
        until("the agent's word", || unit.state.view.load().applied.epoch >= epoch).await;
    }

    /// Sends a request to a unit's router.
    pub fn send(
        &self,
        unit: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> tokio::task::JoinHandle<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.unit(unit).addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = self.client.request(request);
        tokio::spawn(async move { Answer::read(answer.await.unwrap()).await })
    }

    /// Reads with a key.
    pub async fn get(&self, unit: &str, key: &str) -> Answer {
        self.send(unit, "GET", "/orders/7", &[("x-user-id", key)], "")
            .await
            .unwrap()
    }

    /// Writes with a key.
    pub fn post(&self, unit: &str, key: &str, body: impl Into<Bytes>) -> tokio::task::JoinHandle<Answer> {
        self.send(unit, "POST", "/orders", &[("x-user-id", key)], body)
    }

    /// Waits until `count` requests are held by a unit's router.
    pub async fn held(&self, unit: &str, count: usize) {
        let hold = &self.unit(unit).state.hold;
        until("requests are held", || hold.len() == count).await;
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    async fn read(response: Response<hyper::body::Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn reason(&self) -> &str {
        self.header("x-multiactive-reason")
    }
}

async fn unit(ca: &Ca, name: &'static str, limits: Limits) -> Unit {
    let dir = certificates(ca, &router_name(name, NAMESPACE));
    let tls = TlsFiles::open(dir.path()).unwrap();
    let backend = Backend::start().await;
    let agent = Agent::start(ca, &agent_name(&format!("{name}-cluster"))).await;
    let mut registry = Registry::default();
    let readiness = Readiness::not_ready("no table");
    let metrics = Metrics::new(&mut registry);
    let state = State::new(name.into(), NAMESPACE.into(), limits, metrics, readiness);
    state.take_assignment(&tables::assignment(name, backend.addr)).unwrap();
    let clients = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let routers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, peer_addr) = (clients.local_addr().unwrap(), routers.local_addr().unwrap());
    let (stop, goodbye, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let worker = Arc::new(Worker {
        home: home::client(&state.limits),
        peers: peers::client(state.clone(), tls.clone()),
        state: state.clone(),
    });
    tokio::spawn(server::clients(worker.clone(), clients, stop.clone(), tasks.clone()));
    tokio::spawn(server::routers(
        worker,
        tls.clone(),
        routers,
        stop.clone(),
        tasks.clone(),
    ));
    let link = Link {
        state: state.clone(),
        tls,
        agent: agent.addr.to_string(),
        router: format!("{name}-router-0"),
    };
    tokio::spawn(link.run(goodbye.clone()));
    Unit {
        addr,
        peer_addr,
        state,
        backend,
        agent,
        stop,
        goodbye,
        tasks,
        dir,
    }
}

/// Sends raw bytes and reads all that comes until the router closes.
pub async fn raw(world: &World, unit: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.unit(unit).addr).await.unwrap();
    // The router may answer and close before it has read an enormous request.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits for a condition that other tasks bring about.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < end, "not within 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
