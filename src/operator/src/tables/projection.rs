//! Keeps one member's copy of the table: in order, the latest wins, a higher epoch is never replaced, a deleted copy
//! comes back. One task a member, so that one that hangs delays nobody.

use super::keeper::Keeper;
use super::site::Desk;
use super::trouble::{Failing, SiteProblem, namespace_missing};
use crate::apply::{FIELD_MANAGER, writing};
use crate::error::Error;
use crate::failpoints::hit;
use crate::metrics::Metrics;
use kube::api::PostParams;
use multiactive_api::{ROUTING_TABLE, RoutingTable, RoutingTableSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The table that all members shall hold, and since when.
#[derive(Clone, Debug)]
pub struct Published {
    /// The table.
    pub spec: Arc<RoutingTableSpec>,
    /// When it was committed.
    pub since: Instant,
}

/// What a member's copy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Write,
    /// The member holds a later table than the record: the record went back, or somebody else wrote here.
    Ahead,
}

fn needs(held: Option<&RoutingTableSpec>, wanted: &RoutingTableSpec) -> Needs {
    match held {
        None => Needs::Write,
        Some(held) if (held.term, held.epoch) > (wanted.term, wanted.epoch) => Needs::Ahead,
        Some(held) if held == wanted => Needs::Nothing,
        Some(_) => Needs::Write,
    }
}

/// Writes until it is dropped. `touched` tells that the member's copy changed.
pub async fn run(
    mut keeper: Keeper<RoutingTable>,
    mut wanted: watch::Receiver<Option<Published>>,
    touched: Arc<Notify>,
    desk: Desk,
) {
    let (mut failures, mut failing) = (0_u32, Failing::default());
    loop {
        let table = wanted.borrow_and_update().clone();
        let result = match &table {
            None => Ok(Needs::Nothing),
            Some(table) => bring(&mut keeper, table, &desk.metrics).await,
        };
        let (member, now) = (desk.member.as_str(), Instant::now());
        let (ahead, failed) = match (result, &table) {
            (Ok(Needs::Ahead), Some(table)) => (Some(ahead(&keeper, table, member)), BTreeMap::new()),
            (Ok(Needs::Ahead | Needs::Nothing | Needs::Write), _) => (None, BTreeMap::new()),
            (Err(error), _) => (None, BTreeMap::from([(ROUTING_TABLE.to_owned(), error)])),
        };
        let lasting = failing
            .take(&failed, (member, &desk.namespace), now)
            .remove(ROUTING_TABLE);
        desk.board.table(ahead.or(lasting));
        let Some(error) = failed.get(ROUTING_TABLE) else {
            failures = 0;
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = touched.notified() => {}
            }
            continue;
        };
        failures = failures.saturating_add(1);
        let pause = pause_after(failures);
        tracing::warn!(member, error = error.chain(), ?pause, "publishing failed, trying again");
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How soon what failed so often in a row is tried again.
pub fn pause_after(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(6)).min(Duration::from_secs(5))
}

/// The problem of a member that is ahead of the record.
fn ahead(keeper: &Keeper<RoutingTable>, table: &Published, member: &str) -> SiteProblem {
    let ours = format!("{}.{}", table.spec.term, table.spec.epoch);
    let theirs = keeper.known(ROUTING_TABLE);
    let theirs = theirs.map_or_else(String::new, |held| format!(" {}.{}", held.spec.term, held.spec.epoch));
    tracing::error!(
        member,
        ours,
        theirs,
        "the member holds a later table than the record, left as it is"
    );
    SiteProblem {
        reason: "MemberAhead",
        message: format!(
            "member {member} holds the routing table of epoch{theirs}, the record is of {ours}: the record went back, or \
             somebody wrote in the member; its agents and routers follow no earlier epoch; restore the later record, or \
             delete the record and it is put together again from the members"
        ),
        stalled: true,
    }
}

/// Brings the copy to `table`, in one write where the present version is known.
async fn bring(keeper: &mut Keeper<RoutingTable>, table: &Published, metrics: &Metrics) -> Result<Needs, Error> {
    let mut held = keeper.current(ROUTING_TABLE).await?;
    loop {
        let needs = needs(held.as_ref().map(|held| &held.spec), &table.spec);
        if needs != Needs::Write {
            return Ok(needs);
        }
        let mut object = RoutingTable::new(ROUTING_TABLE, (*table.spec).clone());
        if let Some(held) = &held {
            object.metadata = held.metadata.clone();
            object.metadata.managed_fields = None;
        }
        hit("publish-before-write");
        match write(keeper, &object, held.is_some()).await {
            Ok(written) => {
                hit("publish-after-write");
                metrics.wrote("RoutingTable");
                metrics.publish.observe(table.since.elapsed().as_secs_f64());
                let epoch = format!("{}.{}", table.spec.term, table.spec.epoch);
                tracing::debug!(epoch, after = ?table.since.elapsed(), "published");
                keeper.wrote(written);
                return Ok(Needs::Write);
            }
            Err(error) if error.status().is_some_and(lost_race) => held = keeper.ask(ROUTING_TABLE).await?,
            Err(error) => return Err(error),
        }
    }
}

/// Somebody else wrote, created or deleted it meanwhile.
fn lost_race(status: &kube::core::Status) -> bool {
    let gone = status.is_not_found() && !namespace_missing(status);
    status.is_conflict() || status.is_already_exists() || gone
}

async fn write(keeper: &Keeper<RoutingTable>, object: &RoutingTable, exists: bool) -> Result<RoutingTable, Error> {
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    if exists {
        let call = keeper.api.replace(ROUTING_TABLE, &params, object);
        writing::<RoutingTable, _>("publishing", ROUTING_TABLE, call).await
    } else {
        let call = keeper.api.create(&params, object);
        writing::<RoutingTable, _>("publishing", ROUTING_TABLE, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(term: i64, epoch: i64, units: usize) -> RoutingTableSpec {
        let unit = |index| multiactive_api::TableUnit {
            name: format!("u{index}"),
            router: "https://r:1".to_owned(),
        };
        RoutingTableSpec {
            term,
            epoch,
            units: (0..units).map(unit).collect(),
            keyspaces: Vec::new(),
            writers: Vec::new(),
            operations: Vec::new(),
            finished: Vec::new(),
            quarantined: Vec::new(),
            leases: Vec::new(),
            fencing: Vec::new(),
        }
    }

    #[test]
    fn a_copy_is_written_only_where_it_is_older_or_altered() {
        for (held, want) in [
            (None, Needs::Write),
            (Some(table(1, 4, 1)), Needs::Write),
            (Some(table(1, 5, 1)), Needs::Nothing),
            (Some(table(1, 5, 2)), Needs::Write),
            (Some(table(1, 6, 1)), Needs::Ahead),
            (Some(table(2, 1, 1)), Needs::Ahead),
        ] {
            assert_eq!(needs(held.as_ref(), &table(1, 5, 1)), want, "{held:?}");
        }
    }
}
