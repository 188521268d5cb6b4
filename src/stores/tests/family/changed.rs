//! Rows that were found equal are compared whole only where they changed since, at one side or the other: by the logs of both.

use super::support::*;
use super::writers::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{Compared, Extent, Horizon, Part, Side};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

async fn compare(here: &Member, there: &Member, slots: &SlotSet, extent: Extent) -> Compared {
    let from = peer(there);
    here.driver.compare(&from, slots, None, extent, LONG).await.unwrap()
}

async fn changed(here: &Member, there: &Member, slots: &SlotSet) -> Compared {
    compare(here, there, slots, Extent::Changed).await
}

/// How many rows were compared whole; `None` where all were.
async fn narrowed(here: &Member, there: &Member, slots: &SlotSet) -> Option<u64> {
    changed(here, there, slots).await.narrowed.map(|narrowed| narrowed.rows)
}

async fn horizon(here: &Member, there: &Member) -> Option<Horizon> {
    here.driver.horizon(&peer(there)).await.unwrap()
}

async fn remember(here: &Member, there: &Member, slots: &SlotSet, horizon: Option<&Horizon>) {
    here.driver.found_equal(&there.unit, slots, horizon).await.unwrap();
}

/// Compares all rows of these slots, which are equal, and has that remembered.
async fn found_equal(here: &Member, there: &Member, slots: &SlotSet) {
    let horizon = horizon(here, there).await.expect("a horizon");
    let compared = compare(here, there, slots, Extent::All).await;
    assert_eq!(compared.differing, SlotSet::default(), "{compared:?}");
    remember(here, there, slots, Some(&horizon)).await;
}

/// East has all slots, with a hundred rows, two in each of the first fifty; north follows.
async fn with_rows() -> Vec<Member> {
    let members = mesh(&["east-1", "north-1"]).await;
    set_all(&members[0].driver, true, 1).await;
    for member in &members {
        member.driver.beat().await.unwrap();
    }
    let mut client = app(&members[0].server).await;
    for number in 0..100 {
        let key = key_of(number % 50, usize::from(number / 50));
        insert(&mut client, &format!("r{number}"), &key).await.unwrap();
    }
    rows_everywhere(&members, 100).await;
    members
}

/// Root, whose writes go into the log.
async fn logged(member: &Member) -> Conn {
    client(&member.server, "root").await
}

/// Writes past the log, and as if nobody had counted it.
async fn unnoticed(member: &Member, sql: &[&str]) {
    let count = counted(member).await;
    by_hand(member, sql).await;
    assert_ne!(counted(member).await, count, "it was counted");
    forget(member, &count).await;
}

