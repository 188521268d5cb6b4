//! Where requests go, what they carry, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use crate::common;
use crate::common::{World, limits, raw};
use multiactive_router::limits::Limits;

/// east owns slots 0-7, north 8-11, nobody 12-15.
const TABLE: &str = "12: 8s0@1.10,4s1@1.11,4u@0.0";

#[tokio::test]
async fn home_requests_go_to_the_local_backend_with_unit_slot_and_epoch() {
    let world = World::with(limits(), TABLE).await;
    let answer = world.post("east", "s3", "order").await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"order"[..]));
    let got = world.unit("east").backend.got();
    assert_eq!((got[0].method.as_str(), got[0].path.as_str()), ("POST", "/orders"));
    for headers in [&got[0].headers, &answer.headers] {
        assert_eq!(headers["x-multiactive-unit"], "east");
        assert_eq!(headers["x-multiactive-slot"], "3");
        assert_eq!(headers["x-multiactive-epoch"], "1.10");
        assert!(!headers.contains_key("x-multiactive-reason"), "{headers:?}");
    }
    assert_eq!(answer.header("x-backend"), "yes");
}

#[tokio::test]
async fn requests_of_any_unit_are_served_by_the_owner() {
    let world = World::with(limits(), TABLE).await;
    for unit in common::UNITS {
        for (key, owner) in [("s0", "east"), ("s8", "north")] {
            let read = world.get(unit, key).await;
            let written = world.post(unit, key, format!("{unit} to {owner}")).await.unwrap();
            for answer in [&read, &written] {
                assert_eq!(answer.status, 200, "{unit} {key} {answer:?}");
                assert_eq!(answer.header("x-multiactive-unit"), owner, "{unit} {key}");
            }
        }
    }
    assert_eq!(world.unit("east").backend.got().len(), 6);
    assert_eq!(world.unit("north").backend.got().len(), 6);
    assert_eq!(world.unit("south").backend.got().len(), 0);
    for got in world.unit("north").backend.got() {
        assert_eq!(got.headers["x-multiactive-epoch"], "1.11");
        assert!(!got.headers.contains_key("x-multiactive-hop"));
    }
}

#[tokio::test]
async fn what_a_client_forges_reaches_nobody() {
    let world = World::with(limits(), TABLE).await;
    for key in ["s0", "s8"] {
        let headers = [
            ("x-user-id", key),
            ("x-multiactive-unit", "evil"),
            ("x-multiactive-slot", "15"),
            ("x-multiactive-hop", "evil"),
            ("x-multiactive-epoch", "9.99"),
            ("x-multiactive-anything", "evil"),
            ("connection", "x-secret"),
            ("x-secret", "evil"),
            ("x-kept", "kept"),
        ];
        let answer = world.send("east", "POST", "/orders", &headers, "").await.unwrap();
        assert_eq!(
            answer.status, 200,
            "an epoch from outside must not make it wait: {answer:?}"
        );
    }
    for unit in ["east", "north"] {
        for got in world.unit(unit).backend.got() {
            let evil = got
                .headers
                .iter()
                .find(|(_, value)| *value == "evil" || *value == "9.99" || *value == "15");
            assert_eq!(evil, None);
            assert_eq!(got.headers["x-kept"], "kept");
        }
    }
}

