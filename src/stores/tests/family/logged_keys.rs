//! Rows that changed are found again by what the logs say of their keys, whatever those are like: to be compared, or told where a
//! unit was lost. Tables whose keys are not read there are compared whole.

use crate::support::*;
use crate::writers::*;
use multiactive_core::hash::Function;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Compared, Extent, KeyspaceSpec, StoreSpec, TableSpec};
use mysql_async::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Types of keys, and values of each.
const KEYS: [(&str, &[&str]); 14] = [
    (
        "VARCHAR(40) COLLATE utf8mb4_bin",
        &["''", "'a'", "'A'", "'ä'", "'😀'", "'b '", "'it''s'", r"'\\'"],
    ),
    (
        "VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci",
        &["'a'", "'ö'", "'Zz'"],
    ),
    (
        "VARCHAR(300) COLLATE utf8mb4_general_ci",
        &["'a'", "'É'", "REPEAT('ü', 200)"],
    ),
    ("CHAR(3) COLLATE utf8mb4_bin", &["''", "'a'", "'b '", "'😀'"]),
    (
        "CHAR(100) COLLATE utf8mb4_unicode_ci",
        &["''", "'a'", "REPEAT('é', 100)"],
    ),
    ("VARBINARY(16)", &["''", "X'00'", "X'6100'", "X'FF27'", "X'61'"]),
    (
        "BINARY(4)",
        &[
            "X'00000000'",
            "X'61620000'",
            "X'00000061'",
            "X'FFFFFFFF'",
            "X'20202020'",
        ],
    ),
    ("TINYINT", &["-128", "-1", "0", "127"]),
    ("SMALLINT UNSIGNED", &["0", "255", "256", "65535"]),
    ("MEDIUMINT", &["-8388608", "-1", "0", "8388607"]),
    ("INT UNSIGNED", &["0", "4294967295"]),
    ("BIGINT", &["-9223372036854775808", "-1", "0", "9223372036854775807"]),
    ("BIGINT UNSIGNED", &["0", "18446744073709551615"]),
    ("DATE", &["'1000-01-01'", "'2026-11-28'", "'9999-12-31'"]),
];

/// Those that are not read in the log.
const OTHERS: [(&str, &[&str]); 4] = [
    ("DECIMAL(20,6)", &["-1.5", "0", "12345.678901"]),
    ("DATETIME(3)", &["'2026-03-29 00:30:00.123'", "'2026-03-29 02:30:00'"]),
    ("ENUM ('sad', 'glad')", &["'sad'", "'glad'"]),
    ("DOUBLE", &["0.1", "3"]),
];

/// A key of several columns, in another order than those have, and the columns.
const PAIRS: &str = "
    CREATE TABLE shop.pairs (a VARCHAR(20) COLLATE utf8mb4_bin, b INT, note INT NOT NULL, c BINARY(2), PRIMARY KEY (c, a, b));
    INSERT INTO shop.pairs VALUES ('a', -1, 1, X'6100'), ('a', 1, 1, X'6100'), ('', 1, 1, X'6100'), ('', 1, 1, X'0000')";

