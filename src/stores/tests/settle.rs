//! In a store that several units write, what two wrote at the same time stops no link, is found, listed with both versions, and
//! decided alike on both sides; and nothing else is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Conflicts, LinkState, Settled, Side, StoreLease, StoreSpec, TableSpec, Winner};
use multiactive_stores::{Driver, Error, Postgres};
use std::time::Duration;
use support::writers::*;
use support::*;

const LONG: Duration = Duration::from_secs(60);

fn shared(unit: &str, peers: &[&str]) -> StoreSpec {
    let mut spec = spec(unit, peers);
    spec.keyspace.name = KeyspaceName::of_shared(&"orders".into());
    spec.tables[0].last_write = Some("updated_at".to_owned());
    spec
}

/// All units have all slots open, and get from each other what each writes.
async fn units(names: &[&str]) -> Vec<Member> {
    let mut members = Vec::new();
    for unit in names {
        let server = shop().await;
        let column = "ALTER TABLE orders ADD COLUMN updated_at timestamptz";
        admin(&server).await.batch_execute(column).await.unwrap();
        let peers: Vec<_> = names.iter().filter(|peer| *peer != unit).copied().collect();
        let driver = Postgres::new(shared(unit, &peers), access(&server));
        driver.install().await.unwrap();
        lease(&driver).await;
        members.push(Member {
            server,
            driver,
            unit: (*unit).into(),
        });
    }
    link_all(&members).await;
    for member in &members {
        set_all(&member.driver, true, 1).await;
        let seen = member.driver.inspect().await.unwrap();
        assert_eq!((seen.amiss, seen.refused), (Vec::new(), Vec::new()));
    }
    members
}

async fn both() -> [Member; 2] {
    units(&["east-1", "north-1"]).await.try_into().ok().unwrap()
}

fn last_write() -> Winner {
    Winner::LastWrite
}

async fn settle(here: &Member, there: &Member, winner: &Winner) -> Settled {
    here.driver
        .settle(&peer(there), winner, &all(), &all(), LONG)
        .await
        .unwrap()
}

/// What an application writes at one unit, while nothing comes from the other.
async fn apart(members: &[Member; 2], writes: [&str; 2]) {
    let [east, north] = members;
    let rows = count(&admin(&east.server).await).await;
    stops(east, north, rows).await;
    stops(north, east, rows).await;
    for (member, write) in members.iter().zip(writes) {
        app(&member.server).await.batch_execute(write).await.unwrap();
    }
    for (to, from) in [(east, north), (north, east)] {
        let name = name_of(to, from).await;
        let go_on = format!("ALTER SUBSCRIPTION {name} ENABLE");
        admin(&to.server).await.batch_execute(&go_on).await.unwrap();
        running(to, from).await;
        arrives(to, from).await;
    }
}

/// Waits until a member has what the other has written.
async fn arrives(to: &Member, from: &Member) {
    let (here, there) = (admin(&to.server).await, admin(&from.server).await);
    let place = there
        .query_one("SELECT place FROM multiactive.beat()", &[])
        .await
        .unwrap();
    let place: String = place.get(0);
    let sql = "SELECT coalesce(pg_replication_origin_progress('pg_' || s.oid, false) >= $2::text::pg_lsn, false)
               FROM pg_subscription s WHERE s.subname = $1::text::name";
    let name = name_of(to, from).await;
    until("what was written", async || {
        let row = here.query_one(sql, &[&name, &place]).await.unwrap();
        row.get::<_, bool>(0).then_some(()).ok_or_else(|| place.clone())
    })
    .await;
}

