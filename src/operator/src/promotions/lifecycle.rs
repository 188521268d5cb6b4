//! The finalizer of a Promotion: there before it begins, gone when it has ended and says so.

use super::request::uid_of;
use crate::Context;
use crate::failpoints::hit;
use crate::finalizers;
use crate::tables::View;
use crate::tables::decide::{OPERATION_FINALIZER, is_pending};
use kube::{Api, ResourceExt};
use multiactive_api::Promotion;

/// What the finalizer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Add,
    Remove,
}

fn needs(promotion: &Promotion, view: &View) -> Needs {
    let has = promotion.finalizers().iter().any(|f| f == OPERATION_FINALIZER);
    let Some(table) = view.table.as_deref() else {
        return Needs::Nothing;
    };
    let uid = uid_of(promotion);
    if table.operation(&uid).is_some() {
        return Needs::Nothing;
    }
    let told = promotion.status.as_ref().is_some_and(|status| status.outcome.is_some());
    let leaving = promotion.metadata.deletion_timestamp.is_some();
    if has && (told || leaving) {
        return Needs::Remove;
    }
    if !has && is_pending(promotion, table) && !view.refused.contains_key(&uid) {
        return Needs::Add;
    }
    Needs::Nothing
}

/// Adds or removes the finalizer where the view asks for it; whether that succeeded.
pub async fn finalizer(ctx: &Context, promotion: &Promotion, view: &View) -> bool {
    let api: Api<Promotion> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let result = match needs(promotion, view) {
        Needs::Nothing => return true,
        Needs::Add => {
            hit("finalizer-before-add");
            let result = finalizers::add(&api, promotion, OPERATION_FINALIZER).await;
            hit("finalizer-after-add");
            result
        }
        Needs::Remove => {
            hit("finalizer-before-remove");
            let result = finalizers::remove(&api, promotion, OPERATION_FINALIZER).await;
            hit("finalizer-after-remove");
            result
        }
    };
    ctx.metrics.wrote("Promotion");
    finalizers::settled(result, "Promotion", &promotion.name_any())
}
