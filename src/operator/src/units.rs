//! Units: what their status says (pure), the finalizer that holds one that owns slots, and the protection of their
//! namespace.

use crate::Context;
use crate::apply::{FIELD_MANAGER, read, within};
use crate::conditions::{Readiness, set_readiness};
use crate::error::Error;
use crate::finalizers;
use crate::tables::View;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use multiactive_api::{Unit, UnitRole, UnitStatus};
use multiactive_core::ids::UnitName;
use multiactive_core::table::RoutingTable;
use serde_json::json;

/// Holds a Unit that owns slots, or whose assignment is still in its member.
pub const UNIT_FINALIZER: &str = "multiactive.io/unit";

/// The label of a namespace whose units own slots: a policy refuses its deletion.
pub const PROTECTED: &str = "multiactive.io/protected";

/// How many slots a unit owns, over all keyspaces.
fn owned(unit: &UnitName, view: &View) -> usize {
    let owned = view
        .table
        .as_deref()
        .map(|table| table.owned_by(unit))
        .unwrap_or_default();
    owned.iter().map(|(_, slots)| slots.len()).sum()
}

/// Whether a unit must stay: it owns slots, or an operation counts on it.
pub fn is_needed(unit: &UnitName, table: &RoutingTable) -> bool {
    let mut operations = table.operations.iter();
    let named = operations.any(|op| op.target == *unit || op.moves.iter().any(|m| m.source == *unit));
    named || !table.owned_by(unit).is_empty()
}

/// The status that the view asks for.
pub fn status(unit: &Unit, view: &View, now: Timestamp) -> UnitStatus {
    let mut status = unit.status.clone().unwrap_or_default();
    let name = UnitName(unit.name_any());
    let report = view.inputs.reports.get(&name).and_then(|report| report.status.as_ref());
    status.slots = i32::try_from(owned(&name, view)).unwrap_or(i32::MAX);
    if let Some(report) = report {
        let connected = report.routers.iter().filter(|router| router.connected).count();
        status.routers = i32::try_from(connected).unwrap_or(i32::MAX);
    }
    status.applied = view
        .inputs
        .applied(&name)
        .map(|epoch| epoch.to_string())
        .or(status.applied);
    status.observed_generation = unit.metadata.generation;
    let readiness = readiness(unit, &name, view);
    set_readiness(&mut status.conditions, &readiness, unit.metadata.generation, now);
    status
}

fn readiness(unit: &Unit, name: &UnitName, view: &View) -> Readiness {
    let slots = owned(name, view);
    if unit.metadata.deletion_timestamp.is_some() {
        return if slots > 0 {
            Readiness::Stalled {
                reason: "OwnsSlots",
                message: format!(
                    "it is being deleted, but owns {slots} slots: move them with a Promotion (select type Unit, unit {name}) \
                     and it goes"
                ),
            }
        } else {
            Readiness::Reconciling {
                reason: "Leaving",
                message: "its assignment is being removed from its member".to_owned(),
            }
        };
    }
    if let Err((reason, message)) = usable(unit, name, view) {
        let stalled = view
            .site_problem(unit)
            .is_some_and(|problem| problem.stalled && problem.reason == reason);
        return match reason {
            "MemberUnusable" => Readiness::Stalled { reason, message },
            _ if stalled => Readiness::Stalled { reason, message },
            _ => Readiness::Reconciling { reason, message },
        };
    }
    let report = view.inputs.reports.get(name).and_then(|report| report.status.as_ref());
    let connected = report.is_some_and(|report| report.routers.iter().any(|router| router.connected));
    if !connected {
        return Readiness::Reconciling {
            reason: "NoRouter",
            message: "no router is connected to its agent".to_owned(),
        };
    }
    match slots {
        0 => Readiness::Ready {
            reason: "Standby",
            message: "it can take over; it owns no slot".to_owned(),
        },
        _ => Readiness::Ready {
            reason: "Serving",
            message: "agent, stores and routers are ready".to_owned(),
        },
    }
}

