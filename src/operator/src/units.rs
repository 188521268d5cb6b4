//! Units: what their status says (pure), and the finalizer that holds one that owns slots.

use crate::Context;
use crate::conditions::{Readiness, set_readiness};
use crate::finalizers;
use crate::protection::Labelled;
use crate::tables::{View, mode, returning};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use multiactive_api::{LeaseState, QuarantineState, Unit, UnitLease, UnitRole, UnitStatus};
use multiactive_core::ids::UnitName;
use multiactive_core::quarantine::{self, Quarantined};
use multiactive_core::table::RoutingTable;

/// Holds a Unit that owns slots, or whose assignment is still in its member.
pub const UNIT_FINALIZER: &str = "multiactive.io/unit";

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
    let said = report.and_then(|report| report.lease.clone());
    status.lease = Some(UnitLease {
        mode: mode(unit).into(),
        state: said.as_ref().map(|lease| lease.state),
        message: said.and_then(|lease| lease.message),
    });
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
                     and it goes. To keep it, take its finalizer {UNIT_FINALIZER} off and apply it again unchanged: what \
                     runs in it stays meanwhile"
                ),
            }
        } else {
            Readiness::Reconciling {
                reason: "Leaving",
                message: "its assignment is being removed from its member".to_owned(),
            }
        };
    }
    if let Some(known) = view.table.as_deref().and_then(|table| quarantine::of(table, name)) {
        return Readiness::Stalled {
            reason: "Quarantined",
            message: format!(
                "the Failover {} gave its slots to others at epoch {}: it serves nothing before it was compared and has \
                 rejoined{}",
                known.name,
                known.since,
                returning_words(known, view)
            ),
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
    if let Some(lease) = report.and_then(|report| report.lease.as_ref()) {
        let told = || lease.message.clone().unwrap_or_default();
        match lease.state {
            LeaseState::Held | LeaseState::Alone | LeaseState::Late => {}
            LeaseState::Over => {
                return Readiness::Reconciling {
                    reason: "LeaseOver",
                    message: told(),
                };
            }
            LeaseState::Sealed => {
                return Readiness::Stalled {
                    reason: "LeaseSealed",
                    message: told(),
                };
            }
        }
    }
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

/// How far a unit in quarantine is on its way back.
fn returning_words(known: &Quarantined, view: &View) -> String {
    let Some(report) = returning::report(known, &view.inputs) else {
        return String::new();
    };
    let rows = report
        .rows
        .map_or_else(|| "an unknown number of".to_owned(), |rows| rows.to_string());
    let words = match (report.state, &known.accepted) {
        (QuarantineState::Comparing, _) => "what only it holds is being listed".to_owned(),
        (QuarantineState::Compared, None) => format!(
            "{rows} rows that only it holds are listed; decide with: kubectl multiactive decide failover/{} AcceptDivergence \
             --target {} -n {} --reason \"...\"",
            known.name, known.unit, view.inputs.namespace
        ),
        (QuarantineState::Compared, Some(word)) => format!("{} accepted what differs", word.by),
        (QuarantineState::Rejoining, _) => "its databases are being made equal to those of the owners".to_owned(),
        (QuarantineState::Rejoined, _) => "its databases are equal to those of the owners".to_owned(),
    };
    match &report.message {
        Some(message) => format!("; {words}: {message}"),
        None => format!("; {words}"),
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

/// Adds or removes the finalizer where the view asks for it; whether that succeeded. A label that could not be taken off
/// in its member yet holds it, because nobody would come back for it.
pub async fn finalizer(ctx: &Context, unit: &Unit, view: &View, labelled: &Labelled) -> bool {
    let name = unit.name_any();
    // Without a record nothing is known of what it owns.
    let record = view.table.as_deref().filter(|_| view.record_problem.is_none());
    let free = record.is_some_and(|table| !is_needed(&UnitName(name.clone()), table));
    // A cluster that is no member any more holds nothing for us.
    let member_gone = ctx.hub.members.get("", &unit.spec.cluster).is_none();
    let gone = view.terminating || view.unassigned.contains(&name) || member_gone;
    let api: Api<Unit> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let label_left = labelled.failed.contains(&unit.spec.cluster) && !member_gone;
    let free = free && gone && !label_left;
    finalizers::keep(&ctx.metrics, &api, unit, UNIT_FINALIZER, free).await
}
