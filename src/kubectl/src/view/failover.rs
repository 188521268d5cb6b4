//! What `failover` would do, unit by unit: who takes over what, by the operator's own choice on what the hub's objects say;
//! whether the unit lives; and how its fence will be proven. The operator chooses anew by what agents say.

use super::failover_seen as seen;
use super::failover_shapes::{Asked, Lost, LostView, State};
use crate::fetch::World;
use crate::operations::FAILOVER;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::convert;
use multiactive_api::{Failover, FailoverPlacement, FailoverSpec};
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::{
    Choosing, FailoverRange, MovingStore, Operation, OperationKind, Placement, Refusal, Skipped, begin, choose,
};
use multiactive_core::quarantine::{self, Quarantined};
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};

/// All of a namespace that the choice depends on.
struct Scene<'a> {
    world: &'a World,
    namespace: &'a str,
    table: RoutingTable,
    ranges: Vec<FailoverRange>,
    stores: Vec<MovingStore>,
}

/// What comes of each.
pub fn plan(world: &World, lost: &[Lost], asked: &Asked, now: Timestamp) -> Vec<LostView> {
    let plan_one = |one: &Lost| {
        let mut view = LostView::of(world, one, asked, now);
        match scene(world, &one.namespace) {
            Ok(scene) => {
                let others = lost
                    .iter()
                    .filter(|other| other.namespace == one.namespace && *other != one);
                view.complete(&scene, &others.collect::<Vec<_>>(), asked, now);
            }
            Err(why) => view.refuse("NoTable", why),
        }
        view
    };
    lost.iter().map(plan_one).collect()
}

fn scene<'a>(world: &'a World, namespace: &'a str) -> Result<Scene<'a>, String> {
    let here = |object: Option<String>| object.as_deref() == Some(namespace);
    let mut tables = world.tables.iter().filter(|table| here(table.namespace()));
    let stored = tables.next().ok_or_else(|| {
        format!("namespace {namespace} has no RoutingTable that can be read: nothing is known to be owned")
    })?;
    let table = RoutingTable::try_from(&stored.spec)
        .map_err(|error| format!("RoutingTable {namespace}/{} cannot be read: {error}", stored.name_any()))?;
    let ranges = world.ranges.iter().filter(|range| here(range.namespace()));
    let stores = world.stores.iter().filter(|store| here(store.namespace()));
    Ok(Scene {
        world,
        namespace,
        table,
        ranges: ranges
            .filter_map(convert::failover_range)
            .chain(stores.clone().filter_map(convert::writer_range))
            .collect(),
        stores: stores.map(MovingStore::from).collect(),
    })
}

impl LostView {
    fn of(world: &World, lost: &Lost, asked: &Asked, now: Timestamp) -> Self {
        let unit = seen::unit(world, lost);
        let cluster = unit.and_then(|unit| seen::cluster(world, &unit.spec.cluster));
        Self {
            namespace: lost.namespace.clone(),
            unit: lost.unit.clone(),
            cluster: unit.map(|unit| unit.spec.cluster.clone()),
            region: cluster.map(|cluster| cluster.spec.region.clone()),
            state: State::Refused,
            reason: None,
            message: None,
            failover: None,
            expected_epoch: None,
            slots: None,
            placement: FailoverPlacement::default(),
            life: seen::life(unit, cluster, now),
            fence: seen::fence(unit),
            lag: None,
            promotions: Vec::new(),
            max_data_loss: asked.max_data_loss.clone(),
            error: None,
            operation: None,
            object: None,
        }
    }

    fn refuse(&mut self, reason: &str, message: impl ToString) {
        self.state = State::Refused;
        self.reason = Some(reason.to_owned());
        self.message = Some(message.to_string());
    }

    fn complete(&mut self, scene: &Scene, others: &[&Lost], asked: &Asked, now: Timestamp) {
        let lost = UnitName(self.unit.clone());
        let owned = scene.table.owned_by(&lost);
        let epoch = i64::try_from(scene.table.epoch.epoch).unwrap_or(i64::MAX);
        self.slots = Some(owned.iter().map(|(_, slots)| slots.len()).sum());
        if let Some((name, step)) = running(scene, &lost, owned.is_empty()) {
            self.state = State::Runs;
            self.message = Some(format!("the Failover {name} runs already, at {step}"));
            self.failover = Some(name);
            return;
        }
        // Who is called lost at the same time takes over nothing.
        let table = without(&scene.table, others);
        let target = asked.to.as_deref().map(UnitName::from);
        let placement = choose(Choosing {
            table: &table,
            lost: &lost,
            target: target.as_ref(),
            ranges: &scene.ranges,
            candidates: &seen::candidates(scene.world, scene.namespace, &table, &lost),
            stores: &scene.stores,
        });
        let name = asked
            .name
            .clone()
            .unwrap_or_else(|| free_name(scene, &self.unit, epoch));
        let spec = FailoverSpec {
            lost_unit: self.unit.clone(),
            target_unit: asked.to.clone(),
            expected_epoch: asked.expected_epoch.unwrap_or(epoch),
            max_data_loss: asked.max_data_loss.clone(),
            decisions: Vec::new(),
        };
        self.placement = FailoverPlacement::from(&placement);
        self.expected_epoch = Some(spec.expected_epoch);
        self.promotions = self.instead(epoch);
        self.lag = seen::lag(scene.world, scene.namespace, &lost, &self.placement);
        self.judge(&table, &spec, &name, (placement, &scene.stores), now);
        if self.state == State::Begins {
            let mut object = Failover::new(&name, spec);
            object.metadata.namespace = Some(self.namespace.clone());
            self.object = Some(object);
            self.failover = Some(name);
        }
    }

