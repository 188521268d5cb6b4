//! From the agents' reports to what the step machine sees. Facts are tied to the operation's uid and epoch; what is
//! not known is `None`.

use super::compared::{compared, uncompared};
use crate::failovers::seen::{decisions, failover_seen};
use crate::tables::Inputs;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use multiactive_api::{
    Decision, DecisionType, LinkState, OperationReport, Promotion, UnitAssignmentStatus, WorkloadState,
};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Reach;
use multiactive_core::promotion::{
    FenceSeen, MemberSeen, MovingStore, Operation, OperationKind, RouterBehind, RoutersSeen, Seen, Since, SourceSeen,
    Step, StorePosition, TargetSeen, UnitReady,
};
use std::collections::BTreeSet;

/// Everything that [`multiactive_core::promotion::next`] looks at, for one operation.
pub fn seen(op: &Operation, inputs: &Inputs) -> Seen {
    let in_force = in_force(op, inputs);
    let stores = counted_stores(op, in_force.as_deref());
    let sources: BTreeSet<&UnitName> = op.sources().into_iter().collect();
    let holders = stores.iter().flat_map(|store| store.members.iter());
    let mut members: BTreeSet<&UnitName> = holders.filter(|unit| !sources.contains(unit)).collect();
    members.insert(&op.target);
    let away = away(op, inputs);
    Seen {
        abort: abort(op, inputs),
        stores: in_force,
        target: Some(target(op, inputs, &stores)),
        sources: op
            .sources()
            .into_iter()
            .map(|unit| source(op, unit, inputs, &stores, &away))
            .collect(),
        members: members
            .into_iter()
            .map(|unit| member(op, unit, inputs, &stores, &away))
            .collect(),
        compared: compared(op, inputs, &stores),
        uncompared: uncompared(op, inputs, &stores),
        routers_behind: Some(routers_behind(op, inputs)),
        // By the table, which is not among the inputs.
        lost: Vec::new(),
        decisions: decisions(op, inputs),
        failover: failover_seen(op, inputs),
        since: Since::default(),
    }
}

/// The stores in force of the keyspaces that move; `None` where one of those that were noted cannot be read now.
fn in_force(op: &Operation, inputs: &Inputs) -> Option<Vec<MovingStore>> {
    let moves = |store: &MovingStore| op.moves.iter().any(|m| m.keyspace == store.keyspace);
    let all = inputs.stores_in_force();
    let unreadable = |store: &MovingStore| {
        let known = all.iter().any(|other| other.store == store.store);
        !known && inputs.unreadable_stores.contains(store.store.as_str())
    };
    let unknown = op.stores.iter().any(unreadable);
    (!unknown).then(|| all.into_iter().filter(moves).collect())
}

/// The stores that are asked about: as the operation noted them. Once the owner has changed, what is not there any more
/// is not waited for.
fn counted_stores(op: &Operation, in_force: Option<&[MovingStore]>) -> Vec<MovingStore> {
    let Some(in_force) = in_force.filter(|_| op.step >= Step::Commit) else {
        return op.stores.clone();
    };
    let still = |store: &MovingStore| {
        let now = in_force.iter().find(|now| now.store == store.store)?;
        let mut store = store.clone();
        store.members.retain(|unit| now.has(unit));
        Some(store)
    };
    op.stores.iter().filter_map(still).collect()
}

/// Units with which links need not run: their members are away, or were when writes began to be held. Source and target
/// are never among them: a planned promotion waits for both.
pub(crate) fn away(op: &Operation, inputs: &Inputs) -> BTreeSet<UnitName> {
    let sources = op.sources();
    let silent = inputs.silent_stores.iter();
    let silent = silent.filter(|(unit, store)| {
        op.stores
            .iter()
            .any(|moving| moving.store == *store && moving.has(unit))
    });
    let away = inputs.away.iter().chain(&op.behind).chain(silent.map(|(unit, _)| unit));
    let away = away.chain(&inputs.lost);
    away.filter(|unit| **unit != op.target && !sources.contains(unit))
        .cloned()
        .collect()
}

/// Why someone wants it to end: a decision, or that its object is being or was deleted.
fn abort(op: &Operation, inputs: &Inputs) -> Option<String> {
    let kind = op.kind;
    let found: Option<(&ObjectMeta, &[Decision])> = match kind {
        OperationKind::Promotion => {
            let object = |promotion: &&std::sync::Arc<Promotion>| promotion.uid().as_deref() == Some(op.uid.as_str());
            let promotion = inputs.promotions.iter().find(object);
            promotion.map(|promotion| (&promotion.metadata, promotion.spec.decisions.as_slice()))
        }
        OperationKind::Failover => {
            let failover = crate::failovers::seen::object(op, inputs);
            failover.map(|failover| (&failover.metadata, failover.spec.decisions.as_slice()))
        }
    };
    let Some((metadata, decisions)) = found else {
        // A copy that does not show it proves nothing: only the server knows.
        let gone = inputs.gone.contains(&op.object());
        return gone.then(|| format!("its {kind} was deleted"));
    };
    if metadata.deletion_timestamp.is_some() {
        return Some(format!("its {kind} is being deleted"));
    }
    let decided = decisions.iter().find(|decision| match decision.kind {
        DecisionType::Abort => true,
        DecisionType::AcceptDataLoss | DecisionType::ConfirmFenced | DecisionType::AcceptDivergence => false,
    });
    decided.map(|decision| format!("{} decided Abort: {}", decision.by, decision.reason))
}

