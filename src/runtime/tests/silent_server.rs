//! API servers that take a request and never answer, and one that is merely quiet. The clock is tokio's own and goes on
//! whenever nothing else can: minutes pass at once.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use multiactive_runtime::kube_client::{Patience, from_kubeconfig};
use multiactive_runtime::watch;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const LIST: &str = r#"{"apiVersion":"v1","kind":"ConfigMapList","metadata":{"resourceVersion":"7"},"items":[]}"#;

/// What a server was asked.
#[derive(Default)]
struct Asked {
    lists: AtomicU32,
    watches: AtomicU32,
    /// Watches that the client left before the server ended them.
    left: AtomicU32,
}

async fn client(listener: &TcpListener) -> Client {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: '{url}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
    from_kubeconfig(kubeconfig, Patience::WATCHES).await.unwrap()
}

/// The head of the next request; `None` once the client has closed.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// For how many seconds a watch shall last, as its request says.
fn seconds(head: &str) -> u64 {
    let (_, rest) = head
        .split_once("timeoutSeconds=")
        .expect("a watch says how long it lasts");
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}

/// Answers lists; a watch says nothing until its time is over, or nothing at all where `dies`.
async fn serve(mut stream: TcpStream, asked: Arc<Asked>, dies: bool) {
    while let Some(head) = request(&mut stream).await {
        if !head.contains("watch=true") {
            asked.lists.fetch_add(1, Ordering::SeqCst);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{LIST}",
                LIST.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        asked.watches.fetch_add(1, Ordering::SeqCst);
        let head_of_answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head_of_answer.as_bytes()).await.unwrap();
        let lasts = if dies { u64::from(u32::MAX) } else { seconds(&head) };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(lasts)) => stream.write_all(b"0\r\n\r\n").await.unwrap(),
            _ = stream.read_u8() => {
                asked.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

async fn server(listener: TcpListener, asked: Arc<Asked>, dies: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, asked.clone(), dies));
    }
}

/// Watches until the server was asked for as many watches.
async fn watch_until(client: Client, asked: &Asked, watches: u32) {
    let api = Api::namespaced(client, "shop");
    let mut events = pin!(watch::all::<ConfigMap>(api, Config::default()));
    while asked.watches.load(Ordering::SeqCst) < watches {
        // A watch that ended, or broke, brings no event: the next look at the count is soon enough.
        let event = tokio::time::timeout(Duration::from_secs(1), events.next()).await;
        assert!(
            !matches!(event, Ok(Some(Event::Apply(_) | Event::Delete(_)))),
            "there is nothing to tell of"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_taken_and_never_answered_ends_in_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&listener).await;
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        std::future::pending::<()>().await;
    });
    let began = Instant::now();
    let api = Api::<ConfigMap>::namespaced(client, "shop");
    let list = async { api.list(&ListParams::default()).await };
    let list = tokio::time::timeout(Duration::from_secs(600), list).await;
    assert!(list.expect("it waits for ever").is_err());
    let waited = began.elapsed().as_secs();
    assert!((60..=90).contains(&waited), "{waited} s");
    silent.abort();
}

/// Whether the kernel probes the connection from this local port: the column `tr` of `/proc/net/tcp` says which timer
/// runs, 02 is keepalive.
fn is_probed(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let local = format!(":{port:04X}");
    lines.any(|line| line[1].ends_with(&local) && line[3] == "01" && line[5].starts_with("02:"))
}

#[tokio::test]
async fn the_kernel_notices_a_host_that_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&listener).await;
    let api = Api::<ConfigMap>::namespaced(client, "shop");
    let asking = tokio::spawn(async move { api.list(&ListParams::default()).await });
    let (mut stream, from) = listener.accept().await.unwrap();
    request(&mut stream).await.unwrap();
    let probed = async {
        while !is_probed(from.port()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), probed)
        .await
        .expect("keepalive is on");
    asking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_server_died_is_begun_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, asked) = (client(&listener).await, Arc::<Asked>::default());
    tokio::spawn(server(listener, asked.clone(), true));
    let watching = watch_until(client, &asked, 3);
    tokio::time::timeout(Duration::from_secs(600), watching)
        .await
        .expect("a dead watch is waited for");
    assert_eq!(asked.left.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lives_and_has_nothing_to_tell_is_never_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, asked) = (client(&listener).await, Arc::<Asked>::default());
    tokio::spawn(server(listener, asked.clone(), false));
    let watching = watch_until(client, &asked, 5);
    tokio::time::timeout(Duration::from_secs(600), watching)
        .await
        .expect("five watches of a minute");
    assert_eq!(asked.left.load(Ordering::SeqCst), 0, "the server ended each one");
    assert_eq!(
        asked.lists.load(Ordering::SeqCst),
        1,
        "and each began where the last ended"
    );
}
