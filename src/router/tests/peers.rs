//! Who may speak as a router.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common;
use crate::common::{NAMESPACE, World, authority, certificates, limits};
use multiactive_runtime::certs::{TlsFiles, agent_name, router_name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TABLE: &str = "12: 8s0@1.10,8s1@1.11";

/// Sends a request to east's port for routers and gives the answer; empty where it was refused.
async fn ask_as(world: &World, tls: &TlsFiles) -> String {
    let expected = router_name("east", NAMESPACE);
    let Ok(mut stream) = tls.connect(world.unit("east").peer_addr, &expected).await else {
        return String::new();
    };
    let request =
        "GET /orders HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-user-id: s0\r\nx-multiactive-hop: north\r\n\r\n";
    let mut answer = Vec::new();
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn only_routers_of_the_same_namespace_are_heard() {
    let world = World::with(limits(), TABLE).await;
    let other = authority();
    for (ca, name, welcome) in [
        (&world.ca, router_name("north", NAMESPACE), true),
        (&world.ca, router_name("north", "other-namespace"), false),
        (&world.ca, agent_name("north-cluster"), false),
        (&world.ca, "north.example.com".to_owned(), false),
        (&other, router_name("north", NAMESPACE), false),
    ] {
        let dir = certificates(ca, &name);
        if !welcome && !std::ptr::eq(ca, &world.ca) {
            // It trusts our authority, yet its certificate is of another.
            std::fs::write(dir.path().join("ca.crt"), world.ca.cert_pem()).unwrap();
        }
        let answer = ask_as(&world, &TlsFiles::open(dir.path()).unwrap()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), welcome, "{name}: {answer}");
        if !welcome {
            assert_eq!(answer, "", "{name}");
        }
    }
    assert_eq!(world.unit("east").backend.got().len(), 1);
}

#[tokio::test]
async fn plain_http_is_not_answered_on_the_routers_port() {
    let world = World::with(limits(), TABLE).await;
    let mut stream = TcpStream::connect(world.unit("east").peer_addr).await.unwrap();
    let _ = stream
        .write_all(b"GET /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s0\r\n\r\n")
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"), "{answer:?}");
    assert!(world.unit("east").backend.got().is_empty());
}

#[tokio::test]
async fn a_router_at_the_owners_address_that_cannot_prove_its_name_gets_nothing() {
    let world = World::with(limits(), TABLE).await;
    // The table says that north is where east is.
    let mut table = world.table("13: 8s0@1.10,8s1@1.11");
    table.units[1].router = format!("https://{}", world.unit("east").peer_addr);
    world.unit("south").state.take_table(table).unwrap();
    let answer = world.post("south", "s9", "secret").await.unwrap();
    assert_eq!((answer.status, answer.reason()), (503, "RouterUnreachable"));
    assert!(world.unit("east").backend.got().is_empty() && world.unit("north").backend.got().is_empty());
}

#[tokio::test]
async fn a_router_that_is_away_for_a_moment_costs_no_error() {
    let world = World::with(limits(), TABLE).await;
    let mut table = world.table("13: 8s0@1.10,8s1@1.11");
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    table.units[1].router = format!("https://{free}");
    world.unit("south").state.take_table(table).unwrap();
    let write = world.post("south", "s9", "patience");
    common::until("it is tried", || world.unit("south").state.metrics.forwarded.get() > 2).await;
    world.give("south", "14: 8s0@1.10,8s1@1.11");
    let answer = write.await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "north"));
    assert_eq!(world.unit("north").backend.bodies(), ["patience"]);
}
