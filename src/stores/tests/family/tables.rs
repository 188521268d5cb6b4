//! What a server and its tables must be, and what is said where they are not, or are no more.

use super::support::*;
use multiactive_stores::driver::{KeyspaceSpec, TableSpec};
use multiactive_stores::family::REFUSED;
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_cannot_be_fenced_are_refused_with_the_reason() {
    let server = shop().await;
    let mut admin = admin(&server).await;
    admin.query_drop("USE shop").await.unwrap();
    for sql in [
        "CREATE TABLE no_key (id INT, user_id VARCHAR(9) NOT NULL)",
        "CREATE TABLE nullable (id INT PRIMARY KEY, user_id VARCHAR(9))",
        &format!("CREATE TABLE computed (id INT PRIMARY KEY, user_id VARCHAR(9) AS (id) {STORED})"),
        "CREATE TABLE real_key (id INT PRIMARY KEY, user_id DOUBLE NOT NULL)",
        "CREATE TABLE other_engine (id INT PRIMARY KEY, user_id INT NOT NULL) ENGINE = MyISAM",
        "CREATE VIEW seen AS SELECT * FROM orders",
        "CREATE TABLE parent (id INT PRIMARY KEY, user_id INT NOT NULL)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE)",
        "CREATE TABLE fine (id INT PRIMARY KEY, user_id BIGINT NOT NULL)",
        "CREATE USER careless@'%'",
        "GRANT DROP ON shop.* TO careless@'%'",
    ] {
        admin.query_drop(sql).await.unwrap();
    }
    for (table, reason) in [
        ("missing", "TableMissing"),
        ("no_key", "NoPrimaryKey"),
        ("nullable", "ShardKeyNullable"),
        ("computed", "ShardKeyNullable, ShardKeyGenerated"),
        ("real_key", "ShardKeyType"),
        ("other_engine", "NotATable"),
        ("seen", "NotATable"),
        ("parent", "ForeignKeyActs"),
        ("fine", ""),
    ] {
        let mut spec = spec("east-1", &[]);
        spec.tables = vec![TableSpec {
            name: table.to_owned(),
            shard_key: Some("user_id".to_owned()),
            last_write: None,
        }];
        let driver = new(spec, access(&server));
        let findings = driver.check_tables().await.unwrap();
        let refused: Vec<_> = findings.iter().filter(|finding| finding.refused).collect();
        let reasons: Vec<_> = refused.iter().map(|finding| finding.reason).collect();
        assert_eq!(reasons.join(", "), reason, "{table}: {findings:?}");
        if table == "fine" {
            let warned = findings
                .iter()
                .find(|finding| finding.reason == "OwnerCanBypass")
                .unwrap();
            assert!(
                warned.message.contains("careless") && !warned.message.contains("shop_app"),
                "{warned:?}"
            );
        } else {
            let installed = driver.install().await;
            assert!(
                matches!(installed, Err(Error::TablesRefused(_))),
                "{table}: {installed:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_settings_do_not_fit_is_refused_by_name() {
    for (setting, value, want) in SETTINGS {
        let server = shop_with(&[(setting, value)]).await;
        let installed = driver(&server, "east-1", &[]).install().await;
        assert!(
            matches!(&installed, Err(Error::Setting { name, .. }) if *name == want),
            "{setting}: {installed:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_opens_behind_a_fence_that_is_not_whole_and_what_is_put_back_is_told() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    let driver = &east.driver;
    driver.install().await.unwrap();
    let mut admin = admin(&east.server).await;
    let trigger: String = admin
        .query_first("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION = 'UPDATE' AND TRIGGER_SCHEMA = 'shop'")
        .await
        .unwrap()
        .unwrap();
    let gone = ("a trigger that is gone", format!("DROP TRIGGER shop.{trigger}"));
    let others = AMISS.into_iter().map(|(what, sql)| (what, sql.to_owned()));
    for (number, (what, sql)) in std::iter::once(gone).chain(others).enumerate() {
        let at = 1 + 2 * number as u64;
        admin.query_drop(&sql).await.unwrap();
        let seen = driver.inspect().await.unwrap();
        assert_eq!((seen.amiss.len(), seen.lease), (1, None), "{what}: {:?}", seen.amiss);
        let opened = driver.apply(epoch(at), &[open(all(), at)], LIMITS).await;
        assert!(matches!(opened, Err(Error::NotInPlace { .. })), "{what}: {opened:?}");
        let fenced = driver.fence(&op("p"), epoch(at + 1), &all(), LIMITS).await;
        assert!(matches!(fenced, Err(Error::NotInPlace { .. })), "{what}: {fenced:?}");
        driver.install().await.unwrap();
        let seen = driver.inspect().await.unwrap();
        assert_eq!(seen.amiss, [""; 0], "{what}");
        let told = seen.warnings.iter().find(|finding| finding.reason == "FenceRepaired");
        assert!(told.is_some(), "{what}: {:?}", seen.warnings);
    }
    let gap = until("the breach at the other member", async || {
        let links = north.driver.links().await.unwrap();
        links[0].gap.clone().ok_or("none".to_owned())
    })
    .await;
    assert!(
        gap.contains("was gone") && gap.contains("compare the rows with east-1's"),
        "{gap}"
    );
    assert!(
        driver.links().await.unwrap()[0].gap.is_some(),
        "and of the link into it"
    );
    north.driver.compared(&east.unit).await.unwrap();
    assert_eq!(north.driver.links().await.unwrap()[0].gap, None);
    // The keyspace is fixed.
    let mut other = spec("east-1", &["north-1"]);
    other.keyspace = KeyspaceSpec {
        slots: 128,
        ..other.keyspace
    };
    let changed = new(other, access(&east.server)).install().await;
    assert!(matches!(changed, Err(Error::KeyspaceChanged { .. })), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_comes_after_the_fence_is_refused_and_one_before_it_is_checked() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let closing = [closed(multiactive_core::slots::SlotSet::range(100, 100), 2)];
    member.driver.apply(epoch(2), &closing, LIMITS).await.unwrap();
    let mut admin = admin(&member.server).await;
    admin.query_drop("USE shop").await.unwrap();
    let change = format!("SET NEW.user_id = '{}'", key_of(100, 0));
    let sql = format!("CREATE TRIGGER later BEFORE INSERT ON orders FOR EACH ROW {change}");
    admin.query_drop(sql).await.unwrap();
    let refused = member.driver.inspect().await.unwrap().refused;
    assert!(
        refused.iter().any(|finding| finding.reason == "LaterTrigger"),
        "{refused:?}"
    );
    let ours: String = admin
        .query_first("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_NAME LIKE 'guard_insert%'")
        .await
        .unwrap()
        .unwrap();
    for sql in precedes(&ours, &change) {
        admin.query_drop(sql).await.unwrap();
    }
    let refused = member.driver.inspect().await.unwrap().refused;
    assert!(refused.is_empty(), "{refused:?}");
    let mut app = app(&member.server).await;
    assert_eq!(code(insert(&mut app, "a", &key_of(3, 0)).await), REFUSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_comes_later_has_its_gate_here_and_nobody_his_own() {
    let member = alone().await;
    let mut admin = admin(&member.server).await;
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE 'gate\\_%' ORDER BY TABLE_NAME";
    assert_eq!(admin.query::<String, _>(sql).await.unwrap(), [""; 0]);
    let own = "gate_east_1_";
    let later = driver(&member.server, "east-1", &["north-1", "south-1"]);
    later.install().await.unwrap();
    let gates: Vec<String> = admin.query(sql).await.unwrap();
    assert!(gates.len() == 2 && gates[0].starts_with("gate_north_1_"), "{gates:?}");
    assert!(gates.iter().all(|gate| !gate.starts_with(own)), "{gates:?}");
    assert_eq!(later.inspect().await.unwrap().warnings, [], "nothing was amiss");
}
