//! A link that someone or something breaks is mended or named.

use super::support::*;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_broken_by_hand_is_mended_and_lost_rows_are_not_kept_quiet() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let writer = app(&east.server).await;
    let (there, here) = (admin(&east.server).await, admin(&north.server).await);
    let name: String = here
        .query_one("SELECT subname::text FROM pg_subscription", &[])
        .await
        .unwrap()
        .get(0);
    let mut rows = 0;

    // The slot stands behind what was applied until that is flushed and told. Who drops a subscription by hand in between
    // gets those rows once more, and the link says that they exist.
    let told = async || {
        let sql =
            "SELECT coalesce(pg_replication_origin_progress('pg_' || oid, true), '0/0')::text FROM pg_subscription";
        let applied: String = here.query_one(sql, &[]).await.unwrap().get(0);
        let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2";
        until("the slot to stand at what was applied", async || {
            let row = there.query_one(sql, &[&applied, &name]).await.unwrap();
            row.get::<_, Option<bool>>(0)
                .filter(|told| *told)
                .ok_or("not yet".to_owned())
        })
        .await;
    };

    // What leaves the slot alone loses nothing: it is mended, and the rows come.
    for sql in [
        format!("ALTER SUBSCRIPTION {name} DISABLE"),
        format!("ALTER SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port=1 password=x'"),
        format!("ALTER SUBSCRIPTION {name} SET (origin = any)"),
        format!("ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        format!(
            "ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE);
             DROP SUBSCRIPTION {name}"
        ),
    ] {
        told().await;
        for statement in sql.split(';') {
            here.batch_execute(statement).await.unwrap();
        }
        rows += 1;
        insert(&writer, &rows.to_string(), "u1").await.unwrap();
        let link = running(north, east).await;
        assert_eq!(link.gap, None, "{sql}");
        rows_everywhere(&members, rows).await;
    }
    assert_eq!(north.driver.links().await.unwrap().len(), 1);

    // Without its slot the link is made again, and says that it may have missed rows.
    let drop_slot = async || {
        let sql = format!("ALTER SUBSCRIPTION {name} DISABLE");
        here.batch_execute(&sql).await.unwrap();
        let sql = format!("SELECT pg_drop_replication_slot('{name}')");
        until("the slot to be free", async || {
            there.batch_execute(&sql).await.map_err(|e| format!("{e:?}"))
        })
        .await;
    };
    for how in ["slot dropped", "subscription dropped with its slot"] {
        if how == "slot dropped" {
            drop_slot().await;
        } else {
            here.batch_execute(&format!("DROP SUBSCRIPTION {name}")).await.unwrap();
        }
        insert(&writer, &format!("missed: {how}"), "u1").await.unwrap();
        let link = running(north, east).await;
        let gap = link.gap.unwrap_or_else(|| panic!("{how}: no gap told"));
        assert!(gap.contains("east-1 wrote before may be missing"), "{gap}");
        let number = if how == "slot dropped" { 10 } else { 12 };
        let fenced = east
            .driver
            .fence(&op(how), epoch(number), &all(), LIMITS)
            .await
            .unwrap();
        let waited = north
            .driver
            .wait_for(
                &op(how),
                epoch(number),
                std::slice::from_ref(&fenced.position),
                true,
                LONG,
            )
            .await
            .unwrap();
        assert!(
            matches!(&waited, Waited::LinkBroken(why) if why.contains("may be missing")),
            "{how}: {waited:?}"
        );
        set_all(&east.driver, true, number + 1).await;
        // Somebody compares and repairs; then the link is whole again.
        let sql = "SELECT id FROM orders ORDER BY id";
        let (have, miss) = (
            there.query(sql, &[]).await.unwrap(),
            here.query(sql, &[]).await.unwrap(),
        );
        assert_eq!(have.len(), miss.len() + 1, "{how}: the row that was written in between");
        let id = format!("missed: {how}");
        behind_the_back(&here).await;
        insert(&here, &id, "u1").await.unwrap();
        north.driver.compared(&"east-1".into()).await.unwrap();
        assert_eq!(running(north, east).await.gap, None);
    }
    equal_checksums(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_named_and_can_be_unlinked() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let uid = op("p");
    let fenced = east.driver.fence(&uid, epoch(2), &all(), LIMITS).await.unwrap();
    east.server.kill_9().await;
    let broken = until("the dead peer to be noticed", async || {
        match north.driver.link(&peer(east)).await.unwrap().state {
            LinkState::Broken(why) => Ok(why),
            other @ (LinkState::Running
            | LinkState::Starting(_)
            | LinkState::Lacks { .. }
            | LinkState::Cut(_)
            | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(
        broken.contains("connecting to 127.0.0.1") && broken.contains("refused"),
        "{broken}"
    );
    // A position that cannot come any more: LinkBroken, not a time-out.
    let mut beyond = fenced.position.clone();
    beyond.vector[0].position = "FF/0".to_owned();
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &[beyond.clone()], true, LONG)
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::LinkBroken(why) if why.contains("refused")),
        "{waited:?}"
    );
    let unlinked = north.driver.unlink(&east.unit, Some(&peer(east))).await.unwrap();
    assert!(
        matches!(&unlinked, Unlinked::LogKept { why, .. } if why.contains("refused")),
        "{unlinked:?}"
    );
    let waited = north
        .driver
        .wait_for(&uid, epoch(2), &[beyond], true, LONG)
        .await
        .unwrap();
    assert!(
        matches!(&waited, Waited::LinkBroken(why) if why.contains("no link from east-1")),
        "{waited:?}"
    );

    // It returns: what it kept for us is adopted. A second removal, with it alive, leaves nothing behind.
    east.server.restart().await.unwrap();
    running(north, east).await;
    assert_eq!(
        north.driver.unlink(&east.unit, Some(&peer(east))).await.unwrap(),
        Unlinked::Clean
    );
    assert_eq!(
        north.driver.unlink(&east.unit, Some(&peer(east))).await.unwrap(),
        Unlinked::Clean,
        "again"
    );
    let slots = admin(&east.server)
        .await
        .query("SELECT slot_name FROM pg_replication_slots", &[])
        .await
        .unwrap();
    assert_eq!(slots.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_applied_breaks_the_link_by_name_and_mends_when_it_is_gone() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { unreachable!() };
    set_all(&east.driver, true, 1).await;
    let here = admin(&north.server).await;
    behind_the_back(&here).await;
    insert(&here, "a", "u1").await.unwrap();
    insert(&app(&east.server).await, "a", "u1").await.unwrap();
    let why = until("the conflict to be told", async || {
        match north.driver.link(&peer(east)).await.unwrap().state {
            LinkState::Broken(why) => Ok(why),
            other @ (LinkState::Running
            | LinkState::Starting(_)
            | LinkState::Lacks { .. }
            | LinkState::Cut(_)
            | LinkState::Quarantined(_)) => Err(format!("{other:?}")),
        }
    })
    .await;
    // What stands in its way is counted from 18 on.
    let said = match release() {
        Release::Newest => "a row to insert exists",
        Release::Seventeen | Release::Sixteen => "what comes cannot be applied",
    };
    assert!(why.contains(said), "{why}");
    here.batch_execute("DELETE FROM orders").await.unwrap();
    running(north, east).await;
    rows_everywhere(&members, 1).await;
}
