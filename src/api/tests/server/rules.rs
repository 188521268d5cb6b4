//! What one object can say about itself, and what may never change. Each row changes one thing of a good object.

use crate::good;
use crate::support::{assert_accepted, assert_refused, create, run, try_create, try_replace, with, writer};
use serde_json::{Value, json};

/// A change, and the text of the refusal; `None` where it is accepted.
pub type Row = (&'static str, Value, Option<&'static str>);

pub fn on_create(good: Value, rows: Vec<Row>) {
    run(async {
        let client = writer(&good).await;
        assert_accepted(try_create(&client, &good).await, &good.to_string());
        for (pointer, new, refusal) in rows {
            let what = format!("{} {pointer} = {new}", good["kind"]);
            let answer = try_create(&client, &with(&good, pointer, new)).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &what),
                None => assert_accepted(answer, &what),
            }
        }
    });
}

pub fn on_update(good: Value, rows: Vec<Row>) {
    run(async {
        let client = writer(&good).await;
        create(&client, &good).await;
        for (pointer, new, refusal) in rows {
            let what = format!("{} {pointer} becomes {new}", good["kind"]);
            let answer = try_replace(&client, &with(&good, pointer, new), true).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &what),
                None => assert_accepted(answer, &what),
            }
        }
    });
}

#[test]
fn every_kind_is_served_and_a_good_object_is_accepted() {
    run(async {
        for mut object in good::all() {
            let client = writer(&object).await;
            // Those whose names are given exist in the team's namespace, for other tests.
            if object["metadata"]["namespace"] != Value::Null && object["kind"] != "UnitAssignment" {
                object["metadata"]["namespace"] = json!("default");
            }
            assert_accepted(try_create(&client, &object).await, &object.to_string());
        }
    });
}

#[test]
fn names_that_other_fields_hold_are_labels() {
    let label = Some("metadata.name must be a DNS label");
    let long = "a".repeat(64);
    for good in [
        good::region("r"),
        good::member_cluster("r"),
        good::keyspace("r"),
        good::shard_range("r"),
        good::unit_workload("r"),
        good::data_store("r"),
    ] {
        let rows = vec![
            ("/metadata/name", json!("a.b"), label),
            ("/metadata/name", json!(long), label),
            ("/metadata/name", json!("a".repeat(63)), None),
        ];
        on_create(good, rows);
    }
}

#[test]
fn services_can_be_named_after_a_unit() {
    let begins = Some("metadata.name must begin with a letter and have at most 50 characters");
    let rows = vec![
        ("/metadata/name", json!("a.b"), begins),
        ("/metadata/name", json!("1-east"), begins),
        ("/metadata/name", json!("a".repeat(51)), begins),
        ("/metadata/name", json!("a".repeat(50)), None),
        ("/metadata/name", json!("e1"), None),
    ];
    on_create(good::unit("r"), rows);
}

#[test]
fn a_region_says_what_people_call_it() {
    let rows = vec![
        ("/spec/displayName", json!(""), Some("should be at least 1 chars long")),
        (
            "/spec/displayName",
            json!("x".repeat(254)),
            Some("may not be more than 253"),
        ),
        ("/spec/displayName", Value::Null, None),
    ];
    on_create(good::region("rules"), rows);
}

#[test]
fn a_member_cluster_is_reached_in_one_way() {
    let exactly = Some("kubeconfig is given exactly for type Kubeconfig");
    let rows = vec![
        ("/spec/access", json!({"type": "Kubeconfig"}), exactly),
        (
            "/spec/access",
            json!({"type": "InCluster", "kubeconfig": {"secret": "s"}}),
            exactly,
        ),
        ("/spec/access", json!({"type": "InCluster", "kubeconfig": null}), None),
        ("/spec/access", json!({"type": "InCluster"}), None),
        (
            "/spec/access",
            json!({"type": "Magic"}),
            Some("Unsupported value: \"Magic\""),
        ),
        (
            "/spec/access/kubeconfig/secret",
            json!("Not_A_Name"),
            Some("should match"),
        ),
        ("/spec/access/kubeconfig/key", json!("a/b"), Some("should match")),
        ("/spec/region", json!("East"), Some("should match")),
        ("/spec/allowedNamespaces", json!(["a", "a"]), Some("Duplicate value")),
        ("/spec/allowedNamespaces", json!(["*"]), Some("should match")),
        ("/spec/agentNamespace", json!(""), Some("should be at least 1")),
        ("/spec/agentNamespace", json!("elsewhere"), None),
    ];
    on_create(good::member_cluster("rules"), rows);
}

