//! Tables that cannot be fenced are refused with the reason; what could switch the fence off is refused or reported.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_stores::driver::{TableFinding, TableSpec};
use multiactive_stores::postgres::REFUSED;
use multiactive_stores::{Driver, Error, Postgres};
use support::*;
use tokio_postgres::Client;

fn tables(list: &[(&str, &str)]) -> Vec<TableSpec> {
    list.iter()
        .map(|(name, key)| TableSpec {
            name: (*name).to_owned(),
            shard_key: Some((*key).to_owned()),
            last_write: None,
        })
        .collect()
}

async fn found(driver: &Postgres, refused: bool) -> Vec<(String, &'static str)> {
    let all: Vec<TableFinding> = driver.check_tables().await.unwrap();
    all.into_iter()
        .filter(|one| one.refused == refused)
        .map(|one| (one.table, one.reason))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_cannot_be_fenced_are_refused_with_the_reason() {
    let server = shop().await;
    let owner = "GRANT shop_owner TO postgres; SET ROLE shop_owner; ";
    admin(&server)
        .await
        .batch_execute("GRANT CREATE ON SCHEMA public TO shop_owner")
        .await
        .unwrap();
    for (sql, key, wanted) in [
        ("SELECT", "user_id", "TableMissing"),
        ("CREATE TABLE t (user_id text NOT NULL)", "user_id", "NoPrimaryKey"),
        (
            "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, user_id text NOT NULL)",
            "user_id",
            "NoPrimaryKey",
        ),
        ("CREATE TABLE t (id int PRIMARY KEY)", "user_id", "NoShardKey"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text)",
            "user_id",
            "ShardKeyNullable",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id float NOT NULL)",
            "user_id",
            "ShardKeyType",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL GENERATED ALWAYS AS (id::text) STORED)",
            "user_id",
            "ShardKeyGenerated",
        ),
        (
            "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, user_id text NOT NULL)",
            "user_id",
            "NotLogged",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL) PARTITION BY HASH (id)",
            "user_id",
            "NotATable",
        ),
        (
            "CREATE VIEW t AS SELECT 1 AS id, 'a' AS user_id",
            "user_id",
            "NotATable",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL); CREATE TABLE t2 () INHERITS (t)",
            "user_id",
            "Partition",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL); ALTER TABLE t REPLICA IDENTITY NOTHING",
            "user_id",
            "NoReplicaIdentity",
        ),
        (
            "CREATE TABLE p (id int PRIMARY KEY);
             CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL, p int REFERENCES p ON DELETE CASCADE)",
            "user_id",
            "ForeignKeyActs",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL);
             CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE SET NULL)",
            "user_id",
            "ForeignKeyActs",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL);
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER \"~z\" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
            "user_id",
            "LaterTrigger",
        ),
        (
            "RESET ROLE; CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL)",
            "user_id",
            "NotOwner",
        ),
    ] {
        let admin = admin(&server).await;
        admin.batch_execute("DROP TABLE IF EXISTS c").await.unwrap();
        let drop = "DO $$ BEGIN IF to_regclass('t') IS NOT NULL THEN
                        IF (SELECT relkind FROM pg_class WHERE oid = 't'::regclass) = 'v' THEN DROP VIEW t;
                        ELSE DROP TABLE t CASCADE; END IF; END IF; END $$;
                    DROP TABLE IF EXISTS p; DROP FUNCTION IF EXISTS f";
        admin.batch_execute(drop).await.unwrap();
        admin.batch_execute(&format!("{owner}{sql}")).await.unwrap();
        let mut spec = spec("east-1", &[]);
        spec.tables = tables(&[("orders", "user_id"), ("public.t", key)]);
        let driver = Postgres::new(spec, access(&server));
        assert_eq!(found(&driver, true).await, [("public.t".to_owned(), wanted)], "{sql}");
        let refused = driver.install().await;
        assert!(
            matches!(&refused, Err(error @ Error::TablesRefused(_)) if error.reason() == "TablesRefused"),
            "{sql}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_between_sharded_tables_are_fenced() {
    let server = shop().await;
    let sql = "CREATE TABLE items (id text PRIMARY KEY, user_id text NOT NULL,
                                   orders text REFERENCES orders ON DELETE CASCADE);
               ALTER TABLE items OWNER TO shop_owner; GRANT ALL ON items TO shop_app";
    admin(&server).await.batch_execute(sql).await.unwrap();
    let mut spec = spec("east-1", &[]);
    spec.tables = tables(&[("orders", "user_id"), ("items", "user_id")]);
    let driver = Postgres::new(spec, access(&server));
    driver.install().await.unwrap();
    set_all(&driver, true, 1).await;
    extend(&driver, std::time::Duration::from_secs(600)).await;
    let app = app(&server).await;
    insert(&app, "a", &key_of(3, 0)).await.unwrap();
    let sql = "INSERT INTO items VALUES ('i', $1, 'a')";
    app.execute(sql, &[&key_of(100, 0)]).await.unwrap();
    driver
        .fence(
            &op("p"),
            epoch(2),
            &multiactive_core::slots::SlotSet::range(100, 100),
            LIMITS,
        )
        .await
        .unwrap();
    // The order's own slot is open, the item's is not: the cascade meets the fence.
    assert_eq!(code(app.execute("DELETE FROM orders", &[]).await), REFUSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_cannot_switch_the_fence_off() {
    let member = alone().await;
    let app = app(&member.server).await;
    for (what, sql) in [
        ("replica role", "SET session_replication_role = replica"),
        ("triggers off", "ALTER TABLE orders DISABLE TRIGGER ALL"),
        ("trigger dropped", "DROP TRIGGER \"~multiactive_guard\" ON orders"),
        ("rows of the fence", "UPDATE multiactive.slot SET open = true"),
        ("reading the fence", "SELECT * FROM multiactive.slot"),
        ("calling it", "SELECT multiactive.admit('users', 1)"),
        ("becoming the owner", "SET ROLE shop_owner"),
    ] {
        assert_eq!(code(app.batch_execute(sql).await), "42501", "{what}");
    }
    // A function of the user's own that stands in for one of ours changes nothing.
    let sql = "CREATE TEMP TABLE slot (keyspace text, slot int, open bool, server_start timestamptz);
               SET search_path = pg_temp, public";
    app.batch_execute(sql).await.unwrap();
    assert_eq!(
        code(app.batch_execute("INSERT INTO public.orders VALUES ('a', 'u1')").await),
        REFUSED
    );
    assert_eq!(
        found(&member.driver, false).await,
        [],
        "no warning where the roles are right"
    );

    let admin = admin(&member.server).await;
    admin.batch_execute("GRANT shop_owner TO shop_app").await.unwrap();
    assert_eq!(
        found(&member.driver, false).await,
        [("orders".to_owned(), "OwnerCanBypass")]
    );
    admin
        .batch_execute("REVOKE shop_owner FROM shop_app; GRANT SET ON PARAMETER session_replication_role TO shop_app")
        .await
        .unwrap();
    assert_eq!(
        found(&member.driver, false).await,
        [("all tables".to_owned(), "RoleSwitch")]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn install_puts_back_what_someone_took_away_and_writes_nothing_otherwise() {
    let member = alone().await;
    let admin = admin(&member.server).await;
    let position = async |client: &Client| -> String {
        client
            .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
            .await
            .unwrap()
            .get(0)
    };
    set_all(&member.driver, true, 1).await;
    member.driver.install().await.unwrap();
    // Autovacuum and checkpoints write by themselves: some round must be without a write.
    until("an install without a write", async || {
        let before = position(&admin).await;
        member.driver.install().await.unwrap();
        member.driver.apply(epoch(1), &[open(all(), 1)], LIMITS).await.unwrap();
        let after = position(&admin).await;
        if before == after {
            Ok(())
        } else {
            Err(format!("{before} to {after}"))
        }
    })
    .await;
    let publication: String = admin
        .query_one("SELECT quote_ident(pubname) FROM pg_publication", &[])
        .await
        .unwrap()
        .get(0);
    set_all(&member.driver, false, 2).await;
    let app = app(&member.server).await;
    for sql in [
        "ALTER TABLE orders DISABLE TRIGGER ALL".to_owned(),
        "DROP TRIGGER \"~multiactive_guard\" ON orders".to_owned(),
        "DROP TRIGGER \"~multiactive_truncate\" ON orders".to_owned(),
        "ALTER TABLE multiactive.opening ENABLE TRIGGER hold_back".to_owned(),
        format!("ALTER PUBLICATION {publication} DROP TABLE orders"),
        format!("ALTER PUBLICATION {publication} DROP TABLE multiactive.opening"),
        format!("DROP PUBLICATION {publication}"),
    ] {
        admin.batch_execute(&sql).await.unwrap();
        member.driver.install().await.unwrap();
        assert_eq!(code(insert(&app, "a", "u1").await), REFUSED, "{sql}");
        assert_eq!(code(app.batch_execute("TRUNCATE orders").await), REFUSED, "{sql}");
        let published = "SELECT count(*) FROM pg_publication_tables";
        assert_eq!(
            admin.query_one(published, &[]).await.unwrap().get::<_, i64>(0),
            8,
            "{sql}"
        );
        let guards = "SELECT count(*) FROM pg_trigger WHERE tgname = 'hold_back' AND tgenabled = 'R'";
        assert_eq!(admin.query_one(guards, &[]).await.unwrap().get::<_, i64>(0), 1, "{sql}");
    }
    let mut other = spec("east-1", &[]);
    other.keyspace.slots = 128;
    let changed = Postgres::new(other, access(&member.server)).install().await;
    assert!(matches!(changed, Err(Error::KeyspaceChanged { .. })), "{changed:?}");
}
