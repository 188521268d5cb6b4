//! As `rules`, for what runs in units: workloads, stores, links, assignments.

use crate::good;
use crate::rules::{on_create, on_update};
use crate::support::with;
use serde_json::{Value, json};

#[test]
fn a_unit_workload_chooses_its_units_in_one_way() {
    let one = Some("exactly one of units, roles and selector must be given");
    let rows = vec![
        ("/spec/units", Value::Null, one),
        ("/spec/roles", json!(["Sharded"]), one),
        ("/spec/selector", json!({"matchLabels": {"a": "b"}}), one),
        ("/spec/units", json!([]), Some("should have at least 1 items")),
        ("/spec/units", json!(["east-1", "east-1"]), Some("Duplicate value")),
        (
            "/spec/units",
            json!(["north-1"]),
            Some("a patch must be for one of the units"),
        ),
        ("/spec/manifests", json!([]), Some("should have at least 1 items")),
        ("/spec/manifests", json!(["text"]), Some("must be of type object")),
        (
            "/spec/manifests",
            json!([{"kind": "ConfigMap", "metadata": {"name": "a"}}]),
            Some("apiVersion: Required value"),
        ),
        (
            "/spec/manifests",
            json!([{"apiVersion": "v1", "metadata": {"name": "a"}}]),
            Some("kind: Required value"),
        ),
        (
            "/spec/manifests",
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}]),
            Some("every manifest must have a metadata.name"),
        ),
        (
            "/spec/manifests",
            json!([{"apiVersion": "v1", "kind": "ConfigMap"}]),
            Some("metadata"),
        ),
        ("/spec/patches/0/target/kind", json!(""), Some("should be at least 1")),
        ("/spec/patches/0/merge", json!("text"), Some("must be of type object")),
        ("/spec/patches", Value::Null, None),
    ];
    on_create(good::unit_workload("rules"), rows);
    let by_role = with(&good::unit_workload("roles"), "/spec/units", Value::Null);
    let by_role = with(&by_role, "/spec/roles", json!(["Sharded"]));
    let rows = vec![
        (
            "/spec/roles",
            json!(["Sharded", "Sharded"]),
            Some("roles must not name a role twice"),
        ),
        ("/spec/roles", json!(["Sharded", "Standby"]), None),
    ];
    on_create(by_role, rows);
    let by_label = with(&good::unit_workload("labels"), "/spec/units", Value::Null);
    let by_label = with(
        &by_label,
        "/spec/selector",
        json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
    );
    let rows = vec![(
        "/spec/selector/matchExpressions/0/operator",
        json!("Like"),
        Some("Unsupported value: \"Like\""),
    )];
    on_create(by_label, rows);
}

#[test]
fn a_units_fencing_hook_is_reached_by_a_url_without_secrets_and_answers_in_time() {
    let at = |url: &str| json!({"url": url});
    let (url, credentials) = (
        Some("url must be an http or https URL with a host, and without a fragment"),
        Some("url must have no credentials in it"),
    );
    let timeout = Some("timeout must be at least 1s and at most 5m");
    let by_https = Some("url must be an https URL where credentials are given");
    let hook = |value: Value, refusal| ("/spec/fencingHook", value, refusal);
    let rows = vec![
        hook(json!({}), Some("url: Required value")),
        hook(at("http://pdu.example"), None),
        hook(at("https://pdu.example:8443/fence/north-1?outlet=7"), None),
        hook(at("http://10.0.0.7:8080/"), None),
        hook(at("http://[fd00::7]:8080/fence"), None),
        hook(at("ftp://pdu.example/"), url),
        hook(at("pdu.example:80"), url),
        hook(at("https:///fence"), url),
        hook(at("https://pdu.example:0/"), url),
        hook(at("https://pdu.example/#north-1"), url),
        hook(at("https://pdu.example/a b"), Some("should match")),
        hook(at("https://admin:secret@pdu.example/"), credentials),
        hook(at("https://token@pdu.example/"), credentials),
        hook(at("https://pdu.example/mail@example"), None),
        hook(json!({"url": "https://pdu.example/", "timeout": "999ms"}), timeout),
        hook(json!({"url": "https://pdu.example/", "timeout": "1s"}), None),
        hook(json!({"url": "https://pdu.example/", "timeout": "5m"}), None),
        hook(json!({"url": "https://pdu.example/", "timeout": "5m1s"}), timeout),
        hook(
            json!({"url": "https://pdu.example/", "timeout": "soon"}),
            Some("should match"),
        ),
        hook(json!({"url": "https://pdu.example/", "credentials": "pdu"}), None),
        hook(json!({"url": "http://pdu.example/", "credentials": "pdu"}), by_https),
        hook(
            json!({"url": "https://pdu.example/", "credentials": "Pdu"}),
            Some("should match"),
        ),
    ];
    on_create(good::unit("rules-hook"), rows);
    let rows = vec![
        hook(at("http://pdu.example"), None),
        hook(at("https://pdu.example"), None),
        hook(Value::Null, None),
    ];
    on_update(good::unit("rules-hook"), rows);
}

