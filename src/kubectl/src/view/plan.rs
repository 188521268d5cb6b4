//! What `plan` shows. The slots come from the same `select` and `admit` by which the operator admits; what stands in the way
//! comes from the objects here, and is replaced by what the operator says where it was asked.

use super::problems::of;
use crate::fail::{Failure, Result};
use crate::fetch::World;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use multiactive_api::convert;
use multiactive_api::{Promotion, Unit};
use multiactive_core::promotion::{MovingStore, Operation, Outcome, Step, admit, no_member};
use multiactive_core::select::{NamedRange, select};
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use serde::Serialize;
use serde_json::Value;

/// Of how many promotions the pause is told.
const LAST: usize = 10;

/// What would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// The namespace.
    pub namespace: String,
    /// The unit that gets the slots.
    pub target: String,
    /// The epoch to expect.
    pub expected_epoch: i64,
    /// How many slots move.
    pub slots: usize,
    /// Which, by source.
    pub moves: Vec<MoveView>,
    /// What stands in the way.
    pub blockers: Vec<String>,
    /// Who says so: `operator` or `objects`.
    pub blockers_from: &'static str,
    /// Why the operator was not asked, where it was not.
    pub not_asked: Option<String>,
    /// The links between the members of the stores that move.
    pub links: Vec<PlanLink>,
    /// How far the target is behind the units that give slots away: not more than this when it was measured last. Unknown where it
    /// is of one of the links.
    pub lag: Option<String>,
    /// What is lost by it: nothing, whatever the lag.
    pub loss: &'static str,
    /// For how long writes will be held.
    pub pause: Option<PauseView>,
    /// The object to apply.
    pub promotion: Value,
}

/// Slots that leave a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveView {
    /// Their keyspace.
    pub keyspace: String,
    /// The unit that owns them.
    pub source: String,
    /// The slots.
    pub slots: String,
    /// How many.
    pub count: usize,
}

/// A link that the move depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanLink {
    /// Its name.
    pub name: String,
    /// The unit whose writes it carries.
    pub from: String,
    /// The unit that applies them.
    pub to: String,
    /// Running, Starting, Broken or Unknown.
    pub state: String,
    /// How late it is, at most, when that was measured last; absent while unknown.
    pub lag: Option<String>,
}

/// What earlier promotions took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseView {
    /// The one in the middle.
    pub median: String,
    /// The longest.
    pub longest: String,
    /// How many were measured.
    pub measured: usize,
}

/// The plan, from what the objects say. `promotion` is the one to apply, of mode Execute.
///
/// # Errors
///
/// Where the Promotion itself is none.
pub fn plan(world: &World, table: &RoutingTable, promotion: &Promotion, now: Timestamp) -> Result<PlanView> {
    let namespace = promotion.namespace().unwrap_or_default();
    let mut view = PlanView {
        namespace: namespace.clone(),
        target: promotion.spec.target_unit.clone(),
        expected_epoch: i64::try_from(table.epoch.epoch).unwrap_or(i64::MAX),
        slots: 0,
        moves: Vec::new(),
        blockers: Vec::new(),
        blockers_from: "objects",
        not_asked: None,
        links: Vec::new(),
        lag: None,
        loss: "0s",
        pause: pause(table),
        promotion: manifest(promotion)?,
    };
    match operation(world, table, promotion, now) {
        Ok(operation) => {
            view.moves = operation
                .moves
                .iter()
                .map(|slot_move| MoveView {
                    keyspace: slot_move.keyspace.to_string(),
                    source: slot_move.source.to_string(),
                    slots: slot_move.slots.to_string(),
                    count: slot_move.slots.len(),
                })
                .collect();
            view.slots = view.moves.iter().map(|slot_move| slot_move.count).sum();
            view.links = links(world, &operation);
            view.lag = lag(&view.links, &operation);
            view.blockers = blockers(world, &operation, &view.links);
        }
        Err(refused) => view.blockers = vec![refused],
    }
    Ok(view)
}

/// The object without what only a server knows.
fn manifest(promotion: &Promotion) -> Result<Value> {
    let mut value = serde_json::to_value(promotion).map_err(Failure::error)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    Ok(value)
}

impl PlanView {
    /// What the operator says, in place of what the objects say.
    pub fn told(&mut self, told: multiactive_api::PromotionPlan) {
        let count = |slots: &str| slots.parse().map_or(0, |slots: SlotSet| slots.len());
        let moves = told.moves.iter().map(|slot_move| MoveView {
            keyspace: slot_move.keyspace.clone(),
            source: slot_move.source.clone(),
            slots: slot_move.slots.clone(),
            count: count(&slot_move.slots),
        });
        self.moves = moves.collect();
        self.slots = self.moves.iter().map(|slot_move| slot_move.count).sum();
        self.expected_epoch = told.expected_epoch;
        self.promotion["spec"]["expectedEpoch"] = told.expected_epoch.into();
        self.blockers = told.blockers;
        self.blockers_from = "operator";
    }
}

