//! The one slot of a store with a single writer is compared a range of keys at a time: each row is in one of them, whatever keys
//! are like, what differs is told by the range that has it, and rows that come and go at the borders are no difference.

use crate::support::*;
use crate::writers::*;
use multiactive_core::hash::Function;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Compared, Difference, Extent, KeyspaceSpec, Part, Place, Side, StoreSpec, TableSpec};
use mysql_async::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// Tables whose keys are in order by all kinds of columns, one without rows, one whose key's order is not known, and one whose keys
/// north puts in another order.
const TABLES: &str = "
    CREATE TABLE shop.items (region VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci, number INT, at TIMESTAMP(3) NOT NULL,
                             code CHAR(3) COLLATE utf8mb4_bin, note TEXT, PRIMARY KEY (region, at, number, code));
    CREATE TABLE shop.files (id VARBINARY(16) PRIMARY KEY, price DECIMAL(30,12));
    CREATE TABLE shop.moods (mood ENUM ('sad', 'glad') PRIMARY KEY, note TEXT);
    CREATE TABLE shop.pages (id VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY);
    CREATE TABLE shop.nothing (id BIGINT UNSIGNED, `odd `` name` DATE, PRIMARY KEY (id, `odd `` name`));
    CREATE TABLE shop.prices (price DECIMAL(20,6), day DATE, PRIMARY KEY (price, day))";

const ROWS: &str = "
    INSERT INTO items SELECT r, n, TIMESTAMP('2026-03-29 00:30:00') + INTERVAL 7 * n MINUTE, c, 'x'
    FROM (SELECT 'a' r UNION ALL SELECT 'Z' UNION ALL SELECT 'ä' UNION ALL SELECT 'ö' UNION ALL SELECT 'ss' UNION ALL SELECT '' UNION ALL SELECT 'it''s'
          UNION ALL SELECT 'a\\\\b' UNION ALL SELECT '\\\"' UNION ALL SELECT '%_' UNION ALL SELECT 'new\\nline' UNION ALL SELECT 'east-1') r,
         (SELECT -3 n UNION ALL SELECT -2 UNION ALL SELECT -1 UNION ALL SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) n,
         (SELECT 'b' c UNION ALL SELECT 'B' UNION ALL SELECT '😀') c;
    INSERT INTO files VALUES ('', 0);
    INSERT INTO pages VALUES ('a'), ('B'), ('c');
    INSERT INTO moods VALUES ('sad', NULL), ('glad', 'why')";

/// So many rows are in each table: files, items, moods, nothing, orders, pages, prices.
const COUNTS: [u64; 7] = [101, 12 * 7 * 3, 2, 0, 60, 3, 10];

fn single(unit: &str, peer: &str) -> StoreSpec {
    let table = |name: &str| TableSpec {
        name: name.to_owned(),
        shard_key: None,
        last_write: None,
    };
    StoreSpec {
        keyspace: KeyspaceSpec {
            name: KeyspaceName::of_writer(&"orders".into()),
            slots: 1,
            function: Function::SingleWriter,
            overrides: BTreeMap::new(),
        },
        tables: ["orders", "shop.items", "files", "moods", "nothing", "pages", "prices"]
            .map(table)
            .into(),
        ..spec(unit, &[peer])
    }
}

fn one() -> SlotSet {
    SlotSet::range(0, 0)
}

/// East writes, and north follows.
async fn two() -> [Member; 2] {
    let mut members = Vec::new();
    for (unit, peer) in [("east-1", "north-1"), ("north-1", "east-1")] {
        let server = shop().await;
        let tables = match unit {
            "east-1" => TABLES.to_owned(),
            _ => TABLES.replace(
                "COLLATE utf8mb4_bin PRIMARY KEY",
                "COLLATE utf8mb4_general_ci PRIMARY KEY",
            ),
        };
        admin(&server).await.query_drop(tables).await.unwrap();
        let driver = new(single(unit, peer), access(&server));
        driver.install().await.unwrap();
        lease(&driver).await;
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

/// The same with rows.
async fn filled() -> [Member; 2] {
    let [east, north] = two().await;
    let mut there = app(&east.server).await;
    there.query_drop(ROWS).await.unwrap();
    for number in 0..100 {
        let (id, price) = (vec![(number * 37 % 256) as u8, b'x', 0], f64::from(number) / 7.0);
        there
            .exec_drop("INSERT INTO files VALUES (?, ?)", (id, price))
            .await
            .unwrap();
    }
    for number in 1..=60 {
        insert(&mut there, &format!("order {number}"), "u").await.unwrap();
    }
    for number in -5..5 {
        let sql = format!("INSERT INTO prices VALUES ({number} / 3, '2026-01-01')");
        there.query_drop(sql).await.unwrap();
    }
    [east, north]
}

/// All parts of so many rows, each with where it begins.
async fn parts(here: &Member, there: &Member, rows: u64) -> Vec<(Option<Place>, Compared)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let part = Part { after, rows };
        let got = here
            .driver
            .compare(&peer(there), &one(), Some(&part), Extent::All, LONG)
            .await
            .unwrap();
        after = got.ends.clone();
        all.push((part.after, got));
        if after.is_none() {
            return all;
        }
        assert!(all.len() < 2000, "it does not come to its end: {all:?}");
    }
}