    /// What the core says of it, as the operator will ask it.
    fn judge(
        &mut self,
        table: &RoutingTable,
        spec: &FailoverSpec,
        name: &str,
        (placement, stores): (Placement, &[MovingStore]),
        now: Timestamp,
    ) {
        let unknown = is_unknown(&placement);
        // No object has this uid.
        let request = convert::failover_request(spec, "plan".into(), name, placement, stores.to_vec(), false);
        let begun = match request {
            Ok(request) => begin(table, &request, now),
            Err(error) => return self.refuse("Invalid", error),
        };
        match begun {
            Ok(_) => self.state = State::Begins,
            Err(Refusal::NothingOwned(unit)) => {
                self.state = State::OwnsNothing;
                self.reason = Some("NothingOwned".to_owned());
                let known = quarantine::of(table, &unit);
                self.message = Some(match known {
                    Some(known) => format!(
                        "it is in quarantine since epoch {}, by the Failover {}, and owns nothing",
                        known.since, known.name
                    ),
                    None => "it owns no slots: there is nothing to fail over".to_owned(),
                });
            }
            // Who may not read the clusters knows less than the operator.
            Err(Refusal::NoTarget { .. }) if unknown => {
                self.state = State::Begins;
                self.message = Some("who takes over is not known here: the operator decides".to_owned());
            }
            Err(refusal) => self.refuse(refusal.reason(), refusal),
        }
    }

    /// The promotions that do the same and lose nothing, where the unit may live.
    fn instead(&self, epoch: i64) -> Vec<String> {
        if !self.life.looks.may_live() {
            return Vec::new();
        }
        let (unit, namespace) = (&self.unit, &self.namespace);
        let mut by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for placed in &self.placement.placed {
            let ranges = by.entry(placed.target.as_deref().unwrap_or_default()).or_default();
            ranges.extend(placed.range.as_deref());
        }
        let whole = by.len() == 1 && self.placement.unplaced.is_empty();
        by.into_iter()
            .map(|(target, ranges)| {
                let what = match whole {
                    true => format!("--unit {unit}"),
                    false => format!("--range {}", ranges.join(",")),
                };
                format!("kubectl multiactive promote {unit}-to-{target}-{epoch} --to {target} {what} -n {namespace}")
            })
            .collect()
    }
}

/// The failover of the unit that still has to do with what it owns, and where it stands.
fn running(scene: &Scene, lost: &UnitName, owns_nothing: bool) -> Option<(String, String)> {
    let mut objects = scene.world.operations.iter().filter(|op| {
        let here = op.metadata.namespace.as_deref() == Some(scene.namespace);
        here && op.kind == FAILOVER && op.runs() && op.spec.lost_unit.as_deref() == Some(lost.as_str())
    });
    let mine: Vec<&Operation> = scene
        .table
        .operations
        .iter()
        .filter(|op| op.lost() == Some(lost))
        .collect();
    // What one that has committed left behind may be asked for.
    let done = |name: &str| mine.iter().any(|op| op.name == name) && mine.iter().all(|op| !op.step.may_abort());
    let by_object = objects.find(|op| owns_nothing || !done(op.name())).map(|op| {
        let step = op.status.step.clone().unwrap_or_else(|| "Pending".to_owned());
        (op.name().to_owned(), step)
    });
    by_object.or_else(|| {
        let op = mine.iter().find(|op| owns_nothing || op.step.may_abort())?;
        Some((op.name.clone(), op.step.to_string()))
    })
}

/// The table in which these are lost as well.
fn without(table: &RoutingTable, others: &[&Lost]) -> RoutingTable {
    let mut table = table.clone();
    let since = table.epoch;
    table.quarantined.extend(others.iter().map(|other| Quarantined {
        unit: other.unit.as_str().into(),
        since,
        by: "plan".into(),
        name: String::new(),
        accepted: None,
    }));
    table
}

/// A name that was never used, as far as objects and record tell.
fn free_name(scene: &Scene, unit: &str, epoch: i64) -> String {
    let objects = scene.world.operations.iter().filter(|op| {
        let here = op.metadata.namespace.as_deref() == Some(scene.namespace);
        here && op.kind == FAILOVER
    });
    let finished = scene
        .table
        .finished
        .iter()
        .filter(|done| done.kind == OperationKind::Failover);
    let used: BTreeSet<&str> = objects
        .map(crate::operations::Operation::name)
        .chain(finished.map(|done| done.name.as_str()))
        .collect();
    let first = format!("failover-{unit}-{epoch}");
    let more = (2..).map(|number| format!("{first}-{number}"));
    let mut names = std::iter::once(first.clone()).chain(more);
    names.find(|name| !used.contains(name.as_str())).unwrap_or(first)
}

/// Whether a choice failed for want of knowledge.
fn is_unknown(placement: &Placement) -> bool {
    let mut skipped = placement.unplaced.iter().flat_map(|left| &left.skipped);
    skipped.any(|Skipped { why, .. }| why.is_unknown())
}
