//! The router against nginx and HAProxy on the same job, in one run: CPU µs a request and latency, with ratios.
//!
//! The job: keep-alive HTTP/1.1, the key from a header, two upstreams, 100 bytes of answer. nginx and HAProxy choose by
//! a map of the key; the router does all that it does for a request: route, key, slot, owner, stamps on both ways.
//! Each proxy is one process with one thread, pinned to one core; the load and the upstreams have the other. Rounds
//! alternate, the median counts. Run it with `cargo bench -p multiactive-router` and nothing else on the machine.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails loudly")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use multiactive_core::epoch::Epoch;
use multiactive_core::span;
use multiactive_core::table::{KeyspaceTable, RoutingTable, TableUnit};
use multiactive_router::limits::Limits;
use multiactive_router::metrics::Metrics;
use multiactive_router::proxy::Worker;
use multiactive_router::state::State;
use multiactive_router::{home, peers, server as router};
use multiactive_runtime::certs::{Ca, TlsFiles};
use multiactive_runtime::probes::Readiness;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const SLOTS: u32 = 16_384;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, dir, port, a, b] = args.as_slice()
        && mode == "--router"
    {
        return serve_as_router(
            Path::new(dir),
            port.parse().unwrap(),
            [a, b].map(|addr| addr.parse().unwrap()),
        );
    }
    if !args.iter().any(|arg| arg == "--bench") {
        // Built and started by `cargo test --all-targets`: that is no measurement.
        return;
    }
    assert!(
        find("taskset").is_some(),
        "taskset is missing, which pins each proxy to one core. On Debian: apt-get install -y util-linux"
    );
    for (peer, package) in [("nginx", "nginx-light"), ("haproxy", "haproxy")] {
        if find(peer).is_none() {
            println!("{peer} is missing, so it is not compared. On Debian: apt-get install -y {package}");
        }
    }
    if cfg!(debug_assertions) {
        println!("NOTE: an unoptimized build; its figures say nothing about the router");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(compare());
}

/// A program, also in the folders that only root's PATH has.
fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.exists())
}

/// One measured round.
#[derive(Clone, Copy, Default)]
struct Round {
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    per_second: f64,
}