#[test]
fn a_unit_says_where_it_is_reached() {
    let url = Some("should match");
    let rows = vec![
        ("/spec/role", json!("Center"), Some("Unsupported value: \"Center\"")),
        ("/spec/role", json!("Standby"), None),
        ("/spec/router", json!("http://router.east.example:8443"), url),
        ("/spec/router", json!("https://router.east.example"), url),
        ("/spec/router", json!("https://router.east.example:8443/path"), url),
        ("/spec/router", json!("https://127.0.0.11:18443"), None),
        ("/spec/router", json!("https://[::1]:18443"), None),
        ("/spec/backends/0/url", json!("https://shop:8080"), url),
        ("/spec/backends/0/url", json!("shop:8080"), url),
        ("/spec/backends/0/url", json!("http://127.0.0.11:19000"), None),
        (
            "/spec/backends/1",
            json!({"name": "shop", "url": "http://b:1"}),
            Some("Duplicate value"),
        ),
        ("/spec/backends/1", json!({"name": "other", "url": "http://b:1"}), None),
    ];
    on_create(good::unit("rules"), rows);
    let rows = vec![
        ("/spec/cluster", json!("north"), Some("cluster is immutable")),
        ("/spec/cordoned", json!(true), None),
        ("/spec/router", json!("https://elsewhere:1"), None),
        ("/spec/onLeaseLoss", json!("Fence"), None),
        ("/spec/leaseDuration", json!("6s"), None),
    ];
    on_update(good::unit("rules"), rows);
    let bounds = Some("leaseDuration must be at least 5s and at most 5m");
    let rows = vec![
        ("/spec/onLeaseLoss", json!("Stop"), Some("Unsupported value")),
        ("/spec/leaseDuration", json!("4999ms"), bounds),
        ("/spec/leaseDuration", json!("5s"), None),
        ("/spec/leaseDuration", json!("5m"), None),
        ("/spec/leaseDuration", json!("5m1s"), bounds),
        ("/spec/leaseDuration", json!("soon"), Some("should match")),
    ];
    on_create(good::unit("rules-lease"), rows);
}

