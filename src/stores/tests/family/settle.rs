//! In a store that several units write, what two wrote at the same time stops no link, is found, listed with both versions, and
//! decided alike on both sides; and nothing else is.

use super::support::*;
use super::writers::*;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::KeyspaceName;
use multiactive_core::slots::SlotSet;
use multiactive_core::wire::Caught;
use multiactive_stores::driver::{Conflicts, LinkState, Settled, Side, StoreLease, StoreSpec, TableSpec, Winner};
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;
use std::time::Duration;

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
        let server = shop_with(&[(EXEC_MODE, "IDEMPOTENT")]).await;
        let column = "ALTER TABLE shop.orders ADD COLUMN updated_at DATETIME(6)";
        admin(&server).await.query_drop(column).await.unwrap();
        let peers: Vec<_> = names.iter().filter(|peer| *peer != unit).copied().collect();
        let driver = new(shared(unit, &peers), access(&server));
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

async fn write(member: &Member, statements: &[String]) {
    let mut app = app(&member.server).await;
    for statement in statements {
        app.query_drop(statement).await.unwrap();
    }
}

/// What an application writes at one unit, while nothing comes from the other.
async fn apart(members: &[Member; 2], writes: [&[String]; 2]) {
    let [east, north] = members;
    stop_links(east).await;
    stop_links(north).await;
    for (member, statements) in members.iter().zip(writes) {
        write(member, statements).await;
    }
    for (to, from) in [(east, north), (north, east)] {
        running(to, from).await;
        arrives(to, from).await;
    }
}

/// Waits until a member has what the other has written.
async fn arrives(to: &Member, from: &Member) {
    let place = from.driver.progress().await.unwrap();
    let caught = to.driver.caught_up(&from.unit, None, Some(&place), LONG).await;
    assert_eq!(caught.unwrap(), Caught::Yes);
}

/// The orders: id, amount.
async fn orders(member: &Member) -> Vec<(String, i32)> {
    let sql = "SELECT id, amount FROM shop.orders ORDER BY id";
    admin(&member.server).await.query(sql).await.unwrap()
}

/// What is listed: key, both amounts, whether it was taken, whether it is settled.
type Listed = (String, Option<i32>, Option<i32>, bool, bool);

async fn listed(member: &Member) -> Vec<Listed> {
    let amount = |version: &str| format!("CAST(JSON_UNQUOTE(JSON_EXTRACT({version}, '$.amount')) AS SIGNED)");
    let sql = format!(
        "SELECT name, {}, {}, taken, settled IS NOT NULL FROM multiactive.conflict ORDER BY name, number",
        amount("mine"),
        amount("theirs")
    );
    admin(&member.server).await.query(sql).await.unwrap()
}

async fn conflicts(member: &Member) -> Conflicts {
    member.driver.inspect().await.unwrap().conflicts.unwrap()
}