fn told(compared: &Compared) -> Vec<(&str, Side)> {
    let mut told: Vec<_> = compared
        .examples
        .iter()
        .map(|row| (row.key.trim_start_matches("id="), row.side))
        .collect();
    told.sort_by_key(|(key, _)| *key);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changed_at_either_side_is_found_and_what_did_not_is_compared_by_its_keys() {
    let members = with_rows().await;
    let [east, north] = &members[..] else { panic!() };
    found_equal(north, east, &all()).await;
    let again = changed(north, east, &all()).await;
    assert_eq!((again.rows, again.differing.is_empty()), (100, true), "{again:?}");
    assert_eq!(again.narrowed.map(|narrowed| narrowed.rows), Some(0));
    // By way of the fence and the links: no difference, and no more than what was written is compared whole.
    let mut client = app(&east.server).await;
    for sql in [
        "UPDATE orders SET amount = amount + 1 WHERE id IN ('r1', 'r2')",
        "DELETE FROM orders WHERE id = 'r3'",
        "UPDATE orders SET id = 'R4' WHERE id = 'r4'",
    ] {
        client.query_drop(sql).await.unwrap();
    }
    let written = changed(north, east, &all()).await;
    assert_eq!((written.rows, written.differing.is_empty()), (99, true), "{written:?}");
    assert_eq!(written.narrowed.map(|narrowed| narrowed.rows), Some(3));
    let writer = Writer::start(east, "w", 60..190).await;
    writer.more(200).await;
    for _ in 0..10 {
        let hot = changed(north, east, &all()).await;
        assert_eq!(hot.differing, SlotSet::default(), "{hot:?}");
        assert!(
            hot.narrowed.is_some_and(|narrowed| (1..=53).contains(&narrowed.rows)),
            "rows changed meanwhile"
        );
        writer.more(20).await;
    }
    writer.stop().await;
    // Of what changed since, all columns count, whoever got them wrong; of the rest, which nobody wrote, the keys.
    unnoticed(
        north,
        &[
            "UPDATE orders SET amount = 70 WHERE id = 'r1'",
            "DELETE FROM orders WHERE id = 'R4'",
            "UPDATE orders SET amount = 70 WHERE id = 'r10'",
            "DELETE FROM orders WHERE id = 'r11'",
            &format!("INSERT INTO orders VALUES ('extra', '{}', 1)", key_of(52, 0)),
        ],
    )
    .await;
    // As many are left on both sides.
    unnoticed(north, &["DELETE FROM orders WHERE id = 'r16'"]).await;
    unnoticed(east, &["DELETE FROM orders WHERE id = 'r66'"]).await;
    let found = changed(north, east, &all()).await;
    let slots: SlotSet = [(1, 1), (4, 4), (11, 11), (16, 16), (52, 52)].into_iter().collect();
    assert_eq!(found.differing, slots, "{found:?}");
    let want = [
        ("R4", Side::There),
        ("extra", Side::Here),
        ("r1", Side::Both),
        ("r11", Side::There),
        ("r16", Side::There),
        ("r66", Side::Here),
    ];
    assert_eq!(told(&found), want);
    // Part by part it is the same.
    let (mut ends, mut differing) = (None, SlotSet::default());
    loop {
        let part = Part { after: ends, rows: 20 };
        let (from, all) = (peer(east), all());
        let verb = north.driver.compare(&from, &all, Some(&part), Extent::Changed, LONG);
        let got = verb.await.unwrap();
        assert!(got.narrowed.is_some(), "{got:?}");
        differing = differing.union(&got.differing);
        ends = got.ends;
        if ends.is_none() {
            break;
        }
    }
    assert_eq!(differing, slots);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_wrote_a_row_and_in_whichever_log_it_is_it_has_changed() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut client = app(&east.server).await;
    for number in 0..20 {
        insert(&mut client, &format!("r{number}"), &key_of(number, 0))
            .await
            .unwrap();
    }
    rows_everywhere(&members, 20).await;
    for member in &members {
        member.driver.beat().await.unwrap();
    }
    found_equal(south, east, &all()).await;
    // Another unit has a slot for a while: in the logs of these two its rows are that one's.
    let slot = SlotSet::range(7, 7);
    let move_to = async |from: &Member, to: &Member, at: u64| {
        from.driver
            .apply(epoch(at), &[closed(slot.clone(), at)], LIMITS)
            .await
            .unwrap();
        to.driver
            .apply(epoch(at + 1), &[open(slot.clone(), at + 1)], LIMITS)
            .await
            .unwrap();
    };
    let has = async |member: &Member, amount: u32| {
        let mut client = admin(&member.server).await;
        let sql = "SELECT amount FROM shop.orders WHERE id = 'r7'";
        until("the row to come", async || {
            let is: Option<u32> = client.query_first(sql).await.unwrap();
            (is == Some(amount)).then_some(()).ok_or(format!("{is:?}"))
        })
        .await;
    };
    move_to(east, north, 2).await;
    let sql = "UPDATE orders SET amount = 7 WHERE id = 'r7'";
    app(&north.server).await.query_drop(sql).await.unwrap();
    for member in [east, south] {
        has(member, 7).await;
    }
    move_to(north, east, 4).await;
    assert_eq!(narrowed(south, east, &all()).await, Some(1));
    unnoticed(south, &["UPDATE orders SET amount = 70 WHERE id = 'r7'"]).await;
    let found = changed(south, east, &all()).await;
    assert_eq!((told(&found), &found.differing), (vec![("r7", Side::Both)], &slot));
    // In the log of one of the two alone: two units that write one slot.
    for member in [east, north] {
        stop_links(member).await;
    }
    let both = [open(SlotSet::range(9, 9), 6)];
    south.driver.apply(epoch(6), &both, LIMITS).await.unwrap();
    let sql = "UPDATE orders SET amount = 9 WHERE id = 'r9'";
    app(&south.server).await.query_drop(sql).await.unwrap();
    let found = changed(south, east, &all()).await;
    assert_eq!(told(&found), [("r7", Side::Both), ("r9", Side::Both)]);
    assert_eq!(found.narrowed.map(|narrowed| narrowed.rows), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_past_the_log_says_so_and_all_rows_are_compared() {
    let members = with_rows().await;
    let [east, north] = &members[..] else { panic!() };
    for (member, id, slot) in [(north, "r10", 10), (east, "r13", 13)] {
        found_equal(north, east, &all()).await;
        assert_eq!(narrowed(north, east, &all()).await, Some(0));
        by_hand(member, &[&format!("UPDATE orders SET amount = 70 WHERE id = '{id}'")]).await;
        let found = changed(north, east, &all()).await;
        assert_eq!(found.differing, SlotSet::range(slot, slot), "{found:?}");
        assert_eq!((told(&found), found.narrowed.is_none()), (vec![(id, Side::Both)], true));
        by_hand(member, &[&format!("UPDATE orders SET amount = 1 WHERE id = '{id}'")]).await;
    }
    // Root too, where slots are open, and by all kinds of statements.
    let (mut root, key) = (admin(&east.server).await, key_of(3, 0));
    let statements = [
        format!("INSERT INTO shop.orders VALUES ('past', '{key}', 1)"),
        "UPDATE shop.orders SET amount = 2 WHERE id = 'r3'".to_owned(),
        "DELETE FROM shop.orders WHERE id = 'r3'".to_owned(),
    ];
    for sql in &statements {
        assert_eq!(code(root.query_drop(sql).await), "MA006", "{sql}");
    }
    let mut client = client(&north.server, "multiactive_agent").await;
    let refused = client.query_drop("CALL multiactive.past_the_log()").await;
    assert_eq!(code(refused), "MA006", "he still writes to the log");
    // While somebody does, nobody notes that rows are equal, for he may not have committed.
    for past in PAST_THE_LOG {
        client.query_drop(past).await.unwrap();
    }
    let twice = root.query_drop("CALL multiactive.past_the_log()").await;
    twice.expect("at another server");
    assert_eq!(horizon(north, east).await, None);
    root.query_drop(BACK_IN_THE_LOG).await.unwrap();
    assert_eq!(horizon(north, east).await, None);
    for sql in [
        "START TRANSACTION",
        "UPDATE shop.orders SET amount = 70 WHERE id = 'r7'",
        "COMMIT",
        BACK_IN_THE_LOG,
    ] {
        client.query_drop(sql).await.unwrap();
    }
    let found = changed(north, east, &all()).await;
    assert_eq!((found.differing, found.narrowed), (SlotSet::range(7, 7), None));
    // Rows that are copied are written past the log; where none has to be, none is.
    let copied = north.driver.reseed(&peer(east), LONG).await.unwrap();
    assert_eq!(copied.written, 1);
    assert_eq!(narrowed(north, east, &all()).await, None);
    found_equal(north, east, &all()).await;
    assert_eq!(north.driver.reseed(&peer(east), LONG).await.unwrap().written, 0);
    running(north, east).await;
    // MySQL passes over what was copied, and cannot read its log from before that any more.
    assert!([None, Some(0)].contains(&narrowed(north, east, &all()).await));
    found_equal(north, east, &all()).await;
    assert_eq!(narrowed(north, east, &all()).await, Some(0));
    // So is whoever took the fence away.
    let mut there = admin(&east.server).await;
    let trigger: String = there
        .query_first("SELECT name FROM multiactive.placed WHERE kind = 'trigger' AND name LIKE 'guard_update%'")
        .await
        .unwrap()
        .unwrap();
    there
        .query_drop(format!("DROP TRIGGER shop.`{trigger}`"))
        .await
        .unwrap();
    there
        .query_drop("UPDATE shop.orders SET amount = 70 WHERE id = 'r8'")
        .await
        .unwrap();
    east.driver.install().await.unwrap();
    let found = changed(north, east, &all()).await;
    assert_eq!((found.differing, found.narrowed), (SlotSet::range(8, 8), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_a_log_and_nobody_sees_yet_has_changed_since() {
    let members = with_rows().await;
    let [east, north] = &members[..] else { panic!() };
    let mut there = admin(&east.server).await;
    if let Some(plugin) = ANSWERS_PLUGIN {
        there.query_drop(plugin).await.unwrap();
    }
    for set in AWAITS_ANSWERS {
        // For longer than all of this takes: it is ended below.
        let set = set.replace("2000", "60000");
        there.query_drop(format!("SET GLOBAL {set}")).await.unwrap();
    }
    let mut writer = app(&east.server).await;
    let write = tokio::spawn(async move {
        let sql = "UPDATE orders SET amount = 7 WHERE id = 'r7'";
        writer.query_drop(sql).await.unwrap();
    });
    let sql = "SELECT amount FROM shop.orders WHERE id = 'r7'";
    let mut here = admin(&north.server).await;
    until("the row to come", async || {
        let amount: Option<u32> = here.query_first(sql).await.unwrap();
        (amount == Some(7)).then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    let horizon = horizon(north, east).await;
    let seen: Option<u32> = there.query_first(sql).await.unwrap();
    assert_eq!(seen, Some(1), "it is seen there already");
    let ends = format!("SET GLOBAL {}", AWAITS_ANSWERS[3]);
    there.query_drop(ends).await.unwrap();
    write.await.unwrap();
    let compared = compare(north, east, &all(), Extent::All).await;
    assert_eq!(compared.differing, SlotSet::default(), "{compared:?}");
    remember(north, east, &all(), horizon.as_ref()).await;
    assert_eq!(narrowed(north, east, &all()).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_many_rows_changed_all_are_compared() {
    let members = with_rows().await;
    let [east, north] = &members[..] else { panic!() };
    found_equal(north, east, &all()).await;
    let mut client = app(&east.server).await;
    client.query_drop("SET SESSION autocommit = 0").await.unwrap();
    let mut last = 0_u32;
    // More than a third of the rows, and more than a log is read for.
    for (many, want) in [(1100, Some(1200)), (50_100, None)] {
        while last < many {
            let rows = (last..many.min(last + 500)).map(|number| format!("('m{number}', '{}', 1)", key_of(1, 0)));
            let sql = format!("INSERT INTO orders VALUES {}", rows.collect::<Vec<_>>().join(", "));
            client.query_drop(sql).await.unwrap();
            last = many.min(last + 500);
        }
        client.query_drop("COMMIT").await.unwrap();
        rows_everywhere(&members, u64::from(many) + 100).await;
        unnoticed(north, &["UPDATE orders SET amount = 70 WHERE id = 'r7'"]).await;
        let found = changed(north, east, &all()).await;
        assert_eq!(found.differing, SlotSet::range(7, 7), "{found:?}");
        let whole = found.narrowed.map(|narrowed| narrowed.rows);
        assert_eq!((found.rows, whole), (u64::from(many) + 100, want));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_not_known_what_changed_all_rows_are_compared() {
    let members = with_rows().await;
    let [east, north] = &members[..] else { panic!() };
    let (mut here, mut there) = (admin(&north.server).await, admin(&east.server).await);
    assert_eq!(narrowed(north, east, &all()).await, None, "nothing was found equal");
    found_equal(north, east, &all()).await;
    assert_eq!(narrowed(north, east, &all()).await, Some(0));
    remember(north, east, &SlotSet::range(5, 5), None).await;
    assert_eq!(narrowed(north, east, &all()).await, None, "one slot differed since");
    found_equal(north, east, &SlotSet::range(0, 19)).await;
    assert_eq!(narrowed(north, east, &all()).await, None, "only some slots were");
    assert_eq!(narrowed(north, east, &SlotSet::range(3, 5)).await, Some(0));
    // What changes neither tables nor rows.
    found_equal(north, east, &all()).await;
    for sql in ["GRANT SELECT ON shop.* TO shop_app@'%'", "FLUSH TABLES"] {
        logged(east).await.query_drop(sql).await.unwrap();
    }
    assert_eq!(narrowed(north, east, &all()).await, Some(0), "nothing changed");
    for (why, member, sql) in [
        (
            "it is another database",
            &north,
            "UPDATE multiactive.store SET incarnation = 'another'",
        ),
        ("the owner's is", &east, "UPDATE multiactive.store SET born = 'another'"),
        ("the table is another one", &north, "ALTER TABLE shop.orders FORCE"),
        ("the owner's is", &east, "ALTER TABLE shop.orders FORCE"),
        (
            "there are other columns",
            &east,
            "ALTER TABLE shop.orders ADD COLUMN note VARCHAR(20) NOT NULL DEFAULT 'none'",
        ),
    ] {
        found_equal(north, east, &all()).await;
        assert_eq!(narrowed(north, east, &all()).await, Some(0), "before: {why}");
        admin(&member.server).await.query_drop(sql).await.unwrap();
        if why == "there are other columns" {
            here.query_drop(sql).await.unwrap();
        }
        assert_eq!(narrowed(north, east, &all()).await, None, "{why}");
    }
    // In a log: what may have changed a table by another name, and been taken back.
    for sql in [
        "CREATE TABLE shop.other (id INT PRIMARY KEY)",
        "SET SESSION binlog_format = STATEMENT; INSERT INTO shop.other VALUES (1)",
    ] {
        found_equal(north, east, &all()).await;
        assert_eq!(narrowed(north, east, &all()).await, Some(0), "before: {sql}");
        logged(east).await.query_drop(sql).await.unwrap();
        assert_eq!(narrowed(north, east, &all()).await, None, "{sql}");
    }
    // Foreign keys change rows that no log has.
    let sql = "CREATE TABLE shop.lines (id INT PRIMARY KEY, parent VARCHAR(190), FOREIGN KEY (parent) REFERENCES shop.orders (id) ON DELETE SET NULL)";
    here.query_drop(sql).await.unwrap();
    assert_eq!(horizon(north, east).await, None);
    here.query_drop("DROP TABLE shop.lines").await.unwrap();
    assert_ne!(horizon(north, east).await, None);
    // No more than the newest hundred are kept of each owner.
    let known = horizon(north, east).await;
    for slot in 0..120 {
        remember(north, east, &SlotSet::range(slot, slot + 1), known.as_ref()).await;
    }
    let sum = "SELECT COUNT(*) FROM multiactive.found_equal";
    let kept: Option<u64> = here.query_first(sum).await.unwrap();
    assert!(kept.is_some_and(|kept| kept <= 101), "{kept:?}");
    // The same where an agent has not installed yet what that needs.
    let sql = "RENAME TABLE multiactive.unlogged TO multiactive.unknown";
    there.query_drop(sql).await.unwrap();
    assert_eq!(horizon(north, east).await, None);
    assert_eq!(narrowed(north, east, &all()).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_later_or_has_begun_anew_is_not_what_was_noted() {
    let members = with_rows().await;
    let [east, north] = &members[..] else { panic!() };
    for member in [east, north] {
        found_equal(north, east, &all()).await;
        assert_eq!(narrowed(north, east, &all()).await, Some(0));
        let mut client = admin(&member.server).await;
        for _ in 0..2 {
            client.query_drop("FLUSH BINARY LOGS").await.unwrap();
            member.driver.beat().await.unwrap();
        }
        assert_eq!(narrowed(north, east, &all()).await, Some(0), "all of it is there");
        // Those who receive from there have it, but for what they have not said yet.
        until("old logs to go", async || {
            let logs: Vec<mysql_async::Row> = client.query("SHOW BINARY LOGS").await.unwrap();
            let last: String = logs.last().unwrap().get(0).unwrap();
            client
                .query_drop(format!("PURGE BINARY LOGS TO '{last}'"))
                .await
                .unwrap();
            let logs: Vec<mysql_async::Row> = client.query("SHOW BINARY LOGS").await.unwrap();
            if logs.len() == 1 {
                Ok(())
            } else {
                Err(format!("{} are left", logs.len()))
            }
        })
        .await;
        assert_eq!(narrowed(north, east, &all()).await, None, "the log does not reach it");
    }
    // Numbers begin anew, and come to where they were and beyond.
    for _ in 0..5 {
        north.driver.beat().await.unwrap();
    }
    found_equal(north, east, &all()).await;
    assert_eq!(narrowed(north, east, &all()).await, Some(0));
    let mut client = admin(&north.server).await;
    let before = log_end(&mut client).await;
    begin_log_anew(&mut client).await;
    north.driver.beat().await.unwrap();
    assert!(log_end(&mut client).await < before);
    running(north, east).await;
    assert_eq!(narrowed(north, east, &all()).await, None, "it has not come so far");
    while log_end(&mut client).await < before + 3 {
        north.driver.beat().await.unwrap();
    }
    assert_eq!(narrowed(north, east, &all()).await, None, "it is another log");
    found_equal(north, east, &all()).await;
    assert_eq!(narrowed(north, east, &all()).await, Some(0));
}