#[test]
fn a_keyspace_is_whole_in_itself() {
    let overrides = |list: Value| ("/spec/overrides", list);
    let (path, header) = (
        "path is given exactly for type Path",
        "header is given exactly for type Header",
    );
    let sources = |source: Value| json!([source]);
    let row = |(pointer, new): (&'static str, Value), refusal| (pointer, new, refusal);
    let rows = vec![
        ("/spec/slots", json!(0), Some("should be greater than or equal to 1")),
        (
            "/spec/slots",
            json!(16385),
            Some("should be less than or equal to 16384"),
        ),
        ("/spec/slots", json!(16384), None),
        (
            "/spec/slots",
            json!(8),
            Some("the slot of an override must be smaller than slots"),
        ),
        ("/spec/slots", json!(9), None),
        row(
            overrides(json!([{"keys": ["a"], "slot": 1}, {"keys": ["b", "a"], "slot": 2}])),
            Some("a key must not be in two overrides"),
        ),
        row(
            overrides(json!([{"keys": ["a", "a"], "slot": 1}])),
            Some("Duplicate value"),
        ),
        row(
            overrides(json!([{"keys": [], "slot": 1}])),
            Some("should have at least 1 items"),
        ),
        row(
            overrides(json!([{"keys": ["a"], "slot": -1}])),
            Some("should be greater than or equal to 0"),
        ),
        row(
            overrides(json!([{"keys": ["a"], "slot": 1}, {"keys": ["b"], "slot": 1}])),
            None,
        ),
        ("/spec/key/sources", json!([]), Some("should have at least 1 items")),
        ("/spec/key/sources", sources(json!({"type": "Path"})), Some(path)),
        (
            "/spec/key/sources",
            sources(json!({"type": "Header", "path": {"pattern": "(a)"}})),
            Some(header),
        ),
        (
            "/spec/key/sources",
            sources(json!({"type": "Path", "path": {"pattern": "(a)"}, "header": {"name": "a"}})),
            Some(header),
        ),
        (
            "/spec/key/sources",
            sources(json!({"type": "Cookie"})),
            Some("Unsupported value: \"Cookie\""),
        ),
        (
            "/spec/key/sources",
            sources(json!({"type": "Header", "header": {"name": "a b"}})),
            Some("should match"),
        ),
        (
            "/spec/key/sources",
            sources(json!({"type": "Header", "header": {"name": "X-MultiActive-Key"}})),
            Some("the routers remove x-multiactive- headers"),
        ),
        (
            "/spec/key/sources",
            sources(json!({"type": "Header", "header": {"name": "X-User"}})),
            None,
        ),
        (
            "/spec/key/onMissing",
            json!("Center"),
            Some("Unsupported value: \"Center\""),
        ),
        ("/spec/key/onMissing", json!("Any"), None),
        (
            "/spec/function",
            json!({"type": "Xxh3"}),
            Some("Unsupported value: \"Xxh3\""),
        ),
        ("/spec/function", json!({"type": "Md5"}), None),
        ("/spec/routes/0/pathPrefix", json!("orders"), Some("should match")),
        ("/spec/routes/0/pathPrefix", json!("/orders?x"), Some("should match")),
        (
            "/spec/routes/1",
            json!({"pathPrefix": "/orders", "backend": "b"}),
            Some("Duplicate value"),
        ),
        ("/spec/routes/1", json!({"pathPrefix": "/", "backend": "b"}), None),
    ];
    on_create(good::keyspace("rules"), rows);
}

#[test]
fn a_keyspace_keeps_slots_function_and_overrides() {
    let overrides = Some("overrides are immutable");
    let rows = vec![
        ("/spec/slots", json!(2048), Some("slots is immutable")),
        ("/spec/function/type", json!("Md5"), Some("function is immutable")),
        ("/spec/overrides", Value::Null, overrides),
        ("/spec/overrides", json!([]), overrides),
        ("/spec/overrides/0/slot", json!(9), overrides),
        ("/spec/overrides/2", json!({"keys": ["vip-9"], "slot": 9}), overrides),
        ("/spec/routes", json!([{"pathPrefix": "/", "backend": "b"}]), None),
        ("/spec/key/onMissing", json!("Any"), None),
    ];
    on_update(good::keyspace("kept"), rows);
    let without = with(&good::keyspace("kept-without"), "/spec/overrides", Value::Null);
    let rows = vec![
        ("/spec/overrides", json!([{"keys": ["a"], "slot": 1}]), overrides),
        ("/spec/routes", json!([]), None),
    ];
    on_update(without, rows);
}

#[test]
fn a_shard_range_is_consecutive_and_fails_over_elsewhere() {
    let rows = vec![
        (
            "/spec/firstSlot",
            json!(512),
            Some("firstSlot must not be larger than lastSlot"),
        ),
        ("/spec/firstSlot", json!(511), None),
        (
            "/spec/firstSlot",
            json!(-1),
            Some("should be greater than or equal to 0"),
        ),
        (
            "/spec/lastSlot",
            json!(16384),
            Some("should be less than or equal to 16383"),
        ),
        (
            "/spec/failoverUnits",
            json!(["east-1"]),
            Some("homeUnit must not be among failoverUnits"),
        ),
        (
            "/spec/failoverUnits",
            json!(["a", "b", "a"]),
            Some("failoverUnits must not name a unit twice"),
        ),
        ("/spec/failoverUnits", json!(["b", "a"]), None),
        ("/spec/failoverUnits", Value::Null, None),
        ("/spec/homeUnit", json!("East_1"), Some("should match")),
    ];
    on_create(good::shard_range("rules"), rows);
}