fn status<'a>(unit: &UnitName, inputs: &'a Inputs) -> Option<&'a UnitAssignmentStatus> {
    inputs.reports.get(unit)?.status.as_ref()
}

/// What the unit's agent reports for the operation.
pub(super) fn report<'a>(op: &Operation, unit: &UnitName, inputs: &'a Inputs) -> Option<&'a OperationReport> {
    status(unit, inputs)?
        .operations
        .iter()
        .find(|report| report.uid == op.uid.as_str())
}

/// The report, if the agent acted on the operation's present epoch.
pub(crate) fn current_report<'a>(op: &Operation, unit: &UnitName, inputs: &'a Inputs) -> Option<&'a OperationReport> {
    report(op, unit, inputs).filter(|report| epoch(report.term, report.epoch) == Some(op.epoch))
}

fn epoch(term: i64, epoch: i64) -> Option<Epoch> {
    Some(Epoch::new(u32::try_from(term).ok()?, u64::try_from(epoch).ok()?))
}

/// Whether `unit` can take over the slots of `stores`.
pub(crate) fn readiness(unit: &UnitName, inputs: &Inputs, stores: &[MovingStore]) -> Option<UnitReady> {
    let not_ready = |why: String| Some(UnitReady::NotReady(why));
    let Some(object) = inputs.unit(unit) else {
        return not_ready("there is no Unit of that name".to_owned());
    };
    if object.metadata.deletion_timestamp.is_some() {
        return not_ready("it is being deleted".to_owned());
    }
    if let Some(store) = stores.iter().find(|store| !store.has(unit)) {
        return not_ready(format!("DataStore {} has no member in it", store.store));
    }
    if let Err(why) = inputs.stores_ready(unit)? {
        return not_ready(why);
    }
    let connected = status(unit, inputs)?.routers.iter().any(|router| router.connected);
    if !connected {
        return not_ready("no router is connected to its agent".to_owned());
    }
    for workload in &inputs.workloads {
        let units = workload.status.iter().flat_map(|status| &status.units);
        for entry in units.filter(|entry| entry.unit == unit.as_str()) {
            let state = format!("{:?}", entry.state);
            let why = entry.message.as_deref().unwrap_or(&state);
            match entry.state {
                WorkloadState::Ready => {}
                WorkloadState::Unknown => return None,
                WorkloadState::Progressing | WorkloadState::Failed => {
                    return not_ready(format!("UnitWorkload {}: {why}", workload.name_any()));
                }
            }
        }
    }
    Some(UnitReady::Ready)
}

fn target(op: &Operation, inputs: &Inputs, stores: &[MovingStore]) -> TargetSeen {
    TargetSeen {
        cordoned: inputs.unit(&op.target).is_some_and(|unit| unit.spec.cordoned),
        ready: readiness(&op.target, inputs, stores),
        applied: inputs.applied(&op.target),
        problem: inputs.store_problem(&op.target),
    }
}

fn source(
    op: &Operation,
    unit: &UnitName,
    inputs: &Inputs,
    stores: &[MovingStore],
    away: &BTreeSet<UnitName>,
) -> SourceSeen {
    let routers = report(op, unit, inputs).zip(status(unit, inputs)).map(|(_, status)| {
        let behind = status.routers.iter().filter(|router| {
            let table = router.table.and_then(|table| epoch(table.term, table.epoch));
            !router.connected || table.is_none_or(|table| table < op.epoch)
        });
        let in_flight = current_report(op, unit, inputs).and_then(|report| report.in_flight);
        RoutersSeen {
            count: u32::try_from(status.routers.len()).unwrap_or(u32::MAX),
            behind: behind.map(|router| router.name.clone()).collect(),
            in_flight: in_flight.and_then(|writes| u64::try_from(writes).ok()),
        }
    });
    let fence = current_report(op, unit, inputs).and_then(|report| {
        let positions: Vec<StorePosition> = report.fenced.as_ref()?.iter().map(Into::into).collect();
        // An agent that does not know of a store yet has not fenced it.
        let mut held = stores.iter().filter(|store| store.has(unit));
        let complete = held.all(|store| positions.iter().any(|p| p.store == store.store && p.source == *unit));
        complete.then_some(FenceSeen {
            epoch: op.epoch,
            positions,
        })
    });
    SourceSeen {
        unit: unit.clone(),
        routers,
        fence,
        // After the commit point a person may have taken the lost source's member away: then it has no links.
        links: if inputs.answers(unit) == Some(false) && stores.iter().any(|store| store.has(unit)) {
            Some(Err("its member cluster does not answer".to_owned()))
        } else {
            links(unit, inputs, stores, false, &bystanders(op, stores, away))
        },
        problem: inputs.store_problem(unit),
    }
}

