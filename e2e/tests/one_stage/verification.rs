//! Rows are compared while a shop takes orders: all equal, then with differences that were planted, which are told row by row,
//! and repaired from the owner without replicating back. No order fails by any of it.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::Api;
use multiactive_api::{LinkState, UnitAssignment, VerificationStatus, VerifiedPair};
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::promotion::{self, create};
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::stage::{LIMIT, Stage, orders};
use multiactive_e2e::verification;
use serde_json::{Value, json};
use shop::load::Load;
use tokio_postgres::{Client, NoTls};

/// A session of a region's database, as its administrator.
async fn session(stage: &Stage, region: &str) -> Result<Client> {
    let (client, connection) = stage.region(region)?.database().connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Creates a Verification, and returns how it ended.
async fn verified(stage: &Stage, name: &str, spec: Value) -> Result<VerificationStatus> {
    let status = verification::verified(&stage.hub, name, spec, LIMIT).await?;
    println!(
        "{name}: {:?} {:?}, {:?} rows, {:?}",
        status.outcome, status.reason, status.rows, status.message
    );
    Ok(status)
}

fn ended(status: &VerificationStatus) -> (&str, &str) {
    let (outcome, reason) = (status.outcome.as_deref(), status.reason.as_deref());
    (outcome.unwrap_or_default(), reason.unwrap_or_default())
}

/// Whether all slots of all pairs were compared.
fn all_slots(status: &VerificationStatus) -> bool {
    let (done, all) = status
        .compared_slots
        .as_deref()
        .and_then(|slots| slots.split_once('/'))
        .unzip();
    done.is_some() && done == all
}

/// One that is held back takes its time.
async fn at_a_pace(stage: &Stage) -> Result<()> {
    let spec = json!({"units": ["north-1"], "maxRowsPerSecond": 100});
    let status = verified(stage, "paced", spec).await?;
    ensure!(
        ended(&status) == ("Succeeded", "Equal") && all_slots(&status),
        "{status:?}"
    );
    let at = |time: &Option<String>| -> Result<Timestamp> { Ok(time.as_ref().context("a time")?.parse()?) };
    let took = at(&status.ended_at)?.duration_since(at(&status.started_at)?);
    let rows = status.rows.context("rows")?;
    println!("{rows} rows at 100 a second: {took:?}");
    ensure!(
        took.as_secs_f64() >= rows as f64 / 100.0 * 0.9,
        "{rows} rows in {took:?}"
    );
    Ok(())
}

/// The one pair that differs, or did.
fn pair(status: &VerificationStatus) -> Result<&VerifiedPair> {
    let mut pairs = status.pairs.iter().filter(|pair| pair.found.differing.is_some());
    let pair = pairs.next().context("a pair that differs")?;
    ensure!(pairs.next().is_none(), "{status:?}");
    ensure!(
        (pair.unit.as_str(), pair.found.owner.as_str()) == ("north-1", "east-1"),
        "{pair:?}"
    );
    Ok(pair)
}

/// Changes three of east's orders at north, behind fence and links: the other databases do not learn of it. Their keys.
async fn planted(stage: &Stage) -> Result<Vec<String>> {
    let north = session(stage, "north").await?;
    north
        .batch_execute(
            "SET session_replication_role = replica;
             SELECT pg_replication_origin_create('planted');
             SELECT pg_replication_origin_session_setup('planted')",
        )
        .await?;
    let slots = stage.table().await?.keyspace(&"users".into()).context("users")?.slots;
    let rows = north
        .query("SELECT DISTINCT user_id FROM orders ORDER BY 1", &[])
        .await?;
    let users = rows.iter().map(|row| row.get::<_, String>(0));
    let of_east = |user: &String| multiactive_core::hash::Function::Crc32.slot(user.as_bytes(), slots) <= 340;
    let users: Vec<_> = users.filter(of_east).take(2).collect();
    let [one, other] = users.as_slice() else {
        anyhow::bail!("two users of east: {users:?}")
    };
    for (sql, user) in [
        (
            "UPDATE orders SET taken_at = taken_at + interval '1 hour' WHERE user_id = $1 AND seq = 1",
            one,
        ),
        ("DELETE FROM orders WHERE user_id = $1 AND seq = 2", one),
        (
            "INSERT INTO orders SELECT (jsonb_populate_record(o, '{\"seq\": 1000000}'::jsonb || jsonb_build_object('id', 'extra-' || o.user_id))).*
             FROM orders o
             WHERE user_id = $1 AND seq = 1",
            other,
        ),
    ] {
        ensure!(north.execute(sql, &[user]).await? == 1, "{sql} of {user}");
    }
    Ok(vec![one.clone(), one.clone(), other.clone()])
}

pub(crate) async fn rows_are_compared_and_repaired_under_load(stage: &Stage) -> Result<()> {
    let load = stage.load(20)?;
    orders(&load, 100).await;

    for round in 0..3 {
        let status = verified(stage, &format!("equal-{round}"), json!({})).await?;
        ensure!(ended(&status) == ("Succeeded", "Equal"), "{status:?}");
        ensure!(status.pairs.len() == 6 && status.rows > Some(100), "{status:?}");
        ensure!(all_slots(&status), "{status:?}");
    }
    at_a_pace(stage).await?;

    let users = planted(stage).await?;
    let status = verified(stage, "planted", json!({"stores": ["orders"], "units": ["north-1"]})).await?;
    ensure!(ended(&status) == ("Failed", "RowsDiffer"), "{status:?}");
    let found = &pair(&status)?.found;
    ensure!(found.examples.len() == users.len(), "{found:?}");
    for (user, side) in users.iter().zip(["other values", "only at east-1", "only at north-1"]) {
        let told = |row: &&String| row.contains(user.as_str()) && row.contains(side);
        ensure!(
            found.examples.iter().filter(told).count() == 1,
            "{user} {side}: {found:?}"
        );
    }
    // Only looked at: it is as it was.
    let again = verified(stage, "again", json!({"units": ["north-1"]})).await?;
    ensure!(pair(&again)?.found.differing == found.differing, "{again:?}");

    let status = verified(stage, "repair", json!({"units": ["north-1"], "repair": "FromOwner"})).await?;
    ensure!(ended(&status) == ("Succeeded", "Repaired"), "{status:?}");
    ensure!(pair(&status)?.found.differing == found.differing, "{status:?}");
    orders(&load, 50).await;
    let status = verified(stage, "after", json!({})).await?;
    ensure!(ended(&status) == ("Succeeded", "Equal"), "{status:?}");

    let assignments: Api<UnitAssignment> = Api::namespaced(stage.region("north")?.client().await?, NAMESPACE);
    wait_for(&assignments, "north-1", LIMIT, |assignment| {
        let status = assignment.status.as_ref()?;
        let sound = status
            .links
            .iter()
            .all(|link| link.state == LinkState::Running && !link.gap);
        // What was asked for is over, and is not told any more.
        (sound && status.verification.is_none()).then_some(())
    })
    .await
    .context("north's links run and nothing is left of the comparison")?;
    only_what_changed(stage, &load, &users[0]).await?;
    stage.judge(load).await.map(drop)
}

/// A promotion that compares what changed since all was equal: one that finds a difference, and one that finds none.
async fn only_what_changed(stage: &Stage, load: &Load, user: &str) -> Result<()> {
    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    let north = session(stage, "north").await?;
    north
        .batch_execute(
            "SET session_replication_role = replica;
             SELECT pg_replication_origin_session_setup('planted')",
        )
        .await?;
    let shift = async |by: &str| {
        let sql =
            format!("UPDATE orders SET taken_at = taken_at {by} interval '1 hour' WHERE user_id = $1 AND seq = 1");
        ensure!(north.execute(&sql, &[&user]).await? == 1, "{sql} of {user}");
        Ok(())
    };
    shift("+").await?;
    create(&stage.hub, "changed-one", "north-1", range.clone(), "Changed").await?;
    let status = promotion::ended(&stage.hub, "changed-one", LIMIT).await?;
    let end = (status.outcome.as_deref(), status.reason.as_deref());
    ensure!(end == (Some("Aborted"), Some("RowsDiffer")), "{status:?}");
    shift("-").await?;
    // A difference forgets what was found equal before.
    let status = verified(stage, "equal-again", json!({"units": ["north-1"]})).await?;
    ensure!(ended(&status) == ("Succeeded", "Equal"), "{status:?}");
    let before = agent_said(stage, "north", "compared what changed")?;
    ensure!(before > 0, "all rows were compared, not only what changed");
    stage.moved("changed-none", "north-1", range, "Changed").await?;
    let after = agent_said(stage, "north", "compared what changed")?;
    ensure!(after > before, "all rows were compared, not only what changed");
    orders(load, 50).await;
    Ok(())
}

/// How many lines of a region's agent have these words.
fn agent_said(stage: &Stage, region: &str, words: &str) -> Result<usize> {
    let mut clusters = stage.world.clusters.iter();
    let cluster = clusters.find(|cluster| cluster.name() == region).context("a cluster")?;
    let mut lines = 0;
    for file in std::fs::read_dir(cluster.dir().join("node/logs"))? {
        let path = file?.path();
        if path.to_string_lossy().ends_with("_agent.log") {
            lines += std::fs::read_to_string(&path)?.matches(words).count();
        }
    }
    Ok(lines)
}
