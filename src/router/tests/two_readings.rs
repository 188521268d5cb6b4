//! Requests that two servers could read in two ways, over raw sockets: the router refuses them, or reads them as the
//! service behind it does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common;
use crate::common::{World, limits, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// east owns slots 0-7, north 8-15.
const TABLE: &str = "12: 8s0@1.10,8s1@1.11";

/// Status and reason of the first answer.
fn answered(text: &str) -> (&str, &str) {
    let status = text.split(' ').nth(1).unwrap_or_default();
    let reason = text
        .lines()
        .find_map(|line| line.strip_prefix("x-multiactive-reason: "));
    (status, reason.unwrap_or_default())
}

/// A request that ends its connection.
fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n")
}

fn nothing_arrived(world: &World) {
    for unit in common::UNITS {
        let got = world.unit(unit).backend.got();
        assert!(got.is_empty(), "{unit}: {got:?}");
    }
}

#[tokio::test]
async fn paths_that_servers_read_in_different_ways_reach_nobody() {
    let world = World::with(limits(), TABLE).await;
    for (target, status, reason) in [
        ("/orders/../admin", "400", "AmbiguousPath"),
        ("/orders/%2e%2e/admin", "400", "AmbiguousPath"),
        ("/orders/%2e%2e%2fadmin", "400", "AmbiguousPath"),
        ("/orders/..;/admin", "400", "AmbiguousPath"),
        ("/orders//key/s8", "400", "AmbiguousPath"),
        ("//orders", "400", "AmbiguousPath"),
        ("/orders%2fkey%2fs8", "400", "AmbiguousPath"),
        ("/orders/key%5cs8", "400", "AmbiguousPath"),
        ("/orders\\key\\s8", "400", "AmbiguousPath"),
        ("/orders/s0%00", "400", "AmbiguousPath"),
        ("/orders/%0d%0ax-user-id:s8", "400", "AmbiguousPath"),
        ("/orders/%zz", "400", "AmbiguousPath"),
        ("/orders/%ff", "400", "InvalidUtf8"),
        ("*", "400", "BadTarget"),
        ("shop:80", "400", "AmbiguousHost"),
        ("/pages/../orders", "400", "AmbiguousPath"),
    ] {
        let answer = raw(
            &world,
            "east",
            request(&format!("GET {target}"), "x-user-id: s0\r\n").as_bytes(),
        )
        .await;
        assert_eq!(answered(&answer), (status, reason), "{target}: {answer}");
    }
    for bytes in [
        &b"GET /orders\0 HTTP/1.1\r\nhost: shop\r\nx-user-id: s0\r\n\r\n"[..],
        b"GET /orders HTTP/1.1\r\nhost: shop\r\nx-user-id: s0\0\r\n\r\n",
        b"GET /orders HTTP/1.1\r\nhost: shop\r\nx-user-id : s0\r\n\r\n",
        b"GET /orders HTTP/1.1\r\nhost: shop\r\nx-other: a\r\n x-user-id: s0\r\n\r\n",
    ] {
        let answer = raw(&world, "east", bytes).await;
        assert_eq!(answered(&answer).0, "400", "{answer}");
    }
    nothing_arrived(&world);
}

#[tokio::test]
async fn a_path_is_decided_by_as_the_service_sees_it_and_passed_on_as_it_came() {
    let world = World::with(limits(), TABLE).await;
    // A router that matched what stands there would take the header, and the service would take the path.
    for target in ["/%6frders/%6bey/%738", "/orders/%6Bey/s%38?key=/orders/key/s1"] {
        let answer = raw(
            &world,
            "east",
            request(&format!("GET {target}"), "x-user-id: s0\r\n").as_bytes(),
        )
        .await;
        assert_eq!(answered(&answer).0, "200", "{answer}");
        let got = world.unit("north").backend.got().pop().unwrap();
        assert_eq!(got.path, target);
        assert_eq!(got.headers["x-multiactive-slot"], "8");
    }
    assert!(world.unit("east").backend.got().is_empty());
}