#[test]
fn a_stores_schedule_is_one_of_cron() {
    let with_zone = |zone: &str| json!({"schedule": "30 2 * * *", "timeZone": zone});
    let rows = vec![
        (
            "/spec/verification",
            json!({"schedule": "*/15 0-6 1,15 * MON-FRI"}),
            None,
        ),
        ("/spec/verification", with_zone("Europe/Berlin"), None),
        (
            "/spec/verification",
            with_zone("Europe Berlin"),
            Some("timeZone in body should match"),
        ),
        (
            "/spec/verification",
            json!({}),
            Some("spec.verification.schedule: Required value"),
        ),
        (
            "/spec/verification",
            json!({"schedule": "@daily"}),
            Some("schedule in body should"),
        ),
        (
            "/spec/verification",
            json!({"schedule": "30 2 * * * UTC"}),
            Some("schedule in body should match"),
        ),
        (
            "/spec/verification",
            json!({"schedule": "30 2 * * *", "keep": 0}),
            Some("keep in body should be greater than or equal to 1"),
        ),
    ];
    on_create(good::data_store("scheduled"), rows);
}

#[test]
fn a_store_with_a_single_writer_says_who_that_is_and_may_become_it() {
    let twice = Some("failoverUnits must not name a unit twice");
    let rows = vec![
        (
            "/spec/keyspace",
            json!("users"),
            Some("keyspace is given exactly for topology Sharded"),
        ),
        (
            "/spec/tables/0/shardKey",
            json!("id"),
            Some("shardKey is given exactly for topology Sharded"),
        ),
        (
            "/spec/singleWriter",
            Value::Null,
            Some("singleWriter is given exactly for topology SingleWriter"),
        ),
        (
            "/spec/engine",
            json!({"type": "MariaDB", "mariaDB": {"database": "shop"}}),
            None,
        ),
        (
            "/spec/engine",
            json!({"type": "MySQL", "mySQL": {"database": "shop"}}),
            None,
        ),
        (
            "/spec/singleWriter/homeUnit",
            json!("west-1"),
            Some("members has no database in singleWriter.homeUnit"),
        ),
        (
            "/spec/singleWriter/homeUnit",
            json!("north-1"),
            Some("homeUnit must not be among failoverUnits"),
        ),
        (
            "/spec/singleWriter/failoverUnits",
            json!(["west-1"]),
            Some("members has no database in one of singleWriter.failoverUnits"),
        ),
        ("/spec/singleWriter/failoverUnits", json!(["north-1", "north-1"]), twice),
        ("/spec/singleWriter/failoverUnits", json!(["south-1", "north-1"]), None),
        (
            "/spec/singleWriter/reads",
            json!("Anywhere"),
            Some("Unsupported value: \"Anywhere\""),
        ),
        ("/spec/singleWriter/reads", json!("Writer"), None),
        ("/spec/singleWriter/routes", Value::Null, None),
        ("/spec/singleWriter/maxLag", json!("5s"), None),
        (
            "/spec/singleWriter/maxLag",
            json!("10ms"),
            Some("maxLag must be at least 500ms and at most 1h"),
        ),
        (
            "/spec/singleWriter",
            json!({"homeUnit": "east-1", "reads": "Writer", "maxLag": "5s"}),
            Some("maxLag is a bound of local reads"),
        ),
    ];
    on_create(good::single_writer("writer-rules"), rows);
    let rows = vec![
        ("/spec/topology", json!("Sharded"), Some("topology is immutable")),
        // Git's wish may change: it moves nothing.
        ("/spec/singleWriter/homeUnit", json!("south-1"), None),
        ("/spec/singleWriter/reads", json!("Writer"), None),
    ];
    on_update(good::single_writer("writer-rules"), rows);
}

