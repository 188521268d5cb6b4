//! Promotions that are aborted, by a decision, by a deletion, because rows differ or a link stands still, move nothing and
//! cost the client nothing; the same slots move afterwards.

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use multiactive_api::{Promotion, ROUTING_TABLE, RoutingTable};
use multiactive_core::table::KeyspaceTable;
use multiactive_e2e::held_up::{begin, lets_no_order_in, stuck_at_the_fence, user_of_range};
use multiactive_e2e::kube_ext::wait_for;
use multiactive_e2e::promotion::{ended, myself};
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::session::Session;
use multiactive_e2e::stage::{LIMIT, Stage, orders};
use serde_json::json;

async fn keyspace(stage: &Stage) -> Result<KeyspaceTable> {
    let table = stage.table().await?;
    table.keyspace(&"users".into()).cloned().context("keyspace users")
}

/// The slots of users-0 are served by east-1.
async fn nothing_moved(stage: &Stage, why: &str) -> Result<()> {
    let keyspace = keyspace(stage).await?;
    for slot in [0, 170, 340] {
        let span = keyspace.span_of(slot).context("a span")?;
        let served = format!("{:?}", span.state) == "Serving";
        ensure!(span.is_owned_by(&"east-1".into()) && served, "{why}: {span:?}");
    }
    Ok(())
}

async fn aborted_by_a_decision(stage: &Stage) -> Result<()> {
    let promotions: Api<Promotion> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let by = myself(&stage.hub).await?;
    let decide = async || {
        let decision = json!({"type": "Abort", "by": by, "reason": "the wrong evening"});
        let patch = Patch::Merge(json!({"spec": {"decisions": [decision]}}));
        promotions.patch("decided", &PatchParams::default(), &patch).await?;
        let status = ended(&stage.hub, "decided", LIMIT).await?;
        let end = (status.outcome.as_deref(), status.reason.as_deref());
        ensure!(end == (Some("Aborted"), Some("AbortRequested")), "{status:?}");
        let message = status.message.clone().unwrap_or_default();
        ensure!(message.contains("the wrong evening"), "it says why: {message}");
        Ok(())
    };
    stuck_at_the_fence(stage, "decided", decide).await?;
    nothing_moved(stage, "after the decision").await
}

async fn aborted_by_a_deletion(stage: &Stage) -> Result<()> {
    let promotions: Api<Promotion> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let delete = async || {
        promotions.delete("deleted", &DeleteParams::default()).await?;
        let tables: Api<RoutingTable> = Api::namespaced(stage.hub.clone(), NAMESPACE);
        let end = wait_for(&tables, ROUTING_TABLE, LIMIT, |table| {
            let mut finished = table.spec.finished.iter();
            finished.find(|done| done.name == "deleted").cloned()
        })
        .await?;
        ensure!(
            end.outcome == "Aborted" && end.reason.as_deref() == Some("AbortRequested"),
            "{end:?}"
        );
        Ok(())
    };
    stuck_at_the_fence(stage, "deleted", delete).await?;
    let gone =
        kube::runtime::wait::await_condition(promotions, "deleted", |object: Option<&Promotion>| object.is_none());
    tokio::time::timeout(LIMIT, gone)
        .await
        .context("the finalizer stays")??;
    nothing_moved(stage, "after the deletion").await
}

/// Changes one row of users-0 at north, behind fence and links; the other databases do not learn of it.
async fn planted(stage: &Stage, change: &str) -> Result<()> {
    let mut session = Session::of(stage.region("north")?).await?;
    let user = user_of_range(stage, &mut session).await?;
    session
        .run(
            "SET session_replication_role = replica;
             SELECT pg_replication_origin_create('planted')
              WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'planted');
             SELECT pg_replication_origin_session_setup('planted')",
        )
        .await?;
    let sql = format!("UPDATE orders SET taken_at = taken_at {change} WHERE user_id = '{user}' AND seq = 1");
    let changed = session.run(&sql).await?;
    ensure!(changed == 1, "{changed} rows of {user}");
    Ok(())
}

async fn aborted_where_rows_differ(stage: &Stage) -> Result<()> {
    planted(stage, "+ interval '1 hour'").await?;
    begin(stage, "differing", "Full").await?;
    let status = ended(&stage.hub, "differing", LIMIT).await?;
    let end = (status.outcome.as_deref(), status.reason.as_deref());
    ensure!(end == (Some("Aborted"), Some("RowsDiffer")), "{status:?}");
    ensure!(status.pause.is_none(), "no write was held for it: {status:?}");
    nothing_moved(stage, "after the comparison").await?;
    planted(stage, "- interval '1 hour'").await
}

/// A transaction at the target that lets no row in: its link does not get on, and long before Drain's budget is over it is
/// said who holds it.
async fn aborted_where_a_link_stands_still(stage: &Stage) -> Result<()> {
    let locked = lets_no_order_in(stage.region("north")?).await?;
    begin(stage, "standing-still", "None").await?;
    let status = ended(&stage.hub, "standing-still", LIMIT).await?;
    let end = (status.outcome.as_deref(), status.reason.as_deref());
    ensure!(end == (Some("Aborted"), Some("LinkBroken")), "{status:?}");
    let message = status.message.clone().unwrap_or_default();
    ensure!(message.contains("north-1 cannot follow"), "it says who: {message}");
    drop(locked);
    stage.install.ready(|_| {}).await?;
    nothing_moved(stage, "after the link stood still").await
}

pub(crate) async fn an_aborted_promotion_moves_nothing_and_costs_no_request(stage: &Stage) -> Result<()> {
    let load = stage.load(20)?;
    orders(&load, 100).await;
    aborted_by_a_decision(stage).await?;
    orders(&load, 50).await;
    aborted_by_a_deletion(stage).await?;
    orders(&load, 50).await;
    aborted_where_rows_differ(stage).await?;
    orders(&load, 50).await;
    aborted_where_a_link_stands_still(stage).await?;
    orders(&load, 50).await;

    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    stage.moved("at-last", "north-1", range, "Full").await?;
    orders(&load, 50).await;
    stage.judge(load).await.map(drop)
}
