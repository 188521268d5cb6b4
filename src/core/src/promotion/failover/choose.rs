//! Which unit takes over each range of a lost unit, and why the units before it do not. Deterministic: what two operators
//! see alike, they choose alike. The explanation is data, for status shows it before anything is fenced.

use crate::ids::{KeyspaceName, OperationUid, StoreName, UnitName};
use crate::promotion::{MovingStore, Operation, Step, UnitReady};
use crate::quarantine;
use crate::slots::SlotSet;
use crate::table::RoutingTable;
use std::fmt;

/// A ShardRange as it stands in Git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverRange {
    /// Its name.
    pub name: String,
    /// Its keyspace.
    pub keyspace: KeyspaceName,
    /// Its slots.
    pub slots: SlotSet,
    /// Who may own them, the best one first: its home unit, then its failover units in their order. The lost one among them
    /// is passed over.
    pub units: Vec<UnitName>,
}

/// What is seen of a unit that may take over. Unknown is `None`, and not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The unit.
    pub unit: UnitName,
    /// Whether a person keeps slots away from it.
    pub cordoned: bool,
    /// Whether its member cluster and its databases answer.
    pub reachable: Option<bool>,
    /// Whether it can take over.
    pub ready: Option<UnitReady>,
    /// Why its rows may lack something, where they may: it was behind at an earlier commit, or a link of it has a gap, and
    /// it was not compared since.
    pub behind: Option<String>,
}

/// Why a unit does not take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is lost itself, or in quarantine.
    Lost,
    /// There is no such unit, or nothing is known of it.
    Unknown,
    /// A person keeps slots away from it.
    Cordoned,
    /// It has no member of a store whose rows would be its own.
    NoMember(StoreName),
    /// It does not answer.
    Unreachable,
    /// Whether it answers is not known.
    ReachUnknown,
    /// It cannot take over, and why.
    NotReady(String),
    /// Whether it can is not known.
    ReadyUnknown,
    /// Its rows may lack something.
    Behind(String),
    /// It handed the slots to the lost unit a moment ago, which may have opened them.
    MayHaveOpened,
}

impl Unusable {
    /// Whether only something is not known yet: a moment later it may be usable.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::ReachUnknown | Self::ReadyUnknown => true,
            Self::Lost
            | Self::Unknown
            | Self::Cordoned
            | Self::NoMember(_)
            | Self::Unreachable
            | Self::NotReady(_)
            | Self::Behind(_)
            | Self::MayHaveOpened => false,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("lost or in quarantine"),
            Self::Unknown => f.write_str("nothing is known of a unit of that name"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::NoMember(store) => write!(f, "DataStore {store} has no member in it"),
            Self::Unreachable => f.write_str("does not answer"),
            Self::ReachUnknown => f.write_str("it is not known whether it answers"),
            Self::NotReady(why) => write!(f, "not ready: {why}"),
            Self::ReadyUnknown => f.write_str("it is not known whether it is ready"),
            Self::Behind(why) => write!(f, "behind: {why}"),
            Self::MayHaveOpened => f.write_str(
                "it handed the slots on, and the lost unit may have opened them; named as spec.targetUnit, it takes them back \
                 once the lost unit's databases say that they never did",
            ),
        }
    }
}

/// The first reason for which a unit may not own rows of these stores.
pub fn unusable(candidate: &Candidate, stores: &[MovingStore], lost: &[UnitName]) -> Option<Unusable> {
    if lost.contains(&candidate.unit) {
        return Some(Unusable::Lost);
    }
    if candidate.cordoned {
        return Some(Unusable::Cordoned);
    }
    if let Some(store) = stores.iter().find(|store| !store.has(&candidate.unit)) {
        return Some(Unusable::NoMember(store.store.clone()));
    }
    match candidate.reachable {
        Some(true) => {}
        Some(false) => return Some(Unusable::Unreachable),
        None => return Some(Unusable::ReachUnknown),
    }
    if let Some(why) = &candidate.behind {
        return Some(Unusable::Behind(why.clone()));
    }
    match &candidate.ready {
        Some(UnitReady::Ready) => None,
        Some(UnitReady::NotReady(why)) => Some(Unusable::NotReady(why.clone())),
        None => Some(Unusable::ReadyUnknown),
    }
}

/// A unit that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The unit.
    pub unit: UnitName,
    /// Why.
    pub why: Unusable,
}

/// Slots that have a new owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Their ShardRange; `None` where no range holds them.
    pub range: Option<String>,
    /// Their keyspace.
    pub keyspace: KeyspaceName,
    /// The slots.
    pub slots: SlotSet,
    /// The operation whose unopened slots these are.
    pub superseded: Option<OperationUid>,
    /// Who shall own them.
    pub target: UnitName,
    /// Who was passed over for it.
    pub skipped: Vec<Skipped>,
}

/// Slots that nobody may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Their ShardRange; `None` where no range holds them.
    pub range: Option<String>,
    /// Their keyspace.
    pub keyspace: KeyspaceName,
    /// The slots.
    pub slots: SlotSet,
    /// Everyone who was asked.
    pub skipped: Vec<Skipped>,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keyspace, slots) = (&self.keyspace, &self.slots);
        match (keyspace.writer_of(), &self.range) {
            (Some(store), _) => write!(f, "the writer of DataStore {store}")?,
            (None, Some(range)) => write!(f, "range {range} (slots {slots} of {keyspace})")?,
            (None, None) => write!(f, "slots {slots} of {keyspace}, which no ShardRange holds")?,
        }
        let skipped: Vec<_> = self
            .skipped
            .iter()
            .map(|skip| format!("{}: {}", skip.unit, skip.why))
            .collect();
        match skipped.is_empty() {
            true => f.write_str(": it names no failover unit"),
            false => write!(f, ": {}", skipped.join("; ")),
        }
    }
}