/// The tables with a key of one column: name, type, values.
fn tables() -> Vec<(String, &'static str, &'static [&'static str])> {
    let of = |letter| {
        move |(number, (kind, values)): (usize, &(&'static str, &'static [&'static str]))| {
            (format!("{letter}{number}"), *kind, *values)
        }
    };
    let logged = KEYS.iter().chain(&ALSO).enumerate().map(of('k'));
    logged.chain(OTHERS.iter().enumerate().map(of('o'))).collect()
}

fn single(unit: &str, peer: &str) -> StoreSpec {
    let names = tables().into_iter().map(|(name, ..)| name);
    let tables = names.chain(["pairs".to_owned()]).map(|name| TableSpec {
        name,
        shard_key: None,
        last_write: None,
    });
    StoreSpec {
        keyspace: KeyspaceSpec {
            name: KeyspaceName::of_writer(&"orders".into()),
            slots: 1,
            function: Function::SingleWriter,
            overrides: BTreeMap::new(),
        },
        tables: tables.collect(),
        ..spec(unit, &[peer])
    }
}

fn one() -> SlotSet {
    SlotSet::range(0, 0)
}

/// East writes, and north follows; both have the same rows from the beginning.
async fn two() -> [Member; 2] {
    let mut members = Vec::new();
    for (unit, peer) in [("east-1", "north-1"), ("north-1", "east-1")] {
        let server = shop().await;
        let mut admin = admin(&server).await;
        for (name, kind, values) in tables() {
            // The log has the way past all kinds of columns, and those that it leaves out.
            let sql = format!(
                "CREATE TABLE shop.{name} (
                     note INT NOT NULL, v INT AS (note + 1) VIRTUAL, s INT AS (note + 2) {STORED}, t TEXT, d DECIMAL(10,3),
                     at TIMESTAMP(3) NULL, e ENUM ('x', 'y'), b BIT(9), k {kind}, w INT AS (note + 3) VIRTUAL, PRIMARY KEY (k))"
            );
            admin.query_drop(sql).await.unwrap();
            let rows = values
                .iter()
                .map(|value| format!("(1, 'text', 1.5, '2026-01-01', 'y', 3, {value})"));
            let sql = format!(
                "INSERT INTO shop.{name} (note, t, d, at, e, b, k) VALUES {}",
                rows.collect::<Vec<_>>().join(", ")
            );
            admin.query_drop(sql).await.unwrap();
        }
        admin.query_drop(PAIRS).await.unwrap();
        let driver = new(single(unit, peer), access(&server));
        driver.install().await.unwrap();
        lease(&driver).await;
        driver.beat().await.unwrap();
        members.push(Member {
            server,
            driver,
            unit: unit.into(),
        });
    }
    link_all(&members).await;
    let [east, north] = members.try_into().ok().unwrap();
    east.driver.apply(epoch(1), &[open(one(), 1)], LIMITS).await.unwrap();
    north.driver.apply(epoch(1), &[closed(one(), 1)], LIMITS).await.unwrap();
    [east, north]
}

async fn compare(here: &Member, there: &Member, extent: Extent) -> Compared {
    let from = peer(there);
    here.driver.compare(&from, &one(), None, extent, LONG).await.unwrap()
}

async fn whole(here: &Member, there: &Member) -> u64 {
    let got = compare(here, there, Extent::Changed).await;
    assert_eq!(got.differing, SlotSet::default(), "{got:?}");
    got.narrowed.expect("what changed is known").rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_keys_are_like_the_rows_that_changed_are_compared_whole_and_no_others() {
    let [east, north] = two().await;
    let horizon = north.driver.horizon(&peer(&east)).await.unwrap();
    let all = compare(&north, &east, Extent::All).await;
    assert_eq!(all.differing, SlotSet::default(), "{all:?}");
    let (driver, one) = (&north.driver, one());
    driver.found_equal(&east.unit, &one, horizon.as_ref()).await.unwrap();
    let others: usize = OTHERS.iter().map(|(_, values)| values.len()).sum();
    let mut want = u64::try_from(others).unwrap();
    assert_eq!(
        whole(&north, &east).await,
        want,
        "tables whose keys are not read are compared whole"
    );
    let mut client = app(&east.server).await;
    let logged: Vec<_> = tables()
        .into_iter()
        .filter(|(name, ..)| name.starts_with('k'))
        .collect();
    for (name, kind, values) in &logged {
        client
            .query_drop(format!("UPDATE {name} SET note = 2, t = NULL, d = NULL"))
            .await
            .unwrap();
        want += u64::try_from(values.len()).unwrap();
        assert_eq!(whole(&north, &east).await, want, "{kind}");
    }
    client.query_drop("UPDATE pairs SET note = 2").await.unwrap();
    want += 4;
    assert_eq!(whole(&north, &east).await, want);
    // Each of them is found where it is not the same.
    let count = counted(&north).await;
    for (name, ..) in tables() {
        by_hand(&north, &[&format!("UPDATE {name} SET note = 3")]).await;
    }
    by_hand(&north, &["UPDATE pairs SET note = 3"]).await;
    forget(&north, &count).await;
    let found = compare(&north, &east, Extent::Changed).await;
    assert!(found.narrowed.is_some(), "{found:?}");
    let told: BTreeSet<_> = found.examples.iter().map(|row| row.table.as_str()).collect();
    assert_eq!(told.len(), tables().len() + 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_keys_are_like_the_rows_that_another_did_not_get_are_listed() {
    let [east, north] = two().await;
    stop_links(&north).await;
    let mut client = app(&east.server).await;
    let mut want = BTreeMap::from([("pairs".to_owned(), 4)]);
    client.query_drop("UPDATE pairs SET note = 2").await.unwrap();
    for (name, _, values) in tables().iter().filter(|(name, ..)| name.starts_with('k')) {
        client.query_drop(format!("UPDATE {name} SET note = 2")).await.unwrap();
        want.insert(name.clone(), u64::try_from(values.len()).unwrap());
    }
    let owners = [(peer(&north), one())];
    let listed = east.driver.diverged(&op("failover"), &owners, LONG).await.unwrap();
    let sql = "SELECT tab, COUNT(*) FROM multiactive.divergence GROUP BY tab";
    let rows: Vec<(String, u64)> = admin(&east.server).await.query(sql).await.unwrap();
    assert_eq!(rows.into_iter().collect::<BTreeMap<_, _>>(), want);
    assert_eq!(listed.unlisted, Vec::<String>::new());
}