#[tokio::test]
async fn what_belongs_nowhere_is_refused_with_the_reason() {
    let world = World::with(limits(), TABLE).await;
    let long = "k".repeat(1_025);
    let long_path = format!("/orders/key/{long}");
    for (path, headers, status, reason) in [
        ("/unknown", &[("x-user-id", "s0")][..], 404, "NoRoute"),
        ("/ordersX", &[("x-user-id", "s0")], 404, "NoRoute"),
        ("/orders", &[], 400, "MissingKey"),
        ("/orders", &[("x-user-id", "")], 400, "EmptyKey"),
        ("/orders", &[("x-user-id", long.as_str())], 400, "KeyTooLong"),
        (long_path.as_str(), &[], 400, "KeyTooLong"),
        ("/orders/key/%ff%fe", &[("x-user-id", "s0")], 400, "InvalidUtf8"),
        ("/orders/../admin", &[("x-user-id", "s0")], 400, "AmbiguousPath"),
        ("/orders", &[("x-user-id", "s13")], 503, "Unowned"),
    ] {
        let answer = world.send("east", "POST", path, headers, "").await.unwrap();
        assert_eq!((answer.status, answer.reason()), (status, reason), "{path} {headers:?}");
        let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(page["reason"], reason);
        assert!(!page["message"].as_str().unwrap().is_empty());
        assert_eq!(answer.header("retry-after").is_empty(), status != 503);
    }
    assert!(world.unit("east").backend.got().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_text_and_headers_without_measure_are_refused() {
    let world = World::with(limits(), TABLE).await;
    let answer = raw(
        &world,
        "east",
        b"GET /orders HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-user-id: \xff\xfe\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("InvalidUtf8"),
        "{answer}"
    );
    let megabyte = "k".repeat(1 << 20);
    for request in [
        format!("GET /orders HTTP/1.1\r\nhost: a\r\nx-user-id: {megabyte}\r\n\r\n"),
        format!("GET /orders HTTP/1.1\r\nhost: a\r\nx-user-id: s0\r\nx-other: {megabyte}\r\n\r\n"),
    ] {
        let answer = raw(&world, "east", request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let answer = raw(
        &world,
        "east",
        format!("GET /orders/key/{megabyte} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert!(world.unit("east").backend.got().is_empty());
    assert_eq!(world.get("east", "s0").await.status, 200, "and it goes on");
}

#[tokio::test]
async fn a_request_without_a_key_stays_where_it_came_if_its_keyspace_allows_any() {
    let world = World::with(limits(), TABLE).await;
    let answer = world.send("south", "POST", "/pages/about", &[], "x").await.unwrap();
    assert_eq!((answer.status, answer.header("x-multiactive-unit")), (200, "south"));
    assert!(!answer.headers.contains_key("x-multiactive-slot"));
    // With a key it has an owner as any other.
    let keyed = world
        .send("south", "POST", "/pages/about", &[("x-user-id", "s1")], "x")
        .await
        .unwrap();
    assert_eq!((keyed.status, keyed.reason()), (503, "Unowned"));
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_home_and_to_another_unit() {
    let world = World::with(
        Limits {
            kept_per_request: 10_000,
            kept_total: 20_000,
            ..limits()
        },
        TABLE,
    )
    .await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    for key in ["s0", "s8"] {
        let answer = world.post("east", key, large.clone()).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body == large, "{key}");
    }
    common::until("nothing is kept any more", || {
        world.unit("east").state.budget.used() == 0
    })
    .await;
}

#[tokio::test]
async fn without_a_table_it_is_not_ready_and_an_older_table_is_refused() {
    let world = World::new(limits()).await;
    let state = &world.unit("east").state;
    assert!(state.readiness.reason().is_some());
    let answer = world.get("east", "s0").await;
    assert_eq!((answer.status, answer.reason()), (503, "NoTable"));
    world.give_all(TABLE);
    assert_eq!(state.readiness.reason(), None);
    assert_eq!(world.get("east", "s0").await.status, 200);
    // The same slots as north's, in an older table.
    let error = state.take_table(world.table("11: 16s1@1.11")).unwrap_err();
    assert!(error.to_string().contains("1.12 is in force"), "{error}");
    assert_eq!(world.get("east", "s0").await.header("x-multiactive-unit"), "east");
}

#[tokio::test]
async fn an_assignment_that_cannot_be_used_leaves_the_last_one_in_force() {
    let world = World::with(limits(), TABLE).await;
    let unit = world.unit("east");
    let mut spec = common::tables::assignment("east", unit.backend.addr);
    spec.keyspaces[0].spec.key.sources[0].path.as_mut().unwrap().pattern = "(".into();
    assert!(unit.state.take_assignment(&spec).is_err());
    assert_eq!(world.get("east", "s0").await.status, 200);
}

#[tokio::test]
async fn route_explains_a_decision_without_carrying_it_out() {
    let world = World::with(limits(), TABLE).await;
    let routes = multiactive_router::admin::routes(world.unit("east").state.clone());
    let explain = async |query: &str| -> serde_json::Value {
        let request = http::Request::builder()
            .uri(format!("/route?{query}"))
            .body(())
            .unwrap();
        let response = routes(request.into_parts().0).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        serde_json::from_slice(&body).unwrap()
    };
    let there = explain("path=/orders/7&header=x-user-id:s9&method=POST").await;
    for (field, want) in [
        ("decision", "Forward"),
        ("keyspace", "users"),
        ("key", "s9"),
        ("owner", "north"),
        ("state", "Serving"),
        ("epoch", "1.11"),
        ("table", "1.12"),
        ("backend", "shop"),
        ("route", "/orders"),
    ] {
        assert_eq!(there[field], want, "{there}");
    }
    assert_eq!(there["slot"], 9);
    assert_eq!(explain("path=/orders/key/s1").await["decision"], "Serve");
    assert_eq!(explain("path=/orders").await["reason"], "MissingKey");
    assert_eq!(explain("path=/orders/key/s15").await["decision"], "Unowned");
    assert!(
        explain("header=x:y").await["message"]
            .as_str()
            .unwrap()
            .contains("give the path")
    );
    assert!(world.unit("east").backend.got().is_empty());
}