struct Proxy {
    name: &'static str,
    addr: SocketAddr,
    child: Child,
    rounds: Vec<Round>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn compare() {
    pin_myself();
    let dir = tempfile::tempdir().unwrap();
    let upstreams = [upstream().await, upstream().await];
    let peers = [nginx(dir.path(), upstreams), haproxy(dir.path(), upstreams)];
    let mut proxies: Vec<Proxy> = peers.into_iter().flatten().collect();
    proxies.push(ours(dir.path(), upstreams));
    for proxy in &mut proxies {
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(proxy.addr).is_err() {
            assert!(Instant::now() < end, "{} does not answer", proxy.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Warm.
        load(proxy.addr, Duration::from_millis(500)).await;
    }
    for _ in 0..ROUNDS {
        for proxy in &mut proxies {
            let before = cpu(proxy.child.id());
            let began = Instant::now();
            let mut times = load(proxy.addr, ROUND).await;
            let seconds = began.elapsed().as_secs_f64();
            let used = cpu(proxy.child.id()) - before;
            times.sort_unstable();
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
            proxy.rounds.push(Round {
                cpu_us: used * 1e6 / times.len() as f64,
                p50_us: at(0.5),
                p99_us: at(0.99),
                per_second: times.len() as f64 / seconds,
            });
        }
    }
    println!(
        "{:<10} {:>10} {:>10} {:>10} {:>10}",
        "proxy", "cpu µs/req", "p50 µs", "p99 µs", "req/s"
    );
    let medians: Vec<(&str, Round)> = proxies
        .iter()
        .map(|proxy| (proxy.name, median(&proxy.rounds)))
        .collect();
    for (name, m) in &medians {
        println!(
            "{name:<10} {:>10.1} {:>10.0} {:>10.0} {:>10.0}",
            m.cpu_us, m.p50_us, m.p99_us, m.per_second
        );
    }
    let Some(((_, router), others)) = medians.split_last() else {
        return;
    };
    for (name, other) in others {
        println!(
            "router / {name}: cpu {:.2}, p99 {:.2}{}",
            router.cpu_us / other.cpu_us,
            router.p99_us / other.p99_us,
            if *name == "nginx" {
                " (target ≤ 1.00 both)"
            } else {
                ""
            },
        );
    }
}

fn median(rounds: &[Round]) -> Round {
    let of = |field: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Round {
        cpu_us: of(|r| r.cpu_us),
        p50_us: of(|r| r.p50_us),
        p99_us: of(|r| r.p99_us),
        per_second: of(|r| r.per_second),
    }
}

/// CPU seconds of a process so far, of user and kernel.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Fields 14 and 15 of the whole line, in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn pin_myself() {
    let pid = std::process::id().to_string();
    let _ = Command::new("taskset")
        .args(["-a", "-p", "-c", "1", &pid])
        .stdout(Stdio::null())
        .status();
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).stdout(Stdio::null());
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn proxy(name: &'static str, port: u16, command: &mut Command) -> Proxy {
    Proxy {
        name,
        addr: ([127, 0, 0, 1], port).into(),
        child: command.spawn().unwrap(),
        rounds: Vec::new(),
    }
}

/// `None` where it is not installed.
fn nginx(dir: &Path, [a, b]: [SocketAddr; 2]) -> Option<Proxy> {
    let program = find("nginx")?;
    let port = free_port();
    let root = dir.display();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
         uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_requests 100000000;\n\
         upstream a {{ server {a}; keepalive 64; keepalive_requests 100000000; }}\n\
         upstream b {{ server {b}; keepalive 64; keepalive_requests 100000000; }}\n\
         map $http_x_user_id $unit {{ ~[0-4]$ a; default b; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://$unit; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header x-unit $unit; add_header x-unit $unit; }} }} }}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = pinned(&program);
    let command = command.arg("-c").arg(file).arg("-e").arg(dir.join("nginx.log"));
    Some(proxy("nginx", port, command))
}

/// `None` where it is not installed.
fn haproxy(dir: &Path, [a, b]: [SocketAddr; 2]) -> Option<Proxy> {
    let program = find("haproxy")?;
    let port = free_port();
    let config = format!(
        "global\n nbthread 1\ndefaults\n mode http\n timeout client 60s\n timeout server 60s\n timeout connect 5s\n\
         \x20option http-keep-alive\n http-reuse always\n\
         frontend f\n bind 127.0.0.1:{port}\n acl low hdr_end(x-user-id) 0 1 2 3 4\n\
         \x20use_backend a if low\n default_backend b\n\
         backend a\n http-request set-header x-unit a\n http-response set-header x-unit a\n server a {a}\n\
         backend b\n http-request set-header x-unit b\n http-response set-header x-unit b\n server b {b}\n"
    );
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = pinned(&program);
    Some(proxy("haproxy", port, command.arg("-db").arg("-f").arg(file)))
}

fn ours(dir: &Path, [a, b]: [SocketAddr; 2]) -> Proxy {
    let port = free_port();
    let now = jiff::Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let ca = Ca::generate("bench", now - hour, now + hour).unwrap();
    let leaf = ca.issue(&["bench".into()], now - hour, now + hour).unwrap();
    for (name, text) in [
        ("ca.crt", ca.cert_pem()),
        ("tls.crt", &leaf.cert_pem),
        ("tls.key", &leaf.key_pem),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let mut command = pinned(&std::env::current_exe().unwrap());
    command
        .arg("--router")
        .arg(dir)
        .args([port.to_string(), a.to_string(), b.to_string()]);
    proxy("router", port, &mut command)
}

/// One worker of the router, as the program starts it, with a table of 512 spans.
fn serve_as_router(dir: &Path, port: u16, [a, b]: [SocketAddr; 2]) {
    let keyspace = |name: &str, prefix: &str| {
        serde_json::json!({
            "name": name, "slots": SLOTS, "routes": [{"pathPrefix": prefix, "backend": name}],
            "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}], "onMissing": "Reject"},
            "function": {"type": "Crc32"},
        })
    };
    let assignment = serde_json::json!({
        "unit": "east", "cluster": "east", "stores": [],
        "backends": [{"name": "a", "url": format!("http://{a}")}, {"name": "b", "url": format!("http://{b}")}],
        "keyspaces": [keyspace("a", "/a"), keyspace("b", "/b")],
    });
    let names = ["east".into()];
    let runs: Vec<String> = (0..512).map(|run| format!("32s0@1.{}", run + 1)).collect();
    let table = |name: &str| KeyspaceTable {
        name: name.into(),
        slots: SLOTS,
        definition: None,
        spans: span::decode(&runs.join(","), SLOTS, &names).unwrap(),
    };
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::new(&mut registry);
    let readiness = Readiness::not_ready("no table");
    let state = State::new("east".into(), "bench".into(), Limits::default(), metrics, readiness);
    state
        .take_assignment(&serde_json::from_value(assignment).unwrap())
        .unwrap();
    let units = vec![TableUnit {
        name: "east".into(),
        router: "https://127.0.0.1:1".into(),
    }];
    let epoch = Epoch::new(1, 512);
    let keyspaces = vec![table("a"), table("b")];
    state
        .take_table(RoutingTable {
            epoch,
            units,
            keyspaces,
            ..RoutingTable::default()
        })
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let worker = Arc::new(Worker {
            home: home::client(&state.limits),
            peers: peers::client(state.clone(), TlsFiles::open(dir).unwrap()),
            state,
        });
        let listener = router::bind(([127, 0, 0, 1], port).into()).unwrap();
        router::clients(worker, listener, CancellationToken::new(), TaskTracker::new()).await;
    });
}

async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let service =
                service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; 100])))));
            tokio::spawn(server::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

/// Closed loop on all connections; the time of each request.
async fn load(addr: SocketAddr, time: Duration) -> Vec<Duration> {
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        tasks.spawn(async move {
            let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut send, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut times = Vec::with_capacity(100_000);
            let mut count = number;
            while Instant::now() < until {
                count += 7;
                let path = if count % 10 < 5 { "/a/orders" } else { "/b/orders" };
                let request = Request::builder()
                    .uri(path)
                    .header("host", "bench")
                    .header("x-user-id", count);
                let began = Instant::now();
                let response = send
                    .send_request(request.body(Empty::<Bytes>::new()).unwrap())
                    .await
                    .unwrap();
                assert!(response.status().is_success(), "{}", response.status());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body.len(), 100);
                times.push(began.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}