#[tokio::test]
async fn a_key_that_is_given_twice_is_refused() {
    let world = World::with(limits(), TABLE).await;
    for path in ["/orders", "/pages"] {
        for headers in [
            "x-user-id: s0\r\nx-user-id: s8\r\n",
            "x-user-id: s0\r\nX-USER-ID: s0\r\n",
            "x-user-id: s0, s8\r\n",
            "x-user-id: s0,\r\n",
            "x-user-id: s0\r\nx_user_id: s8\r\n",
            "x_user-id: s8\r\n",
        ] {
            for method in ["GET", "POST"] {
                let line = format!("{method} {path}");
                let answer = raw(&world, "east", request(&line, headers).as_bytes()).await;
                assert_eq!(answered(&answer), ("400", "AmbiguousKey"), "{line} {headers}: {answer}");
            }
        }
    }
    nothing_arrived(&world);
    // Nor is it made ambiguous by being named as a header of one hop: then it is none.
    let answer = raw(
        &world,
        "east",
        b"GET /orders HTTP/1.1\r\nhost: shop\r\nconnection: close, x-user-id\r\nx-user-id: s0\r\n\r\n",
    )
    .await;
    assert_eq!(answered(&answer), ("400", "MissingKey"), "{answer}");
}

#[tokio::test]
async fn target_and_host_name_one_host() {
    let world = World::with(limits(), TABLE).await;
    let key = "connection: close\r\nx-user-id: s0\r\n\r\n";
    for (head, status, reason) in [
        ("GET /orders HTTP/1.1\r\n", "400", "NoHost"),
        ("GET /orders HTTP/1.1\r\nhost: a\r\nhost: b\r\n", "400", "AmbiguousHost"),
        ("GET /orders HTTP/1.1\r\nhost: a\r\nhost: a\r\n", "400", "AmbiguousHost"),
        ("GET /orders HTTP/1.1\r\nhost: a, b\r\n", "400", "AmbiguousHost"),
        ("GET /orders HTTP/1.1\r\nhost: a/b\r\n", "400", "AmbiguousHost"),
        ("GET http://b/orders HTTP/1.1\r\nhost: a\r\n", "400", "AmbiguousHost"),
        ("GET http://a@b/orders HTTP/1.1\r\nhost: b\r\n", "400", "AmbiguousHost"),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n", "405", "NoTunnels"),
        ("GET http://A:80/orders HTTP/1.1\r\nhost: a:80\r\n", "200", ""),
        ("GET /orders HTTP/1.0\r\n", "200", ""),
    ] {
        let answer = raw(&world, "east", format!("{head}{key}").as_bytes()).await;
        assert_eq!(answered(&answer), (status, reason), "{head}: {answer}");
    }
    let got = world.unit("east").backend.got();
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(
        (got[0].path.as_str(), &got[0].headers["host"]),
        ("/orders", &"a:80".parse().unwrap())
    );
}

#[tokio::test]
async fn a_body_has_one_length_and_nothing_is_hidden_behind_it() {
    let world = World::with(limits(), TABLE).await;
    let hidden = "POST /orders HTTP/1.1\r\nhost: shop\r\nx-user-id: s8\r\ncontent-length: 6\r\n\r\nhidden";
    for (headers, body, want) in [
        // The longer of two readings would take the second request for a body, the shorter would carry it out.
        (
            "content-length: 11\r\ntransfer-encoding: chunked\r\n",
            "3\r\none\r\n0\r\n\r\n",
            "200",
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "3\r\none\r\n0\r\n\r\n",
            "200",
        ),
        ("content-length: 3\r\ncontent-length: 4\r\n", "one", "400"),
        ("content-length: 3, 3\r\n", "one", "400"),
        ("content-length: +3\r\n", "one", "400"),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            "3\r\none\r\n0\r\n\r\n",
            "400",
        ),
        ("transfer-encoding: \x0bchunked\r\n", "3\r\none\r\n0\r\n\r\n", "400"),
        ("transfer-encoding: gzip, chunked\r\n", "3\r\none\r\n0\r\n\r\n", "501"),
    ] {
        let before = world.unit("east").backend.got().len();
        let head = "POST /orders HTTP/1.1\r\nhost: shop\r\nx-user-id: s0\r\n";
        let ending = hidden.replace("host: shop", "host: shop\r\nconnection: close");
        let answer = raw(&world, "east", format!("{head}{headers}\r\n{body}{ending}").as_bytes()).await;
        assert_eq!(answered(&answer).0, want, "{headers}: {answer}");
        let got = world.unit("east").backend.got().split_off(before);
        let bodies: Vec<_> = got.iter().map(|got| got.body.as_ref()).collect();
        match want {
            "200" => {
                assert_eq!(bodies, [b"one"], "{headers}");
                let length = got[0].headers.get("content-length");
                assert!(length.is_none_or(|length| length == "3"), "{headers}: {length:?}");
                assert_eq!(
                    answer.matches("HTTP/1.1 ").count(),
                    1,
                    "the connection ends there: {answer}"
                );
            }
            _ => assert!(bodies.is_empty(), "{headers}: {bodies:?}"),
        }
    }
    assert!(
        world
            .unit("north")
            .backend
            .got()
            .iter()
            .all(|got| got.body != "hidden" || got.headers.contains_key("x-multiactive-unit"))
    );
}

