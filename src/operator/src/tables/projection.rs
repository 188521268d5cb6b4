//! Keeps one member's copy of the table: in order, the latest wins, a higher epoch is never replaced, a deleted copy
//! comes back. One task a member, so that one that hangs delays nobody.

use super::keeper::Keeper;
use crate::apply::{FIELD_MANAGER, within};
use crate::error::Error;
use crate::failpoints::hit;
use crate::metrics::Metrics;
use kube::api::PostParams;
use multiactive_api::{ROUTING_TABLE, RoutingTable, RoutingTableSpec};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

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
    metrics: Metrics,
    member: String,
) {
    let mut failures = 0_u32;
    loop {
        let table = wanted.borrow_and_update().clone();
        let pause = match &table {
            None => None,
            Some(table) => match bring(&mut keeper, table, &metrics).await {
                Ok(Needs::Ahead) => {
                    let (term, epoch) = (table.spec.term, table.spec.epoch);
                    tracing::error!(
                        member,
                        term,
                        epoch,
                        "the member holds a later table than the record, left as it is"
                    );
                    None
                }
                Ok(Needs::Nothing | Needs::Write) => None,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = Duration::from_millis(100 << failures.min(6)).min(Duration::from_secs(5));
                    tracing::warn!(member, error = error.chain(), ?pause, "publishing failed, trying again");
                    Some(pause)
                }
            },
        };
        let Some(pause) = pause else {
            failures = 0;
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = touched.notified() => {}
            }
            continue;
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
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
                tracing::debug!(epoch = table.spec.epoch, after = ?table.since.elapsed(), "published");
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
    let namespace_gone = status.is_not_found() && status.message.contains("namespaces");
    (status.is_conflict() || status.is_already_exists() || status.is_not_found()) && !namespace_gone
}

async fn write(keeper: &Keeper<RoutingTable>, object: &RoutingTable, exists: bool) -> Result<RoutingTable, Error> {
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let error = |source| Error::Apply {
        kind: "RoutingTable".into(),
        name: ROUTING_TABLE.to_owned(),
        source: Box::new(source),
    };
    let what = || "publishing the RoutingTable".to_owned();
    if exists {
        within(what, keeper.api.replace(ROUTING_TABLE, &params, object), error).await
    } else {
        within(what, keeper.api.create(&params, object), error).await
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
            operations: Vec::new(),
            finished: Vec::new(),
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