fn member(
    op: &Operation,
    unit: &UnitName,
    inputs: &Inputs,
    stores: &[MovingStore],
    away: &BTreeSet<UnitName>,
) -> MemberSeen {
    let holds = stores.iter().any(|store| store.has(unit));
    let said = report(op, unit, inputs);
    let lag = said.and_then(|report| report.lag_ms).map(SignedDuration::from_millis);
    let reach = current_report(op, unit, inputs).and_then(|report| report.reach.as_ref());
    let is_target = *unit == op.target;
    // A database that is silent is as good as a cluster that is.
    let gone = !is_target && away.contains(unit) && !op.behind.contains(unit);
    let skipped = match (op.kind, is_target) {
        (OperationKind::Promotion, true) => bystanders(op, stores, away),
        (OperationKind::Promotion, false) => away.clone(),
        // Nobody has links with a unit that is lost; its target has them with all others.
        (OperationKind::Failover, _) => {
            let sources = op.sources().into_iter().cloned();
            away.iter().cloned().chain(sources).collect()
        }
    };
    MemberSeen {
        unit: unit.clone(),
        reachable: if gone { Some(false) } else { inputs.answers(unit) },
        links: links(unit, inputs, stores, true, &skipped),
        // Without a store there is nothing to lag behind or to reach.
        lag: if holds { lag } else { Some(SignedDuration::ZERO) },
        reach: if holds {
            reach.map(Into::into)
        } else {
            Some(Reach::Reached)
        },
    }
}

/// Those with whom links of source and target need not run as far as these two tell: the others tell it themselves.
fn bystanders(op: &Operation, stores: &[MovingStore], away: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
    let sources = op.sources();
    let members = stores.iter().flat_map(|store| &store.members);
    let others = members.filter(|unit| **unit != op.target && !sources.contains(unit));
    others.chain(away).cloned().collect()
}

/// Whether the links of `unit` with each other member of the moving stores run, those apart that are away: into it, and
/// with `both` out of it.
pub(crate) fn links(
    unit: &UnitName,
    inputs: &Inputs,
    stores: &[MovingStore],
    both: bool,
    away: &BTreeSet<UnitName>,
) -> Option<Result<(), String>> {
    let mut unknown = false;
    for store in stores.iter().filter(|store| store.has(unit)) {
        for other in store
            .members
            .iter()
            .filter(|other| *other != unit && !away.contains(other))
        {
            let inward = Some((other, unit));
            let outward = both.then_some((unit, other));
            for (from, to) in inward.into_iter().chain(outward) {
                match link(store, from, to, inputs) {
                    Some(Ok(())) => {}
                    Some(Err(why)) => return Some(Err(why)),
                    None => unknown = true,
                }
            }
        }
    }
    (!unknown).then_some(Ok(()))
}

fn link(store: &MovingStore, from: &UnitName, to: &UnitName, inputs: &Inputs) -> Option<Result<(), String>> {
    let known = status(to, inputs)?.links.iter();
    let link = known
        .into_iter()
        .find(|l| l.store == store.store.as_str() && l.from == from.as_str())?;
    let why = || {
        link.message
            .as_deref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default()
    };
    let name = format!("{} from {from} to {to}", store.store);
    Some(match link.state {
        LinkState::Running => Ok(()),
        LinkState::Starting => Err(format!("link {name} is starting{}", why())),
        LinkState::Broken => Err(format!("link {name} is broken{}", why())),
        LinkState::Cut => Err(format!("link {name} is cut{}", why())),
        LinkState::Quarantined => Err(format!("link {name} waits for its unit to rejoin{}", why())),
    })
}

/// Connected routers of reachable units that route by a table older than the operation's epoch, and the reachable units
/// that have not said which routers they have: one of those is no reason to know nothing of the others.
fn routers_behind(op: &Operation, inputs: &Inputs) -> Vec<RouterBehind> {
    let mut behind = Vec::new();
    for unit in &inputs.reachable {
        let Some(status) = status(unit, inputs) else {
            behind.push(RouterBehind {
                unit: unit.clone(),
                router: None,
            });
            continue;
        };
        for router in status.routers.iter().filter(|router| router.connected) {
            let table = router.table.and_then(|table| epoch(table.term, table.epoch));
            if table.is_none_or(|table| table < op.epoch) {
                behind.push(RouterBehind {
                    unit: unit.clone(),
                    router: Some(router.name.clone()),
                });
            }
        }
    }
    behind
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
