//! The finalizer of a Failover: there before it begins, gone when it has ended and says so.

use super::request::uid_of;
use crate::Context;
use crate::failpoints::hit;
use crate::finalizers;
use crate::tables::View;
use crate::tables::decide::{OPERATION_FINALIZER, is_failover_pending};
use kube::{Api, ResourceExt};
use multiactive_api::Failover;

/// Adds or removes the finalizer where the view asks for it; whether that succeeded.
pub async fn finalizer(ctx: &Context, failover: &Failover, view: &View) -> bool {
    let Some(table) = view.table.as_deref() else {
        return true;
    };
    let uid = uid_of(failover);
    if table.operations.iter().any(|op| op.object() == uid) {
        return true;
    }
    let has = failover.finalizers().iter().any(|f| f == OPERATION_FINALIZER);
    let told = failover.status.as_ref().is_some_and(|status| status.outcome.is_some());
    let leaving = failover.metadata.deletion_timestamp.is_some();
    let begins = is_failover_pending(failover, table) && !view.refused.contains_key(&uid);
    let api: Api<Failover> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let result = match (has, told || leaving, begins) {
        (true, true, _) => {
            hit("finalizer-before-remove");
            let result = finalizers::remove(&api, failover, OPERATION_FINALIZER).await;
            hit("finalizer-after-remove");
            result
        }
        (false, _, true) => {
            hit("finalizer-before-add");
            let result = finalizers::add(&api, failover, OPERATION_FINALIZER).await;
            hit("finalizer-after-add");
            result
        }
        (true, false, _) | (false, _, false) => return true,
    };
    ctx.metrics.wrote("Failover");
    finalizers::settled(result, "Failover", &failover.name_any())
}