#[test]
fn a_store_that_several_units_write_says_whose_row_is_right_and_when_that_is_looked_for() {
    let table = |last_write: Value| {
        let table = json!([{"name": "orders", "shardKey": "user_id", "lastWrite": last_write}]);
        with(&good::shared("several-rules"), "/spec/tables", table)["spec"]["tables"].clone()
    };
    let without = json!([{"name": "orders", "shardKey": "user_id"}]);
    let rows = vec![
        ("/spec/conflict", json!("OwnerWins"), None),
        ("/spec/conflict", json!("Report"), None),
        ("/spec/conflict", json!("Random"), Some("Unsupported value: \"Random\"")),
        ("/spec/conflict", Value::Null, Some("lastWrite goes with conflict")),
        ("/spec/tables", table(json!("changed")), None),
        (
            "/spec/tables",
            without,
            Some("conflict LastWriterWins needs lastWrite of each table"),
        ),
        (
            "/spec/verification",
            Value::Null,
            Some("conflict needs verification.schedule"),
        ),
    ];
    on_create(good::shared("several-rules"), rows);
    let rows = vec![(
        "/spec/conflict",
        json!("Report"),
        Some("conflict goes with topology Sharded"),
    )];
    on_create(good::single_writer("several-single"), rows);
    let rows = vec![
        ("/spec/conflict", json!("OwnerWins"), None),
        (
            "/spec/conflict",
            Value::Null,
            Some("conflict can be changed, never added or taken away"),
        ),
        ("/spec/verification/schedule", json!("0 * * * *"), None),
    ];
    on_update(good::shared("several-once"), rows);
    let rows = vec![(
        "/spec/conflict",
        json!("Report"),
        Some("conflict can be changed, never added or taken away"),
    )];
    let scheduled = json!({"schedule": "0 * * * *"});
    on_update(
        with(&good::data_store("several-never"), "/spec/verification", scheduled),
        rows,
    );
}