fn rows(parts: &[(Option<Place>, Compared)]) -> u64 {
    parts.iter().map(|(_, got)| got.rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_is_in_one_part_whatever_its_key_is() {
    let [east, north] = filled().await;
    let total: u64 = COUNTS.iter().sum();
    let sizes = north.driver.sizes(&peer(&east), LONG).await.unwrap();
    assert_eq!(sizes, BTreeMap::from([(0, total)]));
    for (size, at_least, at_most) in [(20, 20, 26), (101, 4, 7), (10_000, 3, 3)] {
        let parts = parts(&north, &east, size).await;
        assert_eq!(rows(&parts), total, "of {size}: {parts:?}");
        // One ends behind each table whose order is not known, or not the same.
        assert!((at_least..=at_most).contains(&parts.len()), "{} of {size}", parts.len());
        for (after, got) in &parts {
            assert_eq!(got.differing, SlotSet::default(), "of {size} behind {after:?}: {got:?}");
            assert!(got.rows <= size + 3, "{got:?}");
        }
    }
    let whole = north
        .driver
        .compare(&peer(&east), &one(), None, Extent::All, LONG)
        .await
        .unwrap();
    assert_eq!((whole.rows, whole.ends), (total, None));
    // A place upon another order, or in a table of another name, is none.
    let place = |table: &str| Place {
        table: table.to_owned(),
        order: "another".to_owned(),
        key: vec!["x".to_owned()],
    };
    for (table, left) in [
        ("files", total),
        ("moods", total - 101),
        ("orders", 60 + 3 + 10 + 252),
        ("q", 252),
    ] {
        let mut rows = 0;
        let mut after = Some(place(table));
        while after.is_some() {
            let part = Part { after, rows: 10_000 };
            let got = north
                .driver
                .compare(&peer(&east), &one(), Some(&part), Extent::All, LONG)
                .await
                .unwrap();
            (rows, after) = (rows + got.rows, got.ends);
        }
        assert_eq!(rows, left, "behind {table}");
    }
}

/// The text whose bytes are written so.
fn text(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_at_a_border_is_told_by_the_part_that_has_it() {
    let [east, north] = filled().await;
    let seen = parts(&north, &east, 25).await;
    let ends = |got: &Compared| got.ends.clone().unwrap_or_default();
    let first = |table: &str| seen.iter().position(|(_, got)| ends(got).table == table).unwrap();
    let (files, orders) = (first("files") + 1, first("orders"));
    let (file, order) = (&ends(&seen[files].1).key[0], &ends(&seen[orders].1).key[0]);
    // The last row of a part is gone, and behind the last of another there is one more.
    let order = text(order);
    let gone = format!("DELETE FROM files WHERE id = X'{file}'");
    let more = format!("INSERT INTO orders (id, user_id) VALUES ('{order}!', 'u')");
    let other = "UPDATE moods SET note = 'another' WHERE mood = 'sad'";
    by_hand(&north, &[&gone, &more, other]).await;
    let after = parts(&north, &east, 25).await;
    let differing: BTreeSet<_> = after
        .iter()
        .enumerate()
        .filter(|(_, (_, got))| !got.differing.is_empty())
        .map(|(number, (_, got))| (number, got.examples.clone()))
        .map(|(number, examples)| {
            (
                number,
                examples.into_iter().map(|row| (row.table, row.key)).collect::<Vec<_>>(),
            )
        })
        .collect();
    let of = |number: usize, table: &str, key: String| (number, vec![(table.to_owned(), key)]);
    let want = BTreeSet::from([
        of(files, "files", format!("id={file}")),
        of(first("moods"), "moods", "mood=sad".to_owned()),
        of(orders + 1, "orders", format!("id={order}!")),
    ]);
    assert_eq!(differing, want);
    // All at once finds the same.
    let whole = north
        .driver
        .compare(&peer(&east), &one(), None, Extent::All, LONG)
        .await
        .unwrap();
    let sides: Vec<_> = whole.examples.iter().map(|Difference { side, .. }| *side).collect();
    assert_eq!(sides.len(), 3, "{whole:?}");
    assert!(
        [Side::Here, Side::There, Side::Both]
            .iter()
            .all(|side| sides.contains(side))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_at_the_borders_are_no_difference() {
    let [east, north] = two().await;
    let writers = [
        Writer::start(&east, "a", 0..190).await,
        Writer::start(&east, "b", 0..190).await,
    ];
    writers[0].more(200).await;
    let mut seen = 0;
    for round in 0..3 {
        let parts = parts(&north, &east, 9).await;
        for (after, got) in &parts {
            assert_eq!(
                got.differing,
                SlotSet::default(),
                "round {round}, behind {after:?}: {got:?}"
            );
        }
        seen += parts.len();
        writers[1].more(20).await;
    }
    assert!(seen > 8, "{seen} parts");
    for writer in writers {
        println!("the longest write took {:?}", writer.stop().await);
    }
}
