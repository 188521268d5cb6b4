//! Promotions that are held up in the middle, with writes held, until somebody has done what shall happen meanwhile.

use crate::kube_ext::wait_for;
use crate::promotion::create;
use crate::region::{Engine, NAMESPACE, Region};
use crate::session::Session;
use crate::stage::{LIMIT, Stage};
use anyhow::{Context, Result, ensure};
use kube::Api;
use multiactive_api::{ROUTING_TABLE, RoutingTable};
use serde_json::json;

/// A transaction that has written and not ended, which the agent may not end: the fence waits for it.
pub struct InTheWay(Session);

/// How the one in MariaDB or MySQL is called, where an agent may end every session and no transaction of XA that is prepared.
const PREPARED: &str = "'in-the-way'";

impl InTheWay {
    /// Writes to a region's database: one row, by this statement.
    ///
    /// # Errors
    ///
    /// Where the server refuses, or it is not one row.
    pub async fn of(region: &Region, write: &str) -> Result<Self> {
        let mut session = Session::of(region).await?;
        let (begins, stays) = match region.engine {
            Engine::PostgreSql => ("BEGIN".to_owned(), None),
            // Out of the log: what is prepared would be at every member.
            Engine::MariaDb | Engine::MySql => (
                format!(
                    "SET SESSION sql_log_bin = 0; CALL multiactive.past_the_log(); SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; XA START {PREPARED}"
                ),
                Some(format!("XA END {PREPARED}; XA PREPARE {PREPARED}")),
            ),
        };
        session.run(&begins).await?;
        let changed = session.run(write).await?;
        ensure!(changed == 1, "{changed} rows: {write}");
        if let Some(stays) = stays {
            session.run(&stays).await?;
        }
        Ok(Self(session))
    }

    /// Nothing of it was ever so.
    ///
    /// # Errors
    ///
    /// Where the server is not there any more.
    pub async fn goes(mut self) -> Result<()> {
        let sql = match &self.0 {
            Session::PostgreSql(_) => "ROLLBACK".to_owned(),
            Session::MySqlFamily(_) => format!("XA ROLLBACK {PREPARED}"),
        };
        self.0.run(&sql).await.map(drop)
    }
}

/// Locks the orders of a region's database, so that no row comes in, until the session ends.
///
/// # Errors
///
/// Where the server refuses.
pub async fn lets_no_order_in(region: &Region) -> Result<Session> {
    let mut session = Session::of(region).await?;
    let sql = match region.engine {
        Engine::PostgreSql => "BEGIN; LOCK TABLE orders IN SHARE MODE",
        Engine::MariaDb | Engine::MySql => "LOCK TABLES orders READ",
    };
    session.run(sql).await?;
    Ok(session)
}

/// A user with an order whose slot is in users-0.
///
/// # Errors
///
/// Where there is none.
pub async fn user_of_range(stage: &Stage, session: &mut Session) -> Result<String> {
    let table = stage.table().await?;
    let slots = table.keyspace(&"users".into()).context("keyspace users")?.slots;
    let users = session.rows("SELECT DISTINCT user_id FROM orders ORDER BY 1").await?;
    let mut users = users.into_iter().flatten();
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
    let east = stage.region("east")?;
    let user = user_of_range(stage, &mut Session::of(east).await?).await?;
    let touch = format!("UPDATE orders SET prev = prev + 1 WHERE user_id = '{user}' AND seq = 1");
    let in_the_way = InTheWay::of(east, &touch).await?;
    begin(stage, name, "None").await?;
    at_step(stage, name, "Fence").await?;
    then().await?;
    in_the_way.goes().await
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