#[test]
fn a_data_store_names_its_engine_tables_and_members() {
    let address = Some("should match");
    let rows = vec![
        (
            "/spec/engine",
            json!({"type": "PostgreSQL"}),
            Some("postgreSQL is given exactly for type PostgreSQL"),
        ),
        (
            "/spec/engine",
            json!({"type": "MariaDB", "postgreSQL": {"database": "shop"}}),
            Some("mariaDB is given exactly for type MariaDB"),
        ),
        (
            "/spec/engine",
            json!({"type": "MariaDB", "mariaDB": {"database": "shop"}}),
            None,
        ),
        (
            "/spec/engine",
            json!({"type": "MySQL", "mariaDB": {"database": "shop"}}),
            Some("mySQL is given exactly for type MySQL"),
        ),
        (
            "/spec/engine",
            json!({"type": "MySQL", "mySQL": {"database": "shop"}}),
            None,
        ),
        (
            "/spec/engine/type",
            json!("Oracle"),
            Some("Unsupported value: \"Oracle\""),
        ),
        (
            "/spec/topology",
            json!("SingleWriter"),
            Some("singleWriter is given exactly for topology SingleWriter"),
        ),
        (
            "/spec/singleWriter",
            json!({"homeUnit": "east-1"}),
            Some("singleWriter is given exactly for topology SingleWriter"),
        ),
        (
            "/spec/keyspace",
            Value::Null,
            Some("keyspace is given exactly for topology Sharded"),
        ),
        (
            "/spec/tables/0/shardKey",
            Value::Null,
            Some("shardKey is given exactly for topology Sharded"),
        ),
        ("/spec/tables", json!([]), Some("should have at least 1 items")),
        (
            "/spec/tables/1",
            json!({"name": "orders", "shardKey": "id"}),
            Some("Duplicate value"),
        ),
        ("/spec/tables/1", json!({"name": "items", "shardKey": "user_id"}), None),
        (
            "/spec/tables/1",
            json!({"name": "public.orders", "shardKey": "id"}),
            Some("a table must not be named twice"),
        ),
        (
            "/spec/tables/1",
            json!({"name": "other.orders", "shardKey": "id"}),
            None,
        ),
        ("/spec/members", json!([]), Some("should have at least 1 items")),
        (
            "/spec/members/1",
            json!({"unit": "east-1", "address": "a:1", "credentials": "c"}),
            Some("Duplicate value"),
        ),
        (
            "/spec/members/1",
            json!({"unit": "north-1", "address": "a:1", "credentials": "c"}),
            None,
        ),
        ("/spec/members/0/address", json!("db.shop.svc"), address),
        ("/spec/members/0/address", json!("db.shop.svc:0"), address),
        ("/spec/members/0/address", json!("127.0.0.11:15432"), None),
    ];
    on_create(good::data_store("rules"), rows);
    for engine in [
        json!({"type": "MariaDB", "mariaDB": {"database": "shop"}}),
        json!({"type": "MySQL", "mySQL": {"database": "shop"}}),
    ] {
        let mut store = good::data_store("rules");
        store["spec"]["engine"] = engine;
        let rows = vec![
            (
                "/spec/tables/1",
                json!({"name": "shop.orders", "shardKey": "id"}),
                Some("a table must not be named twice"),
            ),
            (
                "/spec/tables/1",
                json!({"name": "public.orders", "shardKey": "id"}),
                None,
            ),
        ];
        on_create(store, rows);
    }
    let kept = Some("tables can be added, never changed or taken away");
    let rows = vec![
        ("/spec/keyspace", json!("other"), Some("keyspace is immutable")),
        (
            "/spec/engine/postgreSQL/database",
            json!("other"),
            Some("engine is immutable"),
        ),
        ("/spec/tables/0/shardKey", json!("id"), kept),
        // Taking it away would let it come back with another shard key.
        ("/spec/tables", json!([{"name": "items", "shardKey": "user_id"}]), kept),
        ("/spec/tables/0/name", json!("public.orders"), kept),
        ("/spec/tables/1", json!({"name": "items", "shardKey": "user_id"}), None),
        ("/spec/members/0/address", json!("elsewhere:5432"), None),
    ];
    on_update(good::data_store("rules"), rows);
}

#[test]
fn a_replication_link_is_named_after_its_ends_and_never_changes() {
    let rows = vec![
        (
            "/metadata/name",
            json!("other"),
            Some("metadata.name must be store-from-to"),
        ),
        ("/spec/to", json!("east-1"), Some("from and to must differ")),
    ];
    on_create(good::replication_link(), rows);
    let rows = vec![
        ("/spec/to", json!("south-1"), Some("spec is immutable")),
        ("/metadata/labels", json!({"a": "b"}), None),
    ];
    on_update(good::replication_link(), rows);
}

#[test]
fn a_unit_assignment_is_named_after_its_unit() {
    let rows = vec![
        (
            "/metadata/name",
            json!("other"),
            Some("metadata.name must be the name of the unit"),
        ),
        (
            "/spec/stores/0/local/address",
            json!("db.shop.svc"),
            Some("should match"),
        ),
    ];
    on_create(good::unit_assignment("rules"), rows);
    let rows = vec![
        ("/spec/cluster", json!("north"), Some("cluster is immutable")),
        ("/spec/backends", json!([]), None),
    ];
    on_update(good::unit_assignment("rules"), rows);
}