/// Whether member, agent and stores are ready, else one word and why.
fn usable(unit: &Unit, name: &UnitName, view: &View) -> Result<(), (&'static str, String)> {
    if let Some(why) = view.unusable_members.get(&unit.spec.cluster) {
        return Err(("MemberUnusable", why.clone()));
    }
    if !view.inputs.reachable.contains(name) {
        let message = format!(
            "MemberCluster {} does not answer: what is known is old",
            unit.spec.cluster
        );
        return Err(("MemberNotReady", message));
    }
    if let Some(problem) = view.site_problem(unit) {
        return Err((problem.reason, problem.message.clone()));
    }
    match view.inputs.stores_ready(name) {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => Err(("StoreNotReady", why)),
        None => Err((
            "AgentNotReporting",
            "its agent has not reported on its present assignment: is the agent running in the member?".to_owned(),
        )),
    }
}

/// Why a unit that is the home of slots without an owner does not get them, for people.
pub fn why_not_open(name: &UnitName, view: &View) -> String {
    let Some(unit) = view.inputs.unit(name) else {
        return "there is no such Unit".to_owned();
    };
    if unit.spec.role == UnitRole::Standby {
        return "its role is Standby: it serves nothing until promoted".to_owned();
    }
    match usable(unit, name, view) {
        Ok(()) => "it is about to open them".to_owned(),
        Err((_, why)) => why,
    }
}

/// Adds or removes the finalizer where the view asks for it; whether that succeeded.
pub async fn finalizer(ctx: &Context, unit: &Unit, view: &View) -> bool {
    let has = unit.finalizers().iter().any(|f| f == UNIT_FINALIZER);
    let leaving = unit.metadata.deletion_timestamp.is_some();
    let name = unit.name_any();
    // Without a record nothing is known of what it owns.
    let record = view.table.as_deref().filter(|_| view.record_problem.is_none());
    let free = record.is_some_and(|table| !is_needed(&UnitName(name.clone()), table));
    // A cluster that is no member any more holds nothing for us.
    let member_gone = ctx.hub.members.get("", &unit.spec.cluster).is_none();
    let gone = view.terminating || view.unassigned.contains(&name) || member_gone;
    let api: Api<Unit> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let result = match (leaving, has) {
        (false, false) => finalizers::add(&api, unit, UNIT_FINALIZER).await,
        (true, true) if free && gone => finalizers::remove(&api, unit, UNIT_FINALIZER).await,
        (false, true) | (true, false | true) => return true,
    };
    ctx.metrics.wrote("Unit");
    finalizers::settled(result, "Unit", &name)
}

/// Labels the namespace while its units own slots; `known` is what it was last. Whether that succeeded.
pub async fn protect(ctx: &Context, namespace: &str, view: &View, known: &mut Option<bool>) -> bool {
    let Some(table) = &view.table else { return true };
    let wanted = table
        .keyspaces
        .iter()
        .flat_map(|k| &k.spans)
        .any(|span| span.owner.is_some());
    if *known == Some(wanted) || view.terminating {
        return true;
    }
    let result = label(ctx, namespace, wanted).await;
    match result {
        Ok(()) => {
            *known = Some(wanted);
            true
        }
        Err(error) => {
            tracing::warn!(namespace, error = error.chain(), "the namespace was not labelled");
            false
        }
    }
}

async fn label(ctx: &Context, namespace: &str, wanted: bool) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let Some(object) = read(&api, namespace).await? else {
        return Ok(());
    };
    let has = object.labels().get(PROTECTED).is_some_and(|value| value == "true");
    if has == wanted {
        return Ok(());
    }
    let value = wanted.then_some("true");
    let patch = Patch::Merge(json!({"metadata": {"labels": {PROTECTED: value}}}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let error = |source| Error::Apply {
        kind: "Namespace".into(),
        name: namespace.to_owned(),
        source: Box::new(source),
    };
    let what = || format!("labelling Namespace {namespace}");
    within(what, api.patch(namespace, &params, &patch), error).await?;
    ctx.metrics.wrote("Namespace");
    Ok(())
}
