//! One look at everything that the decisions about a namespace depend on. Reading it is all that is not pure.

use crate::Context;
use crate::status::is_paused;
use kube::ResourceExt;
use multiactive_api::{
    DataStore, Keyspace, Promotion, ShardRange, Unit, UnitAssignment, UnitAssignmentStatus, UnitRole, UnitWorkload,
};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::ownership::{Declared, DeclaredKeyspace, DeclaredUnit, UnitSeen};
use multiactive_core::ranges::{self, Homes, RangeProblem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is declared and reported in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The namespace.
    pub namespace: String,
    /// Units, by name.
    pub units: Vec<Arc<Unit>>,
    /// Keyspaces.
    pub keyspaces: Vec<Arc<Keyspace>>,
    /// ShardRanges.
    pub ranges: Vec<Arc<ShardRange>>,
    /// DataStores.
    pub stores: Vec<Arc<DataStore>>,
    /// Promotions.
    pub promotions: Vec<Arc<Promotion>>,
    /// UnitWorkloads, for their status.
    pub workloads: Vec<Arc<UnitWorkload>>,
    /// Names of Promotions that exist and cannot be parsed: they are there, whatever they say.
    pub unreadable_promotions: BTreeSet<String>,
    /// What agents report, by unit.
    pub reports: BTreeMap<UnitName, Arc<UnitAssignment>>,
    /// Units whose member answers now.
    pub reachable: BTreeSet<UnitName>,
    /// Units whose member is known not to answer: it has not for several probes in a row.
    pub away: BTreeSet<UnitName>,
}

impl Inputs {
    /// What the copies show now; reports and reachability come from the sites.
    pub fn look(
        ctx: &Context,
        namespace: &str,
        reports: BTreeMap<UnitName, Arc<UnitAssignment>>,
        (reachable, away): (BTreeSet<UnitName>, BTreeSet<UnitName>),
    ) -> Self {
        let hub = &ctx.hub;
        Self {
            namespace: namespace.to_owned(),
            units: hub.units.of(namespace),
            keyspaces: hub.keyspaces.of(namespace),
            ranges: hub.ranges.of(namespace),
            stores: hub.stores.of(namespace),
            promotions: hub.promotions.of(namespace),
            workloads: hub.workloads.of(namespace),
            unreadable_promotions: hub
                .promotions
                .invalid(namespace)
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            reports,
            reachable,
            away,
        }
    }

    /// Whether a unit's member answers; `None` while neither is known.
    pub fn answers(&self, unit: &UnitName) -> Option<bool> {
        match (self.reachable.contains(unit), self.away.contains(unit)) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// The unit of this name.
    pub fn unit(&self, name: &UnitName) -> Option<&Unit> {
        let found = self
            .units
            .iter()
            .find(|unit| unit.metadata.name.as_deref() == Some(name.as_str()));
        found.map(|unit| &**unit)
    }

    /// The homes of a keyspace's slots, or everything that is wrong with its ranges.
    pub fn homes(&self, keyspace: &Keyspace) -> Result<Homes, Vec<RangeProblem>> {
        let name = keyspace.name_any();
        let known = self.units.iter().map(|unit| unit.name_any().into()).collect();
        let mine = self.ranges.iter().filter(|range| range.spec.keyspace == name);
        let mine: Vec<_> = mine
            .map(|range| ranges::ShardRange {
                name: range.name_any(),
                first: range.spec.first_slot.into(),
                last: range.spec.last_slot.into(),
                home: range.spec.home_unit.as_str().into(),
            })
            .collect();
        ranges::homes(u32::try_from(keyspace.spec.slots).unwrap_or(0), &mine, &known)
    }

    /// What is declared, in the core's terms. A paused keyspace gives no slot an owner.
    pub fn declared(&self) -> Declared {
        let units = self.units.iter().map(|unit| DeclaredUnit {
            name: unit.name_any().into(),
            router: unit.spec.router.clone(),
        });
        let keyspaces = self.keyspaces.iter().map(|keyspace| DeclaredKeyspace {
            name: KeyspaceName(keyspace.name_any()),
            slots: u32::try_from(keyspace.spec.slots).unwrap_or(0),
            homes: self.homes(keyspace).ok().filter(|_| !is_paused(&**keyspace)),
        });
        Declared {
            units: units.collect(),
            keyspaces: keyspaces.collect(),
        }
    }

    /// What is seen of each unit, as far as ownership outside of promotions asks.
    pub fn units_seen(&self) -> BTreeMap<UnitName, UnitSeen> {
        let seen = self.units.iter().map(|unit| {
            let name = UnitName(unit.name_any());
            let known = UnitSeen {
                applied: self.applied(&name),
                may_open: self.may_open(unit),
            };
            (name, known)
        });
        seen.collect()
    }

    /// The table to which a unit's agent says it brought its stores. It only grows, so an old report is still true.
    pub fn applied(&self, unit: &UnitName) -> Option<Epoch> {
        applied(self.reports.get(unit)?.status.as_ref()?)
    }

    /// Whether a unit may become a first owner; `None` where that is not known.
    fn may_open(&self, unit: &Unit) -> Option<bool> {
        if unit.metadata.deletion_timestamp.is_some() || unit.spec.role == UnitRole::Standby {
            return Some(false);
        }
        self.stores_ready(&unit.name_any().into()).map(|ready| ready.is_ok())
    }

    /// Whether the agent has every store of the unit in hand, else the first problem; `None` where the agent has not
    /// said so about the present assignment, or its cluster does not answer.
    pub fn stores_ready(&self, unit: &UnitName) -> Option<Result<(), String>> {
        if !self.reachable.contains(unit) {
            return None;
        }
        let assignment = self.reports.get(unit)?;
        let status = assignment.status.as_ref()?;
        if status.observed_generation != assignment.metadata.generation {
            return None;
        }
        for store in &assignment.spec.stores {
            let known = status.stores.iter().find(|known| known.name == store.name)?;
            if !known.ready {
                let why = known
                    .message
                    .as_deref()
                    .or(known.reason.as_deref())
                    .unwrap_or("not ready");
                return Some(Err(format!("store {}: {why}", store.name)));
            }
        }
        Some(Ok(()))
    }
}

/// The table to which an agent says it brought its stores.
pub(super) fn applied(status: &UnitAssignmentStatus) -> Option<Epoch> {
    let applied = status.applied?;
    Some(Epoch::new(
        u32::try_from(applied.term).ok()?,
        u64::try_from(applied.epoch).ok()?,
    ))
}
