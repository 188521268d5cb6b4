//! The program itself, on a real API server that comes and goes.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common::agent::Agent;
use crate::common::backend::Backend;
use crate::common::{NAMESPACE, authority, certificates, tables, until};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use multiactive_api::{RoutingTable, RoutingTableSpec, UnitAssignment};
use multiactive_core::epoch::Epoch;
use multiactive_core::wire::RouterToAgent;
use multiactive_fleet::cluster::{Cluster, Options, Part};
use multiactive_fleet::ports;
use multiactive_runtime::certs::{agent_name, router_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

struct Ports {
    clients: u16,
    routers: u16,
    admin: u16,
}

impl Ports {
    fn free() -> Self {
        Self {
            clients: ports::free().unwrap(),
            routers: ports::free().unwrap(),
            admin: ports::free().unwrap(),
        }
    }
}

/// An API server with our kinds and the namespace.
async fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::start(Options::api_server_only(name)).await.unwrap();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");
    cluster.kubectl(&["apply", "--filename", crds]).await.unwrap();
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all"])
        .await
        .unwrap();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).await.unwrap();
    cluster
}

/// Asks until the answer is as wanted.
async fn eventually<T: std::fmt::Debug>(what: &str, ask: impl AsyncFn() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "not within 60 s: {what}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Web(Client<HttpConnector, Full<Bytes>>);

impl Web {
    /// Status and body; 0 where nobody answers.
    async fn ask(&self, method: &str, port: u16, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{port}{path}"));
        let request = request
            .header("x-user-id", "s1")
            .body(Full::from(body.to_owned()))
            .unwrap();
        let Ok(response) = self.0.request(request).await else {
            return (0, String::new());
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

fn start(cluster: &Cluster, tls: &std::path::Path, agent: &Agent, ports: &Ports, more: &[&str]) -> Child {
    let local = |port: u16| format!("127.0.0.1:{port}");
    Command::new(env!("CARGO_BIN_EXE_multiactive-router"))
        .args([
            "--unit",
            "east",
            "--namespace",
            NAMESPACE,
            "--name",
            "east-router-0",
            "--workers",
            "2",
        ])
        .args(["--agent", &agent.addr.to_string(), "--tls-dir", tls.to_str().unwrap()])
        .args([
            "--listen",
            &local(ports.clients),
            "--peer-listen",
            &local(ports.routers),
        ])
        .args(["--admin-listen", &local(ports.admin), "--drain-delay", "0s"])
        .args(["--drain-time", "8s"])
        .args(more)
        .env("KUBECONFIG", cluster.kubeconfig_path())
        .env("RUST_LOG", "info")
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn stored(text: &str) -> RoutingTableSpec {
    RoutingTableSpec::try_from(&tables::table(text, |_| ([127, 0, 0, 1], 1).into())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_routes_by_its_api_server_and_goes_on_without_it() {
    let cluster = cluster("router").await;
    let client = cluster.client().await.unwrap();
    let ca = authority();
    let tls = certificates(&ca, &router_name("east", NAMESPACE));
    let agent = Agent::start(&ca, &agent_name("east-cluster")).await;
    let backend = Backend::start().await;
    let ports = Ports::free();
    let mut router = start(&cluster, tls.path(), &agent, &ports, &[]);
    let web = Web(Client::builder(TokioExecutor::new()).build_http());
    let admin = async |path: &str| web.ask("GET", ports.admin, path, "").await;
    let route = async || {
        let (_, page) = admin("/route?path=/orders&header=x-user-id:s1&method=POST").await;
        serde_json::from_str::<Value>(&page).unwrap_or_default()
    };

    // Ready only with an assignment and a table.
    let ready = eventually("an answer", async || admin("/readyz").await, |a| a.0 != 0).await;
    assert_eq!(ready.0, 503, "{ready:?}");
    let assignments: Api<UnitAssignment> = Api::namespaced(client.clone(), NAMESPACE);
    let assignment = UnitAssignment::new("east", tables::assignment("east", backend.addr));
    assignments.create(&PostParams::default(), &assignment).await.unwrap();
    let names = |wanted: &'static str| move |a: &(u16, String)| a.1.contains(wanted);
    eventually(
        "it lacks the table",
        async || admin("/readyz").await,
        names("RoutingTable"),
    )
    .await;
    assert_eq!(web.ask("POST", ports.clients, "/orders", "x").await.0, 503);
    let routing: Api<RoutingTable> = Api::namespaced(client.clone(), NAMESPACE);
    let table = RoutingTable::new("routing", stored("10: 16s0@1.10"));
    routing.create(&PostParams::default(), &table).await.unwrap();
    eventually("ready", async || admin("/readyz").await, |a| a.0 == 200).await;
    agent.say_applied(Epoch::new(1, 10));
    let written = web.ask("POST", ports.clients, "/orders", "first").await;
    assert_eq!(written, (200, "first".into()));
    until("its report", || !agent.heard().is_empty()).await;

    // A table that cannot be read, then an older one: the last good one stays.
    let patch = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        routing.patch("routing", &PatchParams::default(), &patch).await.unwrap();
    };
    let unusable = async |reason: &str, count: u32| {
        let line = format!("multiactive_router_unusable_objects_total{{reason=\"{reason}\"}} {count}\n");
        eventually(&line, async || admin("/metrics").await, |a| a.1.contains(&line)).await;
    };
    let good = serde_json::to_value(stored("12: 16s0@1.10")).unwrap();
    let mut broken = good.clone();
    broken["keyspaces"][0]["spans"] = json!("16s7@1.10");
    broken["epoch"] = json!(11);
    patch(broken).await;
    unusable("RoutingTable", 1).await;
    assert_eq!(route().await["table"], "1.10");
    patch(good).await;
    eventually("the good one", route, |page| page["table"] == "1.12").await;
    // The API refuses an update that goes back; a table that was deleted and restored from a backup comes all the same.
    routing.delete("routing", &Default::default()).await.unwrap();
    let restored = RoutingTable::new("routing", stored("11: 16s1@1.11"));
    routing.create(&PostParams::default(), &restored).await.unwrap();
    unusable("OlderTable", 1).await;
    assert_eq!(route().await["decision"], "Serve");
    routing.delete("routing", &Default::default()).await.unwrap();

    // Without its API server it goes on, and learns the news when that is back.
    cluster.kill_part(Part::ApiServer).await;
    assert_eq!(
        web.ask("POST", ports.clients, "/orders", "alone").await,
        (200, "alone".into())
    );
    assert_eq!(admin("/readyz").await.0, 200);
    cluster.start_part(Part::ApiServer).await.unwrap();
    let client = cluster.client().await.unwrap();
    let routing: Api<RoutingTable> = Api::namespaced(client, NAMESPACE);
    let held = RoutingTable::new("routing", stored("13: 16h0@1.13"));
    routing.create(&PostParams::default(), &held).await.unwrap();
    eventually("the news", route, |page| page["table"] == "1.13").await;
    assert_eq!(route().await["decision"], "Hold");
    until("told to the agent", || {
        let last = agent.heard().pop();
        matches!(last, Some(RouterToAgent::Report(report)) if report.epoch == Epoch::new(1, 13))
    })
    .await;

    // SIGTERM: what is under way is answered, what is held is told so, then the agent hears a goodbye.
    backend.set_open(false);
    let reading = async { web.ask("GET", ports.clients, "/orders", "").await };
    let held = async { web.ask("POST", ports.clients, "/orders", "held").await };
    let ending = async {
        until("it is at the backend", || {
            backend.got().last().is_some_and(|got| got.method == "GET")
        })
        .await;
        eventually(
            "the other one is held",
            async || admin("/metrics").await,
            |a| a.1.contains("multiactive_router_waiting 1\n"),
        )
        .await;
        kill(Pid::from_raw(router.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
        until("it accepts nothing new", || {
            std::net::TcpStream::connect(("127.0.0.1", ports.clients)).is_err()
        })
        .await;
        assert_eq!(admin("/readyz").await.0, 503);
        backend.set_open(true);
    };
    let (read, held, ()) = tokio::join!(reading, held, ending);
    assert_eq!(read.0, 200);
    assert!(held.0 == 503 && held.1.contains("Draining"), "{held:?}");
    let status = router.wait().await.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(agent.heard().last(), Some(&RouterToAgent::Goodbye));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_restarts_while_its_api_server_is_away_goes_on_and_never_back() {
    let cluster = cluster("restart").await;
    let client = cluster.client().await.unwrap();
    let ca = authority();
    let tls = certificates(&ca, &router_name("east", NAMESPACE));
    let agent = Agent::start(&ca, &agent_name("east-cluster")).await;
    let backend = Backend::start().await;
    let ports = Ports::free();
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("state");
    let begin = || {
        start(
            &cluster,
            tls.path(),
            &agent,
            &ports,
            &["--state-dir", dir.to_str().unwrap()],
        )
    };
    let web = Web(Client::builder(TokioExecutor::new()).build_http());
    let admin = async |path: &str| web.ask("GET", ports.admin, path, "").await;
    let ready = async || {
        eventually("ready", async || admin("/readyz").await, |a| a.0 == 200)
            .await
            .1
    };
    let metric = async |line: &str| {
        let line = format!("multiactive_router_{line}\n");
        eventually(&line, async || admin("/metrics").await, |a| a.1.contains(&line)).await;
    };
    let killed = async |mut router: Child| {
        router.kill().await.unwrap();
        assert_eq!(admin("/livez").await.0, 0);
    };
    let assignments: Api<UnitAssignment> = Api::namespaced(client.clone(), NAMESPACE);
    let routing: Api<RoutingTable> = Api::namespaced(client, NAMESPACE);
    let assignment = UnitAssignment::new("east", tables::assignment("east", backend.addr));
    assignments.create(&PostParams::default(), &assignment).await.unwrap();
    let table = RoutingTable::new("routing", stored("12: 16s0@1.10"));
    routing.create(&PostParams::default(), &table).await.unwrap();
    agent.say_applied(Epoch::new(1, 12));

    // It saves what it routes by, and says nothing of it while the API server answers.
    let router = begin();
    assert_eq!(ready().await, "ok\n");
    metric("saved_epoch 12").await;
    metric("table_from_file 0").await;
    killed(router).await;

    // Without its API server it goes on with that, and says so.
    cluster.kill_part(Part::ApiServer).await;
    let router = begin();
    let said = ready().await;
    assert!(
        said.contains("saved before the start") && said.contains("1.12"),
        "{said}"
    );
    metric("table_from_file 1").await;
    let written = web.ask("POST", ports.clients, "/orders", "alone").await;
    assert_eq!(written, (200, "alone".into()));
    // And again: what was saved is not lost by being used.
    killed(router).await;
    let router = begin();
    assert!(ready().await.contains("1.12"));

    // When the API server is back with the same table, all is as it was.
    cluster.start_part(Part::ApiServer).await.unwrap();
    eventually("confirmed", async || admin("/readyz").await, |a| a.1 == "ok\n").await;
    metric("table_from_file 0").await;
    let client = cluster.client().await.unwrap();
    let routing: Api<RoutingTable> = Api::namespaced(client, NAMESPACE);
    let newer = Patch::Merge(json!({"spec": stored("13: 16s0@1.13")}));
    routing.patch("routing", &PatchParams::default(), &newer).await.unwrap();
    metric("saved_epoch 13").await;
    killed(router).await;

    // A table that went back while it was not there is not followed.
    routing.delete("routing", &Default::default()).await.unwrap();
    let restored = RoutingTable::new("routing", stored("11: 16s1@1.11"));
    routing.create(&PostParams::default(), &restored).await.unwrap();
    let router = begin();
    let said = ready().await;
    assert!(said.contains("1.13"), "{said}");
    metric("unusable_objects_total{reason=\"OlderTable\"} 1").await;
    agent.say_applied(Epoch::new(1, 13));
    let written = web.ask("POST", ports.clients, "/orders", "still").await;
    assert_eq!(written, (200, "still".into()));
    killed(router).await;

    // A damaged file is not used: without an API server it is not ready then, and says why.
    cluster.kill_part(Part::ApiServer).await;
    std::fs::write(dir.join("in-force"), "multiactive-router 1 00000000\n{}").unwrap();
    let router = begin();
    metric("unusable_objects_total{reason=\"StateDir\"} 1").await;
    assert_eq!(admin("/readyz").await.0, 503);
    killed(router).await;
    cluster.stop().await;
}
