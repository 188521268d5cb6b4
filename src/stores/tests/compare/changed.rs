//! Rows that were found equal are compared whole only where they changed since, at one side or the other.

use super::*;
use multiactive_stores::driver::Horizon;

async fn changed(here: &Member, there: &Member, slots: &SlotSet) -> Compared {
    let from = peer(there);
    let verb = here.driver.compare(&from, slots, None, Extent::Changed, LONG);
    verb.await.unwrap()
}

/// How many rows were compared whole; `None` where all were.
async fn narrowed(here: &Member, there: &Member, slots: &SlotSet) -> Option<u64> {
    changed(here, there, slots).await.narrowed.map(|narrowed| narrowed.rows)
}

async fn horizon(here: &Member, there: &Member) -> Horizon {
    here.driver.horizon(&peer(there)).await.unwrap().expect("a horizon")
}

/// Compares all rows of these slots, which are equal, and has that remembered.
async fn found_equal(here: &Member, there: &Member, slots: &SlotSet) {
    let horizon = horizon(here, there).await;
    assert_eq!(compare(here, there, slots).await.differing, SlotSet::default());
    here.driver
        .found_equal(&there.unit, slots, Some(&horizon))
        .await
        .unwrap();
}

/// Two members with a hundred rows, two in each of the first fifty slots.
async fn with_rows() -> (Member, Member) {
    let (east, north) = two().await;
    let client = app(&east.server).await;
    for number in 0..100 {
        insert(
            &client,
            &format!("r{number}"),
            &key_of(number % 50, usize::from(number / 50)),
        )
        .await
        .unwrap();
    }
    until("rows", async || match count(&admin(&north.server).await).await {
        100 => Ok(()),
        rows => Err(format!("{rows} rows")),
    })
    .await;
    (east, north)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changed_at_either_side_is_found_and_what_did_not_is_compared_by_its_keys() {
    let (east, north) = with_rows().await;
    found_equal(&north, &east, &all()).await;
    let again = changed(&north, &east, &all()).await;
    assert_eq!((again.rows, again.differing.is_empty()), (100, true), "{again:?}");
    assert_eq!(again.narrowed.map(|narrowed| narrowed.rows), Some(0));
    // By way of the fence and the links: no difference, and no more than what was written is compared whole.
    let client = app(&east.server).await;
    let sql = "UPDATE orders SET amount = amount + 1 WHERE id IN ('r1', 'r2'); DELETE FROM orders WHERE id = 'r3'";
    client.batch_execute(sql).await.unwrap();
    let under_way = changed(&north, &east, &all()).await;
    assert_eq!(
        (under_way.rows, under_way.differing.is_empty()),
        (99, true),
        "{under_way:?}"
    );
    assert_eq!(under_way.narrowed.map(|narrowed| narrowed.rows), Some(2));
    let writer = Writer::start(&east, "w").await;
    writer.more(200).await;
    for _ in 0..10 {
        let hot = changed(&north, &east, &all()).await;
        assert_eq!(hot.differing, SlotSet::default(), "{hot:?}");
        assert!(
            hot.narrowed.is_some_and(|narrowed| narrowed.rows > 0),
            "rows changed meanwhile"
        );
        writer.more(20).await;
    }
    writer.stop().await;
    // What is frozen is as old as it was.
    for member in [&east, &north] {
        admin(&member.server)
            .await
            .batch_execute("VACUUM (FREEZE) orders")
            .await
            .unwrap();
    }
    // Behind their backs, each in a slot of its own.
    for (member, sql) in [
        (&north, "UPDATE orders SET amount = 70 WHERE id = 'r10'".to_owned()),
        (&north, "DELETE FROM orders WHERE id = 'r11'".to_owned()),
        (
            &north,
            format!("INSERT INTO orders VALUES ('extra', '{}')", key_of(112, 0)),
        ),
        (&east, "UPDATE orders SET amount = 70 WHERE id = 'r13'".to_owned()),
        (&east, "DELETE FROM orders WHERE id = 'r14'".to_owned()),
        // As many are left on both sides.
        (&north, "DELETE FROM orders WHERE id = 'r16'".to_owned()),
        (&east, "DELETE FROM orders WHERE id = 'r66'".to_owned()),
        (
            &east,
            format!("INSERT INTO orders VALUES ('more', '{}')", key_of(115, 0)),
        ),
    ] {
        by_hand(member, &sql).await;
    }
    let found = changed(&north, &east, &all()).await;
    let slots: SlotSet = [(10, 11), (13, 14), (16, 16), (112, 112), (115, 115)]
        .into_iter()
        .collect();
    assert_eq!(found.differing, slots, "{found:?}");
    let mut told: Vec<_> = found.examples.iter().map(|row| (row.key.as_str(), row.side)).collect();
    told.sort_by_key(|(key, _)| *key);
    let want = [
        ("id=extra", Side::Here),
        ("id=more", Side::There),
        ("id=r10", Side::Both),
        ("id=r11", Side::There),
        ("id=r13", Side::Both),
        ("id=r14", Side::Here),
        ("id=r16", Side::There),
        ("id=r66", Side::Here),
    ];
    assert_eq!(told, want);
    // Part by part it is the same.
    let mut ends = None;
    let mut differing = SlotSet::default();
    loop {
        let part = multiactive_stores::driver::Part { after: ends, rows: 20 };
        let (from, all) = (peer(&east), all());
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
async fn what_was_under_way_while_rows_were_found_equal_has_changed_since() {
    let (east, north) = with_rows().await;
    let client = admin(&north.server).await;
    client
        .batch_execute(
            "SET session_replication_role = replica; SELECT pg_replication_origin_create('open');
             SELECT pg_replication_origin_session_setup('open'); BEGIN; UPDATE orders SET amount = 70 WHERE id = 'r7';
             SAVEPOINT s; UPDATE orders SET amount = 70 WHERE id = 'r9'",
        )
        .await
        .unwrap();
    // Others end meanwhile: the newest transaction is not the oldest that runs.
    by_hand(&north, "UPDATE orders SET amount = amount WHERE id = 'r8'").await;
    found_equal(&north, &east, &all()).await;
    client.batch_execute("COMMIT").await.unwrap();
    let found = changed(&north, &east, &all()).await;
    let slots: SlotSet = [(7, 7), (9, 9)].into_iter().collect();
    assert_eq!(found.differing, slots, "{found:?}");
    assert!(found.narrowed.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_too_many_rows_changed_all_are_compared() {
    const MANY: i64 = 50_100;
    let (east, north) = with_rows().await;
    found_equal(&north, &east, &all()).await;
    let sql = format!(
        "INSERT INTO orders (id, user_id) SELECT 'm' || n, '{}' FROM generate_series(1, {MANY}) n",
        key_of(1, 0)
    );
    app(&east.server).await.batch_execute(&sql).await.unwrap();
    by_hand(&north, "UPDATE orders SET amount = 70 WHERE id = 'r7'").await;
    let found = changed(&north, &east, &all()).await;
    assert_eq!(found.differing, SlotSet::range(7, 7), "{found:?}");
    let rows = u64::try_from(MANY).unwrap() + 100;
    assert_eq!(
        (found.rows, found.narrowed.map(|narrowed| narrowed.rows)),
        (rows, Some(rows))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_not_known_what_changed_all_rows_are_compared() {
    let (east, north) = with_rows().await;
    let (here, there) = (admin(&north.server).await, admin(&east.server).await);
    assert_eq!(narrowed(&north, &east, &all()).await, None, "nothing was found equal");
    found_equal(&north, &east, &all()).await;
    assert_eq!(narrowed(&north, &east, &all()).await, Some(0));
    north
        .driver
        .found_equal(&east.unit, &SlotSet::range(5, 5), None)
        .await
        .unwrap();
    assert_eq!(narrowed(&north, &east, &all()).await, None, "one slot differed since");
    let some = SlotSet::range(0, 19);
    found_equal(&north, &east, &some).await;
    assert_eq!(narrowed(&north, &east, &all()).await, None, "only some slots were");
    assert_eq!(narrowed(&north, &east, &SlotSet::range(3, 5)).await, Some(0));
    for (why, member, sql) in [
        (
            "the horizon is of another server",
            &here,
            "UPDATE multiactive.horizon SET server = 'another'",
        ),
        (
            "the owner's is",
            &there,
            "UPDATE multiactive.horizon SET server = 'another'",
        ),
        ("the owner has it no more", &there, "DELETE FROM multiactive.horizon"),
        (
            "transactions began anew",
            &here,
            "UPDATE multiactive.horizon SET oldest = '4000000000'",
        ),
        (
            "the table has other rows, too",
            &here,
            "CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (orders)",
        ),
        ("an enum has other words", &here, "CREATE TYPE word AS ENUM ('a')"),
        (
            "the table was another one for a while",
            &there,
            "ALTER TABLE orders RENAME TO o; ALTER TABLE o RENAME TO orders",
        ),
        (
            "there are other columns",
            &there,
            "ALTER TABLE orders ADD COLUMN note text DEFAULT 'none'",
        ),
    ] {
        found_equal(&north, &east, &all()).await;
        assert_eq!(narrowed(&north, &east, &all()).await, Some(0), "before: {why}");
        member.batch_execute(sql).await.unwrap();
        if why == "there are other columns" {
            here.batch_execute("ALTER TABLE orders ADD COLUMN note text DEFAULT 'none'")
                .await
                .unwrap();
        }
        assert_eq!(narrowed(&north, &east, &all()).await, None, "{why}");
    }
    // A shape that does not hold still, or is not known to.
    here.batch_execute("ALTER TABLE orders ADD COLUMN places regclass[]")
        .await
        .unwrap();
    assert_eq!(north.driver.horizon(&peer(&east)).await.unwrap(), None);
    here.batch_execute("ALTER TABLE orders DROP COLUMN places")
        .await
        .unwrap();
    here.batch_execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD COLUMN place regclass")
        .await
        .unwrap();
    assert_eq!(north.driver.horizon(&peer(&east)).await.unwrap(), None);
    here.batch_execute("ALTER TABLE orders DROP COLUMN place, ADD PRIMARY KEY (id)")
        .await
        .unwrap();
    assert_ne!(north.driver.horizon(&peer(&east)).await.unwrap(), None);
    // The same wherever an agent has not installed what that needs yet.
    there
        .batch_execute("DROP FUNCTION multiactive.take_horizon(text)")
        .await
        .unwrap();
    assert_eq!(north.driver.horizon(&peer(&east)).await.unwrap(), None);
    assert_eq!(narrowed(&north, &east, &all()).await, None);
    // No more than the newest thousand horizons of each reader are kept.
    here.batch_execute("SELECT multiactive.take_horizon('east-1') FROM generate_series(1, 1100)")
        .await
        .unwrap();
    let kept: i64 = here
        .query_one("SELECT count(*) FROM multiactive.horizon WHERE reader = 'east-1'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(kept, 1000);
}