/// The operation that would be admitted, or why it would be refused.
fn operation(
    world: &World,
    table: &RoutingTable,
    promotion: &Promotion,
    now: Timestamp,
) -> std::result::Result<Operation, String> {
    let invalid = |error: convert::ConvertError| format!("Invalid: {error}");
    let ranges: Vec<_> = world.ranges.iter().map(NamedRange::from).collect();
    let selected = convert::selection(&promotion.spec.select).map_err(invalid)?;
    let slots = select(&selected, &ranges, table).map_err(|error| format!("{}: {error}", error.reason()))?;
    let (name, stores) = (promotion.name_any(), world.stores.iter().map(MovingStore::from));
    let request = convert::request(&promotion.spec, "plan".into(), &name, slots, stores.collect()).map_err(invalid)?;
    admit(table, &request, now).map_err(|refusal| format!("{}: {refusal}", refusal.reason()))
}

fn links(world: &World, operation: &Operation) -> Vec<PlanLink> {
    let concerned = world.links.iter().filter(|link| {
        let mut stores = operation.stores.iter();
        let members = [link.spec.from.as_str().into(), link.spec.to.as_str().into()];
        stores.any(|store| store.store.as_str() == link.spec.store && members.iter().all(|unit| store.has(unit)))
    });
    concerned
        .map(|link| PlanLink {
            name: link.name_any(),
            from: link.spec.from.clone(),
            to: link.spec.to.clone(),
            lag: link.status.as_ref().and_then(|status| status.lag.clone()),
            state: link
                .status
                .as_ref()
                .and_then(|status| status.state.clone())
                .unwrap_or_else(|| "Unknown".to_owned()),
        })
        .collect()
}

/// The largest lag of the links from the sources to the target; without a store there is nothing to lag.
fn lag(links: &[PlanLink], operation: &Operation) -> Option<String> {
    let sources = operation.sources();
    let concerned = links.iter().filter(|link| {
        let from = sources.iter().any(|source| source.as_str() == link.from);
        from && link.to == operation.target.as_str()
    });
    largest(concerned.map(|link| link.lag.as_deref()))
}

/// The largest of some lags; `None` where one of them is unknown.
pub fn largest<'l>(lags: impl Iterator<Item = Option<&'l str>>) -> Option<String> {
    let lags: Option<Vec<SignedDuration>> = lags.map(|lag| convert::parse_duration("lag", lag?).ok()).collect();
    Some(convert::format_duration(lags?.into_iter().max().unwrap_or_default()))
}

/// What the steps before Hold would wait for or refuse, as far as the objects say.
fn blockers(world: &World, operation: &Operation, links: &[PlanLink]) -> Vec<String> {
    let unit = |name: &str| -> Option<&Unit> { world.units.iter().find(|unit| unit.name_any() == name) };
    let mut blockers = Vec::new();
    if let Some((reason, message)) = no_member(operation) {
        blockers.push(format!("{reason}: {message}"));
    }
    for source in operation.sources() {
        let routers = unit(source.as_str())
            .and_then(|unit| unit.status.as_ref())
            .map(|status| status.routers);
        if routers == Some(0) {
            blockers.push(format!(
                "RoutersMissing: no router of {source} is connected to its agent"
            ));
        }
    }
    let target = &operation.target;
    match unit(target.as_str()) {
        None => blockers.push(format!("UnknownUnit: there is no Unit {target}")),
        Some(unit) => {
            if unit.spec.cordoned {
                blockers.push(format!("TargetCordoned: {target} is cordoned"));
            }
            let readiness = of(unit.status.as_ref().map(|status| &status.conditions));
            if !readiness.is_ready() {
                blockers.push(format!(
                    "TargetNotReady: {target}: {}: {}",
                    readiness.reason, readiness.message
                ));
            }
        }
    }
    let unhealthy = links.iter().filter(|link| link.state != "Running");
    blockers.extend(unhealthy.map(|link| format!("LinksUnhealthy: ReplicationLink {} is {}", link.name, link.state)));
    blockers
}

/// What the last promotions took, by the record: from Hold until the target was seen to serve.
pub fn pause(table: &RoutingTable) -> Option<PauseView> {
    let succeeded = table
        .finished
        .iter()
        .rev()
        .filter(|done| matches!(done.outcome, Outcome::Succeeded));
    let measured = succeeded.filter_map(|done| {
        let at = |step: Step| {
            done.history
                .iter()
                .find(|r| r.step == step && r.not_needed.is_none())
                .map(|r| r.at)
        };
        Some(at(Step::Settle)?.duration_since(at(Step::Hold)?))
    });
    let mut pauses: Vec<SignedDuration> = measured.take(LAST).collect();
    pauses.sort_unstable();
    Some(PauseView {
        median: crate::text::span(*pauses.get(pauses.len() / 2)?),
        longest: crate::text::span(*pauses.last()?),
        measured: pauses.len(),
    })
}
