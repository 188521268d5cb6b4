//! How many members each Region has, and how many of them are ready.

use crate::Context;
use crate::conditions::{Readiness, is_ready, set_readiness};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use multiactive_api::{MemberCluster, Region, RegionStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The status of a region. Pure.
fn status(region: &Region, members: &[Arc<MemberCluster>], now: Timestamp) -> RegionStatus {
    let name = region.name_any();
    let mine: Vec<_> = members.iter().filter(|member| member.spec.region == name).collect();
    let ready = |member: &&&Arc<MemberCluster>| {
        let conditions = member.status.as_ref().map(|status| is_ready(&status.conditions));
        conditions.flatten() == Some(true)
    };
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let (all, ready) = (count(mine.len()), count(mine.iter().filter(ready).count()));
    let readiness = if ready == all {
        Readiness::Ready {
            reason: "MembersReady",
            message: "every member cluster answers".to_owned(),
        }
    } else {
        Readiness::Reconciling {
            reason: "MembersNotReady",
            message: format!("{ready} of {all} member clusters answer"),
        }
    };
    let mut status = region.status.clone().unwrap_or_default();
    status.observed_generation = region.metadata.generation;
    status.members = all;
    status.ready_members = ready;
    set_readiness(&mut status.conditions, &readiness, region.metadata.generation, now);
    status
}

/// Runs until `token` is cancelled.
pub(super) async fn run(ctx: Arc<Context>, token: CancellationToken) {
    let mut changes = ctx.hub.changes();
    let api: Api<Region> = Api::all(ctx.client.clone());
    loop {
        let members = ctx.hub.members.all();
        let mut complete = true;
        for region in ctx.hub.regions.all() {
            let wanted = status(&region, &members, Timestamp::now());
            if region.status.as_ref() == Some(&wanted) || crate::status::is_paused(&*region) {
                continue;
            }
            ctx.metrics.wrote("status");
            match crate::status::write(&api, &*region, &wanted).await {
                Ok(_) => {}
                Err(error) if crate::status::is_overtaken(&error) => {}
                Err(error) => {
                    let (region, error) = (region.name_any(), error.chain());
                    tracing::warn!(region, error, "status was not written");
                    complete = false;
                }
            }
        }
        let again = if complete { Duration::MAX } else { AGAIN };
        let relevant = async {
            loop {
                match changes.recv().await {
                    Ok(change) if !matches!(&*change.kind, "Region" | "MemberCluster") => {}
                    // Missed some, or the end: look again.
                    Ok(_) | Err(_) => return,
                }
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = relevant => {}
            () = tokio::time::sleep(again) => {}
        }
        if token.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_counts_its_own_members_and_the_ready_ones() {
        let member = |name: &str, region: &str, ready: Option<&str>| {
            let mut member: MemberCluster = serde_json::from_value(serde_json::json!({
                "apiVersion": "multiactive.io/v1alpha1", "kind": "MemberCluster", "metadata": {"name": name},
                "spec": {"region": region, "access": {"type": "InCluster"}},
            }))
            .unwrap();
            member.status = ready.map(|ready| {
                serde_json::from_value(serde_json::json!({"conditions": [{"type": "Ready", "status": ready,
                    "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
                .unwrap()
            });
            Arc::new(member)
        };
        let members = [
            member("a", "east", Some("True")),
            member("b", "east", Some("False")),
            member("c", "east", None),
            member("d", "north", Some("True")),
        ];
        for (region, want) in [("east", (3, 1)), ("north", (1, 1)), ("south", (0, 0))] {
            let object = Region::new(region, serde_json::from_value(serde_json::json!({})).unwrap());
            let got = status(&object, &members, Timestamp::UNIX_EPOCH);
            assert_eq!((got.members, got.ready_members), want, "{region}");
            assert_eq!(is_ready(&got.conditions), Some(want.0 == want.1), "{region}");
        }
    }
}