/// The orders: id, amount.
async fn orders(member: &Member) -> Vec<(String, i32)> {
    let rows = admin(&member.server)
        .await
        .query("SELECT id, amount FROM orders ORDER BY id", &[])
        .await;
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What is listed: key, both amounts, whether it was taken, whether it is settled.
type Listed = (String, Option<i32>, Option<i32>, bool, bool);

async fn listed(member: &Member) -> Vec<Listed> {
    let sql = "SELECT 'id=' || (key ->> 'id'), (mine ->> 'amount')::int, (theirs ->> 'amount')::int, taken, settled IS NOT NULL
               FROM multiactive.conflict ORDER BY key, number";
    let rows = admin(&member.server).await.query(sql, &[]).await.unwrap();
    let row = |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    rows.iter().map(row).collect()
}

async fn conflicts(member: &Member) -> Conflicts {
    member.driver.inspect().await.unwrap().conflicts.unwrap()
}

fn order(id: &str, amount: i32, at: &str) -> String {
    let key = key_of(3, 1);
    format!(
        "INSERT INTO orders VALUES ('{id}', '{key}', {amount}, '2026-01-01 {at}')
         ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, updated_at = excluded.updated_at"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_that_was_written_last_wins_at_both_and_the_other_one_is_listed_where_it_was() {
    let members = both().await;
    let [east, north] = &members;
    let start = ["a", "b", "c", "d"].map(|id| order(id, 0, "08:00")).join(";");
    app(&east.server).await.batch_execute(&start).await.unwrap();
    rows_everywhere(&members, 4).await;
    // The same key inserted, one changed here and there, one deleted here and changed there, one of the same moment.
    let writes = |side: i32, early: &str, late: &str| {
        let fate = match side {
            1 => "DELETE FROM orders WHERE id = 'c'".to_owned(),
            _ => order("c", 2, "09:30"),
        };
        [
            order("a", side, early),
            order("b", side, late),
            fate,
            order("d", side, "09:15"),
            order("new", side, early),
        ]
        .join(";")
    };
    apart(&members, [&writes(1, "09:00", "10:00"), &writes(2, "09:01", "09:59")]).await;
    // Each has what the other wrote by now, and no link stands still.
    let swapped = |amount| ["a", "b", "d"].map(|id| (id.to_owned(), amount));
    assert_eq!(orders(east).await[..3], swapped(2), "all that differ were exchanged");
    assert_eq!(orders(north).await[..3], swapped(1));
    let last = last_write();
    let (at_east, at_north) = tokio::join!(settle(east, north, &last), settle(north, east, &last));
    let want = [("a", 2), ("b", 1), ("d", 2), ("new", 2)].map(|(id, amount)| (id.to_owned(), amount));
    assert_eq!(orders(east).await, want, "{at_east:?}");
    assert_eq!(orders(north).await, want, "{at_north:?}");
    // As each was before: a was newer at north, who had got east's; d is of one moment, and stays as east has it.
    let taken = |id: &str, mine, theirs| (format!("id={id}"), Some(mine), Some(theirs), true, true);
    let (mut all, mut norths) = (listed(east).await, listed(north).await);
    println!("{all:?} {norths:?}");
    all.append(&mut norths);
    assert_eq!(all.len(), 4, "each was decided once: {all:?}");
    for row in [taken("a", 1, 2), taken("b", 2, 1), taken("d", 1, 2), taken("new", 1, 2)] {
        assert!(all.contains(&row), "{row:?} in {all:?}");
    }
    assert_eq!((at_east.taken + at_north.taken, at_east.noted), (4, 0));
    let (e, n) = (conflicts(east).await, conflicts(north).await);
    assert_eq!((e.open + n.open, e.settled + n.settled), (0, 4));
    // Whatever is written from then on goes on as before.
    app(&north.server)
        .await
        .batch_execute(&order("a", 7, "11:00"))
        .await
        .unwrap();
    arrives(east, north).await;
    assert_eq!(orders(east).await[0], ("a".to_owned(), 7));
    assert_eq!(settle(east, north, &last_write()).await, Settled::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_row_wins_and_where_nobody_wins_it_is_listed_until_it_is_equal() {
    let members = both().await;
    let [east, north] = &members;
    apart(&members, [&order("a", 1, "09:00"), &order("a", 2, "09:00")]).await;
    by_hand(
        north,
        &format!("{}; DELETE FROM orders WHERE id = 'a'", order("only", 5, "07:00")),
    )
    .await;
    let noted = settle(north, east, &Winner::Nobody).await;
    assert_eq!((noted.noted, noted.taken, noted.left), (2, 0, 0), "{noted:?}");
    assert_eq!(noted.slots, SlotSet::range(3, 3));
    let sides: Vec<_> = noted.examples.iter().map(|row| (row.key.as_str(), row.side)).collect();
    assert_eq!(sides, [("id=a", Side::There), ("id=only", Side::Here)]);
    let again = settle(north, east, &Winner::Nobody).await;
    assert_eq!(again.noted, 2, "it is listed once");
    let amount = orders(east).await[0].1;
    let open = |id: &str, mine, theirs| (format!("id={id}"), mine, theirs, false, false);
    assert_eq!(
        listed(north).await,
        [open("a", None, Some(amount)), open("only", Some(5), None)]
    );
    assert_eq!(conflicts(north).await, Conflicts { open: 2, settled: 0 });
    // A person writes one of them anew.
    app(&north.server)
        .await
        .batch_execute("DELETE FROM orders WHERE id = 'only'")
        .await
        .unwrap();
    assert_eq!(settle(north, east, &Winner::Nobody).await.noted, 1);
    assert_eq!(conflicts(north).await, Conflicts { open: 1, settled: 1 });
    let taken = settle(north, east, &Winner::Peer).await;
    assert_eq!((taken.taken, taken.noted), (1, 0), "{taken:?}");
    assert_eq!(orders(north).await, orders(east).await);
    assert_eq!(conflicts(north).await, Conflicts { open: 0, settled: 2 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_under_way_are_no_conflict_however_hot_they_are() {
    let members = units(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    let writers = [
        Writer::start(east, "e").await,
        Writer::start(north, "n").await,
        Writer::start(south, "s").await,
    ];
    writers[0].more(300).await;
    let mut moving = 0;
    for round in 0..20 {
        let (here, there) = if round % 2 == 0 { (north, east) } else { (east, north) };
        let settled = settle(here, there, &last_write()).await;
        assert_eq!(
            (settled.taken, settled.left, settled.noted),
            (0, 0, 0),
            "round {round}: {settled:?}"
        );
        moving += settled.moving;
        writers[1].more(10).await;
    }
    println!("{moving} rows were under way");
    for writer in writers {
        writer.stop().await;
    }
    for member in &members {
        assert_eq!(conflicts(member).await, Conflicts::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_write_the_same_rows_all_the_time_agree_once_they_rest() {
    let members = both().await;
    let [east, north] = &members;
    let hot = async |member: &Member, side: i32| {
        let client = app(&member.server).await;
        for number in 0..400 {
            let sql = format!(
                "INSERT INTO orders VALUES ('{}', '{}', {side}, clock_timestamp())
                 ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, updated_at = excluded.updated_at",
                number % 40,
                key_of(number % 7, 1),
            );
            client.batch_execute(&sql).await.unwrap();
        }
    };
    let settling = async {
        for _ in 0..5 {
            settle(east, north, &last_write()).await;
            settle(north, east, &last_write()).await;
        }
    };
    tokio::join!(hot(east, 1), hot(north, 2), settling);
    arrives(east, north).await;
    arrives(north, east).await;
    let differ = orders(east)
        .await
        .iter()
        .zip(&orders(north).await)
        .filter(|(e, n)| e != n)
        .count();
    let (first, second) = (
        settle(east, north, &last_write()).await,
        settle(north, east, &last_write()).await,
    );
    println!("{differ} rows differed: {first:?} {second:?}");
    let sql = "SELECT array_agg(o::text ORDER BY id) FROM orders o";
    let all = async |member: &Member| -> Vec<String> {
        admin(&member.server).await.query_one(sql, &[]).await.unwrap().get(0)
    };
    assert_eq!(all(east).await, all(north).await);
    for (to, from) in [(east, north), (north, east)] {
        assert_eq!(running(to, from).await.state, LinkState::Running);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_log_does_not_come_decides_nothing() {
    let members = both().await;
    let [east, north] = &members;
    app(&east.server)
        .await
        .batch_execute(&order("a", 1, "09:00"))
        .await
        .unwrap();
    rows_everywhere(&members, 1).await;
    stops(north, east, 1).await;
    app(&east.server)
        .await
        .batch_execute(&order("a", 2, "10:00"))
        .await
        .unwrap();
    let short = Duration::from_secs(5);
    for (here, there) in [(north, east), (east, north)] {
        let told = here
            .driver
            .settle(&peer(there), &last_write(), &all(), &all(), short)
            .await;
        assert!(matches!(told, Err(Error::NotCompared { .. })), "{told:?}");
        assert_eq!(listed(here).await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_deletes_while_it_is_taken_does_not_come_back() {
    let members = both().await;
    let [east, north] = &members;
    by_hand(east, &order("a", 1, "09:00")).await;
    let held = admin(&north.server).await;
    held.batch_execute("BEGIN; LOCK TABLE multiactive.conflict")
        .await
        .unwrap();
    let (peer, last, everything) = (peer(east), Winner::Peer, all());
    let settling = north.driver.settle(&peer, &last, &everything, &everything, LONG);
    let meanwhile = async {
        let look = admin(&north.server).await;
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'multiactive.conflict'::regclass";
        until("a row is about to be taken", async || {
            match look.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) {
                0 => Err("nobody waits".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        app(&east.server)
            .await
            .batch_execute("DELETE FROM orders")
            .await
            .unwrap();
        arrives(north, east).await;
        held.batch_execute("COMMIT").await.unwrap();
    };
    let (settled, ()) = tokio::join!(settling, meanwhile);
    assert_eq!(orders(north).await, [], "{settled:?}");
    let settled = settled.unwrap();
    assert_eq!((settled.taken, settled.moving), (0, 1), "{settled:?}");
    assert_eq!(listed(north).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_are_settled_whatever_their_keys_are_and_one_that_is_held_holds_up_no_other() {
    let members = both().await;
    let [east, north] = &members;
    let sql =
        "CREATE TABLE odd (a text, n int, b text, amount int, local int DEFAULT 5, PRIMARY KEY (b, n) INCLUDE (a));
               ALTER TABLE odd OWNER TO shop_owner; GRANT SELECT, INSERT, UPDATE, DELETE ON odd TO shop_app";
    let mut drivers = Vec::new();
    for (member, other) in [(east, north), (north, east)] {
        admin(&member.server).await.batch_execute(sql).await.unwrap();
        let mut spec = shared(member.unit.as_str(), &[other.unit.as_str()]);
        spec.tables.push(TableSpec {
            name: "odd".to_owned(),
            shard_key: Some("b".to_owned()),
            last_write: Some("amount".to_owned()),
        });
        let driver = Postgres::new(spec, access(&member.server));
        driver.install().await.unwrap();
        drivers.push(driver);
    }
    for (driver, from) in drivers.iter().zip([north, east]) {
        until("the link brings the table", async || {
            match driver.link(&peer(from)).await.unwrap() {
                link if link.state == LinkState::Running => Ok(()),
                link => Err(format!("{link:?}")),
            }
        })
        .await;
    }
    let rows = |amount: &str| {
        format!(
            "INSERT INTO odd (a, n, b, amount)
             SELECT 'x' || {amount}, n, b, {amount} FROM generate_series(1, 700) n,
                    (VALUES ('it''s'), ('a, n=1'), ('back\\slash \"q\"')) AS k(b)"
        )
    };
    by_hand(east, &rows("n % 3")).await;
    by_hand(north, &format!("{}; UPDATE odd SET local = 7", rows("(n + 1) % 3"))).await;
    let held = app(&north.server).await;
    held.batch_execute("BEGIN; UPDATE odd SET local = 8 WHERE n = 2 AND b = 'it''s'")
        .await
        .unwrap();
    let settle = async |number: usize, there: &Member| {
        let settled = drivers[number]
            .settle(&peer(there), &last_write(), &all(), &all(), LONG)
            .await;
        settled.unwrap()
    };
    let (at_north, at_east) = (settle(1, east).await, settle(0, north).await);
    assert_eq!(
        (at_north.moving, at_north.taken, at_north.left),
        (1, 698, 1401),
        "{at_north:?}"
    );
    // Who is being written there waits for the next time, with its slot.
    let first = at_east.taken;
    held.batch_execute("ROLLBACK").await.unwrap();
    let (at_north, at_east) = (settle(1, east).await, settle(0, north).await);
    assert_eq!((at_north.taken, first + at_east.taken), (1, 1401), "{at_east:?}");
    let sum =
        "SELECT md5(string_agg(concat_ws('|', a, n, b, amount), ',' ORDER BY b, n)), min(amount), count(*) FROM odd";
    let (e, n) = (
        admin(&east.server).await.query_one(sum, &[]).await.unwrap(),
        admin(&north.server).await.query_one(sum, &[]).await.unwrap(),
    );
    assert_eq!((e.get::<_, String>(0), e.get::<_, i32>(1)), (n.get(0), n.get(1)));
    assert_eq!(
        (n.get::<_, i32>(1), n.get::<_, i64>(2)),
        (1, 2100),
        "the larger of the two everywhere"
    );
    // Application rows that nobody else wrote go on; a key that is changed to one that is there is passed over.
    app(&north.server)
        .await
        .batch_execute("UPDATE odd SET n = 9999 WHERE n = 3 AND b = 'it''s'")
        .await
        .unwrap();
    arrives(east, north).await;
    running(east, north).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_is_passed_on_to_nobody() {
    let members = units(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    for (member, amount) in members.iter().zip(1..) {
        by_hand(member, &order("a", amount, "09:00")).await;
    }
    assert_eq!(settle(north, east, &Winner::Peer).await.taken, 1);
    for to in [east, south] {
        arrives(to, north).await;
    }
    for (member, amount) in [(east, 1), (north, 1), (south, 3)] {
        assert_eq!(orders(member).await, [("a".to_owned(), amount)], "{}", member.unit);
    }
}

#[tokio::test]
async fn a_database_that_is_fenced_otherwise_takes_no_lease_of_this_one() {
    let server = shop().await;
    let sql = "ALTER TABLE orders ADD COLUMN updated_at timestamptz";
    admin(&server).await.batch_execute(sql).await.unwrap();
    let fenced = Postgres::new(spec("east-1", &[]), access(&server));
    fenced.install().await.unwrap();
    lease(&fenced).await;
    let several = Postgres::new(shared("east-1", &[]), access(&server));
    let asked = StoreLease {
        from: several.clock().await.unwrap(),
        length: StoreLease::LONGEST,
        granted: Epoch::NEVER,
    };
    let told = several.extend(asked).await;
    assert!(matches!(told, Err(Error::KeyspaceChanged { .. })), "{told:?}");
    let held = fenced.inspect().await.unwrap().lease.unwrap();
    assert!(held.left < Duration::from_secs(1801), "{held:?}");
}

#[tokio::test]
async fn a_table_with_another_unique_key_or_without_a_moment_is_refused() {
    let server = shop().await;
    let sql = "ALTER TABLE orders ADD COLUMN number int UNIQUE";
    admin(&server).await.batch_execute(sql).await.unwrap();
    let sharded = Postgres::new(spec("east-1", &[]), access(&server));
    assert_eq!(
        sharded
            .check_tables()
            .await
            .unwrap()
            .iter()
            .filter(|found| found.refused)
            .count(),
        0
    );
    let driver = Postgres::new(shared("east-1", &[]), access(&server));
    let Err(Error::TablesRefused(found)) = driver.install().await else {
        panic!()
    };
    let reasons: Vec<_> = found.iter().map(|found| found.reason).collect();
    assert_eq!(reasons, ["NoLastWrite", "UniqueKey"], "{found:?}");
    assert!(found[0].message.contains("updated_at"), "{found:?}");
    assert!(found[1].message.contains("orders_number_key"), "{found:?}");
}