fn order(id: &str, amount: i32, at: &str) -> String {
    let key = key_of(3, 1);
    format!(
        "INSERT INTO orders VALUES ('{id}', '{key}', {amount}, '2026-01-01 {at}')
         ON DUPLICATE KEY UPDATE amount = {amount}, updated_at = '2026-01-01 {at}'"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_that_was_written_last_wins_at_both_and_the_other_one_is_listed_where_it_was() {
    let members = both().await;
    let [east, north] = &members;
    write(east, &["a", "b", "c", "d"].map(|id| order(id, 0, "08:00"))).await;
    rows_everywhere(&members, 4).await;
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
    };
    apart(&members, [&writes(1, "09:00", "10:00"), &writes(2, "09:01", "09:59")]).await;
    let before = (orders(east).await, orders(north).await);
    assert_ne!(before.0, before.1, "rows were exchanged");
    let last = last_write();
    let (at_east, at_north) = (settle(east, north, &last).await, settle(north, east, &last).await);
    let after = orders(east).await;
    assert_eq!(after, orders(north).await, "{before:?} {at_east:?} {at_north:?}");
    // Of one moment, and stays as east had it.
    let d = before.0.iter().find(|(id, _)| id == "d").unwrap().1;
    let want = [("a", 2), ("b", 1), ("d", d), ("new", 2)].map(|(id, amount)| (id.to_owned(), amount));
    assert_eq!(after, want, "{at_east:?} {at_north:?}");
    let (mut all, mut norths) = (listed(east).await, listed(north).await);
    all.append(&mut norths);
    let mut keys: Vec<_> = all.iter().map(|(key, ..)| key.clone()).collect();
    keys.sort();
    assert_eq!(
        keys,
        ["id=a", "id=b", "id=d", "id=new"],
        "each was decided once: {all:?}"
    );
    for (key, mine, theirs, taken, settled) in &all {
        let after = want.iter().find(|(id, _)| key == &format!("id={id}")).unwrap().1;
        assert_eq!((theirs, *taken, *settled), (&Some(after), true, true), "{key}");
        assert_ne!(mine, theirs, "{key}");
    }
    assert_eq!((at_east.taken + at_north.taken, at_east.noted), (4, 0));
    let (e, n) = (conflicts(east).await, conflicts(north).await);
    assert_eq!((e.open + n.open, e.settled + n.settled), (0, 4));
    // Whatever is written from then on goes on as before.
    write(north, &[order("a", 7, "11:00")]).await;
    arrives(east, north).await;
    assert_eq!(orders(east).await[0], ("a".to_owned(), 7));
    assert_eq!(settle(east, north, &last).await, Settled::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_row_wins_and_where_nobody_wins_it_is_listed_until_it_is_equal() {
    let members = both().await;
    let [east, north] = &members;
    apart(&members, [&[order("a", 1, "09:00")], &[order("a", 2, "09:00")]]).await;
    let only = order("only", 5, "07:00");
    by_hand(north, &[&only, "DELETE FROM orders WHERE id = 'a'"]).await;
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
    // The application writes one of them anew.
    write(north, &["DELETE FROM orders WHERE id = 'only'".to_owned()]).await;
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
        Writer::start(east, "e", 0..80).await,
        Writer::start(north, "n", 80..160).await,
        Writer::start(south, "s", 160..250).await,
    ];
    writers[0].more(100).await;
    let mut moving = 0;
    for round in 0..10 {
        let (here, there) = if round % 2 == 0 { (north, east) } else { (east, north) };
        let settled = settle(here, there, &last_write()).await;
        assert_eq!(
            (settled.taken, settled.left, settled.noted),
            (0, 0, 0),
            "round {round}: {settled:?}"
        );
        moving += settled.moving;
        writers[1].more(5).await;
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
        let mut app = app(&member.server).await;
        for number in 0..200 {
            let sql = format!(
                "INSERT INTO orders VALUES ('{}', '{}', {side}, SYSDATE(6))
                 ON DUPLICATE KEY UPDATE amount = {side}, updated_at = SYSDATE(6)",
                number % 40,
                key_of(number % 7, 1),
            );
            app.query_drop(sql).await.unwrap();
        }
    };
    let settling = async {
        for _ in 0..3 {
            settle(east, north, &last_write()).await;
            settle(north, east, &last_write()).await;
        }
    };
    tokio::join!(hot(east, 1), hot(north, 2), settling);
    arrives(east, north).await;
    arrives(north, east).await;
    let (easts, norths) = (orders(east).await, orders(north).await);
    let differ = easts.iter().zip(&norths).filter(|(e, n)| e != n).count();
    let (first, second) = (
        settle(east, north, &last_write()).await,
        settle(north, east, &last_write()).await,
    );
    println!("{differ} rows differed: {first:?} {second:?}");
    let all = async |member: &Member| -> Vec<(String, String, i32, String)> {
        let sql = "SELECT id, user_id, amount, CAST(updated_at AS CHAR) FROM shop.orders ORDER BY id";
        admin(&member.server).await.query(sql).await.unwrap()
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
    write(east, &[order("a", 1, "09:00")]).await;
    rows_everywhere(&members, 1).await;
    stop_links(north).await;
    write(east, &[order("a", 2, "10:00")]).await;
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
    by_hand(east, &[&order("a", 1, "09:00")]).await;
    let mut held = admin(&north.server).await;
    held.query_drop("LOCK TABLES multiactive.conflict WRITE").await.unwrap();
    let (peer, last, everything) = (peer(east), Winner::Peer, all());
    let settling = north.driver.settle(&peer, &last, &everything, &everything, LONG);
    let meanwhile = async {
        let mut look = admin(&north.server).await;
        let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
                   WHERE STATE LIKE 'Waiting for table metadata lock' AND INFO LIKE '%multiactive.conflict%'";
        until("a row is about to be taken", async || {
            match look.query_first::<u64, _>(sql).await.unwrap().unwrap_or_default() {
                0 => Err("nobody waits".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        write(east, &["DELETE FROM orders".to_owned()]).await;
        arrives(north, east).await;
        held.query_drop("UNLOCK TABLES").await.unwrap();
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
    let sql = "CREATE TABLE shop.odd (a VARCHAR(20), d BINARY(4), n INT, b VARCHAR(40) COLLATE utf8mb4_bin NOT NULL, amount INT,
                                      local INT DEFAULT 5, PRIMARY KEY (b, n, d))";
    let mut drivers = Vec::new();
    for (member, other) in [(east, north), (north, east)] {
        admin(&member.server).await.query_drop(sql).await.unwrap();
        let mut spec = shared(member.unit.as_str(), &[other.unit.as_str()]);
        spec.tables.push(TableSpec {
            name: "odd".to_owned(),
            shard_key: Some("b".to_owned()),
            last_write: Some("amount".to_owned()),
        });
        let driver = new(spec, access(&member.server));
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
            "INSERT INTO odd (a, d, n, b, amount)
             SELECT CONCAT('x', {amount}), X'2700FF5C', n.n, k.b, {amount} FROM
                 (WITH RECURSIVE m AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM m WHERE n < 700) SELECT n FROM m) n,
                 (SELECT 'it''s' AS b UNION ALL SELECT 'a, n=1' UNION ALL SELECT 'back\\\\slash \"q\" é') k"
        )
    };
    by_hand(east, &[&rows("n.n MOD 3")]).await;
    by_hand(north, &[&rows("(n.n + 1) MOD 3"), "UPDATE odd SET local = 7"]).await;
    let mut held = app(&north.server).await;
    held.query_drop("BEGIN").await.unwrap();
    held.query_drop("UPDATE odd SET local = 8 WHERE n = 2 AND b = 'it''s'")
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
    held.query_drop("ROLLBACK").await.unwrap();
    let (at_north, at_east) = (settle(1, east).await, settle(0, north).await);
    assert_eq!((at_north.taken, first + at_east.taken), (1, 1401), "{at_east:?}");
    let all = async |member: &Member| -> Vec<(String, i32, String, i32)> {
        let sql = "SELECT a, n, b, amount FROM shop.odd ORDER BY b, n";
        admin(&member.server).await.query(sql).await.unwrap()
    };
    let (e, n) = (all(east).await, all(north).await);
    assert_eq!(e, n);
    assert!(
        e.len() == 2100 && e.iter().all(|row| row.3 > 0),
        "the larger of the two everywhere"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trigger_changes_is_not_taken_and_said() {
    let members = both().await;
    let [east, north] = &members;
    let trigger =
        "CREATE TRIGGER shop.always_late BEFORE UPDATE ON shop.orders FOR EACH ROW SET NEW.updated_at = '2030-01-01'";
    admin(&north.server).await.query_drop(trigger).await.unwrap();
    north.driver.install().await.unwrap();
    by_hand(east, &[&order("a", 1, "09:00")]).await;
    by_hand(north, &[&order("a", 2, "08:00")]).await;
    let told = north
        .driver
        .settle(&peer(east), &last_write(), &all(), &all(), LONG)
        .await;
    let Err(Error::NotCompared { why, .. }) = told else {
        panic!("{told:?}")
    };
    assert!(why.contains("trigger"), "{why}");
    assert_eq!(orders(north).await, [("a".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_is_passed_on_to_nobody() {
    let members = units(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    for (member, amount) in members.iter().zip(1..) {
        by_hand(member, &[&order("a", amount, "09:00")]).await;
    }
    assert_eq!(settle(north, east, &Winner::Peer).await.taken, 1);
    write(north, &[order("b", 7, "09:00")]).await;
    for to in [east, south] {
        arrives(to, north).await;
    }
    for (member, amount) in [(east, 1), (north, 1), (south, 3)] {
        let want = [("a".to_owned(), amount), ("b".to_owned(), 7)];
        assert_eq!(orders(member).await, want, "{}", member.unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_log_does_not_have_any_more_is_settled_and_the_link_goes_on() {
    let members = both().await;
    let [east, north] = &members;
    write(east, &[order("a", 1, "09:00")]).await;
    rows_everywhere(&members, 1).await;
    stop_links(north).await;
    write(east, &[order("gone", 2, "10:00"), order("a", 3, "10:00")]).await;
    forget_log(east).await;
    let link = linked(north, east, |link| {
        link.state == LinkState::Running && link.gap.is_some()
    })
    .await;
    println!("{link:?}");
    write(east, &[order("later", 4, "11:00")]).await;
    arrives_though(north, east).await;
    let settled = settle(north, east, &last_write()).await;
    assert_eq!((settled.taken, settled.moving), (2, 0), "{settled:?}");
    assert_eq!(orders(north).await, orders(east).await);
    north.driver.compared(&east.unit).await.unwrap();
    assert_eq!(running(north, east).await.gap, None);
}

/// As `arrives`, by a link that has a gap.
async fn arrives_though(to: &Member, from: &Member) {
    let want = orders(from).await.last().cloned();
    until("the last order", async || match orders(to).await.last().cloned() {
        last if last == want => Ok(()),
        last => Err(format!("{last:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_fenced_otherwise_takes_no_lease_of_this_one() {
    let server = shop_with(&[(EXEC_MODE, "STRICT")]).await;
    let sql = "ALTER TABLE shop.orders ADD COLUMN updated_at DATETIME(6)";
    admin(&server).await.query_drop(sql).await.unwrap();
    let fenced = new(spec("east-1", &[]), access(&server));
    fenced.install().await.unwrap();
    lease(&fenced).await;
    let several = new(shared("east-1", &[]), access(&server));
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
async fn a_server_whose_links_stop_at_what_does_not_fit_and_another_unique_key_are_refused() {
    let server = shop().await;
    let sql = "ALTER TABLE shop.orders ADD COLUMN number INT UNIQUE";
    admin(&server).await.query_drop(sql).await.unwrap();
    let driver = new(shared("east-1", &[]), access(&server));
    let Err(Error::Setting { name, wanted, .. }) = driver.install().await else {
        panic!()
    };
    assert_eq!((name, wanted), (EXEC_MODE, "IDEMPOTENT"));
    let sql = format!("SET GLOBAL {EXEC_MODE} = 'IDEMPOTENT'");
    admin(&server).await.query_drop(sql).await.unwrap();
    let Err(Error::TablesRefused(found)) = driver.install().await else {
        panic!()
    };
    let reasons: Vec<_> = found.iter().map(|found| found.reason).collect();
    assert_eq!(reasons, ["NoLastWrite", "UniqueKey"], "{found:?}");
    assert!(found[0].message.contains("updated_at"), "{found:?}");
    assert!(found[1].message.contains("number"), "{found:?}");
}
