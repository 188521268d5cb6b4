//! Promotions that are held up in the middle, with writes held, until somebody has done what shall happen meanwhile.

use crate::kube_ext::wait_for;
use crate::promotion::create;
use crate::region::NAMESPACE;
use crate::stage::{LIMIT, Stage};
use anyhow::{Context, Result, ensure};
use kube::Api;
use multiactive_api::{ROUTING_TABLE, RoutingTable};
use serde_json::json;
use tokio_postgres::{Client, NoTls};

/// A session of a region's database, as its administrator.
///
/// # Errors
///
/// Where the server refuses.
pub async fn session(stage: &Stage, region: &str) -> Result<Client> {
    let (client, connection) = stage.region(region)?.database().connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A user with an order whose slot is in users-0.
///
/// # Errors
///
/// Where there is none.
pub async fn user_of_range(stage: &Stage, session: &Client) -> Result<String> {
    let table = stage.table().await?;
    let slots = table.keyspace(&"users".into()).context("keyspace users")?.slots;
    let users = session
        .query("SELECT DISTINCT user_id FROM orders ORDER BY 1", &[])
        .await?;
    let mut users = users.iter().map(|row| row.get::<_, String>(0));
    users
        .find(|user| multiactive_core::hash::Function::Crc32.slot(user.as_bytes(), slots) <= 340)
        .context("an order in users-0")
}

/// Begins to move users-0 to north.
///
/// # Errors
///
/// Where the hub refuses it.
pub async fn begin(stage: &Stage, name: &str, verify: &str) -> Result<()> {
    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    create(&stage.hub, name, "north-1", range, verify).await.map(drop)
}

/// Begins a Promotion of users-0 from east to north whose Fence cannot end, since an administrator's transaction, which the agent
/// may not end, has written to one of the slots; runs `then` while it waits there with writes held. Rolls the transaction back.
///
/// # Errors
///
/// Where it does not get there, or what `then` says.
pub async fn stuck_at_the_fence(stage: &Stage, name: &str, then: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let session = session(stage, "east").await?;
    let user = user_of_range(stage, &session).await?;
    session.batch_execute("BEGIN").await?;
    let touch = "UPDATE orders SET taken_at = taken_at WHERE user_id = $1 AND seq = 1";
    ensure!(session.execute(touch, &[&user]).await? == 1, "an order of {user}");
    begin(stage, name, "None").await?;
    at_step(stage, name, "Fence").await?;
    then().await?;
    session.batch_execute("ROLLBACK").await?;
    Ok(())
}

/// Waits until an operation is at a step.
///
/// # Errors
///
/// Where it does not get there in time.
pub async fn at_step(stage: &Stage, name: &str, step: &str) -> Result<()> {
    let tables: Api<RoutingTable> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    wait_for(&tables, ROUTING_TABLE, LIMIT, |table| {
        let mut operations = table.spec.operations.iter();
        operations.any(|op| op.name == name && op.step == step).then_some(())
    })
    .await
    .with_context(|| format!("{name} reaches {step}"))
}