#[tokio::test]
async fn nothing_of_one_hop_reaches_the_service_and_trailers_end_here() {
    let world = World::with(limits(), TABLE).await;
    let upgrade = "connection: upgrade, x-of-one-hop\r\nupgrade: websocket\r\nte: trailers\r\nkeep-alive: 9\r\n\
                   proxy-connection: keep-alive\r\nx-of-one-hop: 1\r\nx-user-id: s0\r\n";
    let answer = raw(&world, "east", request("GET /orders", upgrade).as_bytes()).await;
    assert_eq!(answered(&answer).0, "200", "{answer}");
    let trailing = "x-user-id: s0\r\ntransfer-encoding: chunked\r\ntrailer: x-user-id\r\n\r\n\
                    3\r\none\r\n0\r\nx-user-id: s8\r\n";
    let answer = raw(&world, "east", request("POST /orders", trailing).as_bytes()).await;
    assert_eq!(answered(&answer).0, "200", "{answer}");
    // To the owner's router, too, where the body is kept.
    let trailing = trailing.replacen("s0", "s9", 1);
    let answer = raw(&world, "east", request("POST /orders", &trailing).as_bytes()).await;
    assert_eq!(answered(&answer).0, "200", "{answer}");
    let mut all = world.unit("east").backend.got();
    all.extend(world.unit("north").backend.got());
    assert_eq!(all.len(), 3);
    for got in all {
        for name in [
            "connection",
            "upgrade",
            "te",
            "keep-alive",
            "proxy-connection",
            "x-of-one-hop",
            "trailer",
        ] {
            assert!(!got.headers.contains_key(name), "{name}: {got:?}");
        }
        assert_eq!(got.trailers, None, "{got:?}");
        assert_eq!(got.headers.get_all("x-user-id").iter().count(), 1);
    }
}

#[tokio::test]
async fn who_asks_whether_to_send_a_body_is_answered_first() {
    let world = World::with(limits(), TABLE).await;
    for key in ["s0", "s8"] {
        let mut stream = TcpStream::connect(world.unit("east").addr).await.unwrap();
        let headers = format!("x-user-id: {key}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n");
        stream
            .write_all(request("POST /orders", &headers).as_bytes())
            .await
            .unwrap();
        let mut first = [0; 25];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"body").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answered(&answer).0, "200", "{answer}");
        assert!(answer.ends_with("body"), "{answer}");
    }
    // Who is refused is not asked for it.
    let headers = "x-user-id: s0\r\nexpect: 100-continue\r\ncontent-length: 4\r\n";
    let answer = raw(&world, "east", request("POST /unknown", headers).as_bytes()).await;
    assert_eq!(answered(&answer), ("404", "NoRoute"), "{answer}");
    for unit in ["east", "north"] {
        for got in world.unit(unit).backend.got() {
            assert!(!got.headers.contains_key("expect"), "{got:?}");
        }
    }
}