/// Where all that a lost unit owns goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// What has a new owner.
    pub placed: Vec<Placed>,
    /// What has none: it stays with the lost unit, fenced once anything else of it has moved.
    pub unplaced: Vec<Unplaced>,
}

/// What is chosen from.
#[derive(Clone, Copy, Debug)]
pub struct Choosing<'a> {
    /// The table.
    pub table: &'a RoutingTable,
    /// The lost unit.
    pub lost: &'a UnitName,
    /// The unit that the user named: it takes the place of the ranges' own order, not of the rules.
    pub target: Option<&'a UnitName>,
    /// The ShardRanges.
    pub ranges: &'a [FailoverRange],
    /// What is seen of the units.
    pub candidates: &'a [Candidate],
    /// The stores in force.
    pub stores: &'a [MovingStore],
}

/// For each range the first unit that may take over the slots of the lost one.
pub fn choose(choosing: Choosing<'_>) -> Placement {
    let mut ranges: Vec<&FailoverRange> = choosing.ranges.iter().collect();
    ranges.sort_by(|a, b| (&a.keyspace, &a.name).cmp(&(&b.keyspace, &b.name)));
    let mut placement = Placement::default();
    for (keyspace, owned) in choosing.table.owned_by(choosing.lost) {
        let mut left = owned;
        for range in ranges.iter().filter(|range| range.keyspace == keyspace) {
            let slots = range.slots.intersection(&left);
            left = left.difference(&slots);
            place(
                &choosing,
                Some(&range.name),
                &keyspace,
                &slots,
                &range.units,
                &mut placement,
            );
        }
        place(&choosing, None, &keyspace, &left, &[], &mut placement);
    }
    placement
}

/// Slots of one range: those that the lost unit was about to open are placed apart, for they have rules of their own.
fn place(
    choosing: &Choosing<'_>,
    range: Option<&String>,
    keyspace: &KeyspaceName,
    slots: &SlotSet,
    order: &[UnitName],
    placement: &mut Placement,
) {
    let mut left = slots.clone();
    let opening = choosing
        .table
        .operations
        .iter()
        .filter(|op| is_opening(op, choosing.lost));
    for op in opening {
        let mine = op.slots_of(keyspace, None).intersection(&left);
        left = left.difference(&mine);
        place_part(choosing, (range, keyspace), mine, Some(op), order, placement);
    }
    place_part(choosing, (range, keyspace), left, None, order, placement);
}

fn place_part(
    choosing: &Choosing<'_>,
    (range, keyspace): (Option<&String>, &KeyspaceName),
    slots: SlotSet,
    opening: Option<&Operation>,
    order: &[UnitName],
    placement: &mut Placement,
) {
    if slots.is_empty() {
        return;
    }
    let named: Vec<UnitName> = choosing.target.into_iter().cloned().collect();
    let order = if named.is_empty() { order } else { &named };
    let mut skipped = Vec::new();
    for unit in order.iter().filter(|unit| *unit != choosing.lost) {
        match refused(choosing, keyspace, unit, opening) {
            Some(why) => skipped.push(Skipped {
                unit: unit.clone(),
                why,
            }),
            None => {
                placement.placed.push(Placed {
                    range: range.cloned(),
                    keyspace: keyspace.clone(),
                    slots,
                    superseded: opening.map(|op| op.uid.clone()),
                    target: unit.clone(),
                    skipped,
                });
                return;
            }
        }
    }
    placement.unplaced.push(Unplaced {
        range: range.cloned(),
        keyspace: keyspace.clone(),
        slots,
        skipped,
    });
}

fn refused(
    choosing: &Choosing<'_>,
    keyspace: &KeyspaceName,
    unit: &UnitName,
    opening: Option<&Operation>,
) -> Option<Unusable> {
    let candidate = choosing.candidates.iter().find(|candidate| candidate.unit == *unit);
    let known = choosing.table.units.iter().any(|known| known.name == *unit);
    let Some(candidate) = candidate.filter(|_| known) else {
        return Some(Unusable::Unknown);
    };
    let stores = choosing.stores.iter().filter(|store| store.keyspace == *keyspace);
    let stores: Vec<_> = stores.cloned().collect();
    unusable(candidate, &stores, &quarantine::lost(choosing.table)).or_else(|| {
        let op = opening?;
        if op.behind.contains(unit) {
            let name = &op.name;
            return Some(Unusable::Behind(format!(
                "it had not applied all when {name} committed"
            )));
        }
        // Nothing is asked of a unit that is lost before its fence, so who handed it the slots a moment ago is passed over;
        // where a person names that one, Fence waits for the lost unit's own word.
        let named = choosing.target == Some(unit);
        let returns = op.sources().contains(&unit) && !named;
        returns.then_some(Unusable::MayHaveOpened)
    })
}

/// Whether this operation gave its slots to `lost`, which has not opened them as far as the table knows.
pub(super) fn is_opening(op: &Operation, lost: &UnitName) -> bool {
    op.target == *lost && [Step::Commit, Step::Open].contains(&op.step)
}

/// The units that may own each of these ranges, in the order of the first: those that an operation may turn to when its
/// target fails. The operator makes the candidates of an operation by it.
pub fn common_order(mine: &[FailoverRange]) -> Vec<UnitName> {
    let Some(first) = mine.first() else {
        return Vec::new();
    };
    let common = first
        .units
        .iter()
        .filter(|unit| mine.iter().all(|range| range.units.contains(unit)));
    common.cloned().collect()
}
