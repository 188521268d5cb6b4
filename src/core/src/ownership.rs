//! The table outside of promotions: first owners, opened spans, units and keyspaces that come and go.
//!
//! Nothing here ever moves a slot that has an owner: `homeUnit` decides only for slots that were never owned.

use crate::epoch::Epoch;
use crate::ids::{KeyspaceName, StoreName, UnitName};
use crate::quarantine;
use crate::ranges::Homes;
use crate::slots::{MAX_SLOTS, SlotSet};
use crate::span::SpanState;
use crate::table::{Fencing, KeyspaceTable, RoutingTable, TableUnit};
use std::collections::{BTreeMap, BTreeSet};

/// The epoch of the first table of a namespace.
const FIRST: Epoch = Epoch::new(1, 1);

/// What Git says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// The units.
    pub units: Vec<DeclaredUnit>,
    /// The keyspaces.
    pub keyspaces: Vec<DeclaredKeyspace>,
}

/// A Unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredUnit {
    /// Its name.
    pub name: UnitName,
    /// Where the other units' routers reach it.
    pub router: String,
    /// Whether it shall stop writing without its lease.
    pub fences: bool,
}

/// A Keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredKeyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// Its number of slots.
    pub slots: u32,
    /// [`crate::keyspace::Keyspace::definition`]: what it sends to which slot.
    pub definition: String,
    /// The home unit of every slot; `None` while its ShardRanges are invalid, or it must not be served: no slot gets
    /// an owner then.
    pub homes: Option<Homes>,
    /// Whether a person gave up every slot of it, owned or not, and no database depends on it.
    pub given_up: bool,
    /// The units that hold a member of one of its stores. Their databases may know the keyspace from before, with slots
    /// that are open.
    pub members: Vec<UnitName>,
}

/// What is known of a unit. Unknown is `None` and gives it nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// The table to which its agent has brought its stores.
    pub applied: Option<Epoch>,
    /// Whether agent and stores are ready, so that it may become a first owner.
    pub may_open: Option<bool>,
    /// The table at which all its stores of a keyspace stand, by what its agent says of the stores in force now; a
    /// keyspace of which that is not known is missing.
    pub stands: BTreeMap<KeyspaceName, Epoch>,
    /// Its stores, once all that is known says that it stops writing without its lease, and has said so for as long as one may
    /// last.
    pub fences: Option<BTreeSet<StoreName>>,
}

/// What cannot be taken over from the declarations; all the rest is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnershipProblem {
    /// The number of slots of a keyspace that the table holds was changed.
    #[error(
        "keyspace {keyspace} has {table} slots in the routing table, but {declared} are declared: slots are immutable, \
         and every key would change its place; declare {table} again, or use a new Keyspace"
    )]
    SlotsChanged {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// What the table holds.
        table: u32,
        /// What is declared.
        declared: u32,
    },
    /// A keyspace of the same name sends keys to other slots.
    #[error(
        "keyspace {keyspace} was created again with another function or other overrides: slots were given out by {table}, \
         {declared} is declared, and keys would change their place while their rows stay; apply it as it was, or use a \
         new Keyspace"
    )]
    DefinitionChanged {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// By what the table's slots were given out.
        table: String,
        /// What is declared.
        declared: String,
    },
    /// A keyspace cannot have this number of slots.
    #[error("keyspace {keyspace} declares {slots} slots: it needs at least 1, at most {MAX_SLOTS}")]
    Slots {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// What is declared.
        slots: u32,
    },
    /// The ShardRanges were compiled for another number of slots than the keyspace has.
    #[error("keyspace {keyspace} has {slots} slots, but its ShardRanges cover {covered}")]
    HomesMisfit {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Its number of slots.
        slots: u32,
        /// How many slots the ranges cover.
        covered: u32,
    },
}

impl OwnershipProblem {
    /// The keyspace that it is about.
    pub fn keyspace(&self) -> &KeyspaceName {
        match self {
            Self::SlotsChanged { keyspace, .. }
            | Self::DefinitionChanged { keyspace, .. }
            | Self::Slots { keyspace, .. }
            | Self::HomesMisfit { keyspace, .. } => keyspace,
        }
    }

    /// One word, for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SlotsChanged { .. } => "SlotsChanged",
            Self::DefinitionChanged { .. } => "DefinitionChanged",
            Self::Slots { .. } => "SlotsOutOfBounds",
            Self::HomesMisfit { .. } => "RangesMisfit",
        }
    }
}

/// What to write, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// The next table, all changes in one write; `None` where nothing changes.
    pub table: Option<RoutingTable>,
    /// What was left as it is, because the declarations cannot be followed.
    pub problems: Vec<OwnershipProblem>,
}

/// The next table of a namespace, from the declarations and what is seen of each unit. Commit it by compare-and-swap
/// against `old`, or by creating it where `old` is `None`.
///
/// `old` must be `None` only where there never was a table: one that is lost is put together again by
/// [`crate::recover`].
pub fn manage(old: Option<&RoutingTable>, declared: &Declared, seen: &BTreeMap<UnitName, UnitSeen>) -> Managed {
    let mut table = old.cloned().unwrap_or_default();
    table.epoch = old.map_or(FIRST, |old| old.epoch.next());
    let mut problems = Vec::new();
    take_keyspaces(&mut table, declared, &mut problems);
    serve_opened(&mut table, seen);
    open_unowned(&mut table, declared, seen, &mut problems);
    take_units(&mut table, declared);
    take_fencing(&mut table, declared, seen);
    let same = match old {
        Some(old) => old.units == table.units && old.keyspaces == table.keyspaces && old.fencing == table.fencing,
        None => table.units.is_empty() && table.keyspaces.is_empty(),
    };
    let table = Some(table).filter(|_| !same);
    Managed { table, problems }
}

impl DeclaredKeyspace {
    /// Whether it sends every key to the slot by which the table's slots were given out, as far as that was noted.
    pub fn fits(&self, known: &KeyspaceTable) -> bool {
        let same = known.definition.as_ref().is_none_or(|noted| *noted == self.definition);
        known.slots == self.slots && same
    }
}

/// Adds new keyspaces, removes those that are gone and that nobody owns a slot of. One that was created again as
/// another is another, once nobody owns a slot of the first.
fn take_keyspaces(table: &mut RoutingTable, declared: &Declared, problems: &mut Vec<OwnershipProblem>) {
    let epoch = table.epoch;
    let moving = |name: &KeyspaceName| {
        let mut moves = table.operations.iter().flat_map(|op| &op.moves);
        moves.any(|slot_move| slot_move.keyspace == *name)
    };
    let needed = |known: &KeyspaceTable| known.spans.iter().any(|span| span.owner.is_some()) || moving(&known.name);
    // A writer that is given up is nobody's first, and gone with the next table: none that has an owner is ever dropped.
    let written =
        |known: &KeyspaceTable| known.name.writer_of().is_some() && known.spans.iter().any(|span| span.owner.is_some());
    let leaving: BTreeSet<_> = table
        .keyspaces
        .iter()
        .filter(|known| written(known))
        .map(|known| known.name.clone())
        .collect();
    let wanted = || declared.keyspaces.iter().filter(|keyspace| !keyspace.given_up);
    let given_up: BTreeSet<_> = declared
        .keyspaces
        .iter()
        .filter(|k| k.given_up)
        .map(|k| &k.name)
        .collect();
    let needed = |known: &KeyspaceTable| match given_up.contains(&known.name) {
        true => moving(&known.name) || leaving.contains(&known.name),
        false => needed(known),
    };
    let needed: BTreeSet<_> = table
        .keyspaces
        .iter()
        .filter(|k| needed(k))
        .map(|k| k.name.clone())
        .collect();
    let moved: BTreeSet<KeyspaceName> = leaving.iter().filter(|name| moving(name)).cloned().collect();
    for keyspace in wanted() {
        let (name, slots) = (keyspace.name.clone(), keyspace.slots);
        let known = table.keyspaces.iter_mut().find(|known| known.name == name);
        match known {
            Some(known) if keyspace.fits(known) => known.definition = Some(keyspace.definition.clone()),
            Some(known) if needed.contains(&name) => problems.push(misfit(keyspace, known)),
            Some(_) | None if !(1..=MAX_SLOTS).contains(&slots) => {
                problems.push(OwnershipProblem::Slots { keyspace: name, slots });
            }
            Some(known) => *known = unowned(keyspace, epoch),
            None => table.keyspaces.push(unowned(keyspace, epoch)),
        }
    }
    let given_up_writers = leaving
        .iter()
        .filter(|name| given_up.contains(name) && !moved.contains(*name));
    for name in given_up_writers {
        if let Some(known) = table.keyspaces.iter_mut().find(|known| known.name == *name) {
            let all = known.slots_where(|_| true);
            known.set(&all, None, SpanState::Unowned, epoch);
        }
    }
    let names: BTreeSet<_> = wanted().map(|keyspace| &keyspace.name).collect();
    table
        .keyspaces
        .retain(|keyspace| names.contains(&keyspace.name) || needed.contains(&keyspace.name));
    table.keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
}

/// A keyspace that comes into the table at `epoch`. Its slots are of that epoch, not of none: databases that know it from
/// before, because it was given up or the namespace was made anew, close what they hold open, and that is no step back.
fn unowned(declared: &DeclaredKeyspace, epoch: Epoch) -> KeyspaceTable {
    let mut keyspace = KeyspaceTable {
        definition: Some(declared.definition.clone()),
        ..KeyspaceTable::unowned(declared.name.clone(), declared.slots)
    };
    keyspace.spans.iter_mut().for_each(|span| span.epoch = epoch);
    keyspace
}

/// The members of a keyspace's stores that are not known to have closed the slots that came into the table at `came`.
pub fn not_closed<'a>(
    members: &'a [UnitName],
    keyspace: &KeyspaceName,
    came: Epoch,
    seen: &BTreeMap<UnitName, UnitSeen>,
) -> Vec<&'a UnitName> {
    let stands = |unit: &UnitName| seen.get(unit).and_then(|seen| seen.stands.get(keyspace));
    let closed = |unit: &&UnitName| stands(unit).is_some_and(|stands| *stands >= came);
    members.iter().filter(|unit| !closed(unit)).collect()
}

/// When the slots that nobody owns came into the table; `None` where there are none.
pub fn came(keyspace: &KeyspaceTable) -> Option<Epoch> {
    let unowned = keyspace.spans.iter().filter(|span| span.state == SpanState::Unowned);
    unowned.map(|span| span.epoch).max()
}

fn misfit(declared: &DeclaredKeyspace, known: &KeyspaceTable) -> OwnershipProblem {
    let keyspace = declared.name.clone();
    match &known.definition {
        Some(noted) if known.slots == declared.slots => OwnershipProblem::DefinitionChanged {
            keyspace,
            table: noted.clone(),
            declared: declared.definition.clone(),
        },
        Some(_) | None => OwnershipProblem::SlotsChanged {
            keyspace,
            table: known.slots,
            declared: declared.slots,
        },
    }
}

/// Slots of a keyspace that a running operation moves: they are its business alone.
fn moving(table: &RoutingTable, keyspace: &KeyspaceName) -> SlotSet {
    let moves = table.operations.iter().flat_map(|op| &op.moves);
    let moves = moves.filter(|slot_move| slot_move.keyspace == *keyspace);
    moves.flat_map(|slot_move| slot_move.slots.ranges()).copied().collect()
}

/// `Opening` becomes `Serving` once the owner's stores stand at a table that holds the span.
fn serve_opened(table: &mut RoutingTable, seen: &BTreeMap<UnitName, UnitSeen>) {
    let epoch = table.epoch;
    for place in 0..table.keyspaces.len() {
        let busy = moving(table, &table.keyspaces[place].name);
        let keyspace = &mut table.keyspaces[place];
        let mut opened: BTreeMap<UnitName, Vec<_>> = BTreeMap::new();
        for span in keyspace.spans.iter().filter(|span| span.state == SpanState::Opening) {
            let Some(owner) = &span.owner else { continue };
            let applied = seen.get(owner).and_then(|unit| unit.applied);
            if applied.is_some_and(|applied| applied >= span.epoch) {
                opened.entry(owner.clone()).or_default().push((span.first, span.last));
            }
        }
        for (owner, ranges) in opened {
            let slots = SlotSet::from_iter(ranges).difference(&busy);
            keyspace.set(&slots, Some(&owner), SpanState::Serving, epoch);
        }
    }
}

/// Slots that were never owned go to their home unit, where it is declared, not lost and known to be ready, once no database of the
/// keyspace can still hold them open.
fn open_unowned(
    table: &mut RoutingTable,
    declared: &Declared,
    seen: &BTreeMap<UnitName, UnitSeen>,
    problems: &mut Vec<OwnershipProblem>,
) {
    let epoch = table.epoch;
    let lost = quarantine::lost(table);
    let may_open = |unit: &UnitName| {
        let ready = seen.get(unit).and_then(|seen| seen.may_open) == Some(true);
        ready && !lost.contains(unit) && declared.units.iter().any(|known| known.name == *unit)
    };
    for wanted in &declared.keyspaces {
        let Some(homes) = &wanted.homes else { continue };
        let busy = moving(table, &wanted.name);
        let known = table.keyspaces.iter_mut().find(|known| known.name == wanted.name);
        let Some(keyspace) = known.filter(|known| wanted.fits(known)) else {
            continue;
        };
        if homes.slots() != keyspace.slots {
            problems.push(OwnershipProblem::HomesMisfit {
                keyspace: wanted.name.clone(),
                slots: keyspace.slots,
                covered: homes.slots(),
            });
            continue;
        }
        let free = keyspace
            .slots_where(|span| span.state == SpanState::Unowned)
            .difference(&busy);
        let Some(came) = came(keyspace).filter(|_| !free.is_empty()) else {
            continue;
        };
        if !not_closed(&wanted.members, &wanted.name, came, seen).is_empty() {
            continue;
        }
        let units: BTreeSet<_> = homes.runs().iter().map(|run| &run.unit).collect();
        for unit in units.into_iter().filter(|unit| may_open(unit)) {
            let slots = homes.slots_of(unit).intersection(&free);
            keyspace.set(&slots, Some(unit), SpanState::Opening, epoch);
        }
    }
}

/// The declared units, and those that are gone but still own slots or are named by an operation.
fn take_units(table: &mut RoutingTable, declared: &Declared) {
    let spans = table.keyspaces.iter().flat_map(|keyspace| &keyspace.spans);
    let owners = spans.filter_map(|span| span.owner.as_ref());
    let named = table.operations.iter().flat_map(|op| {
        let sources = op.moves.iter().map(|slot_move| &slot_move.source);
        sources.chain([&op.target])
    });
    let needed: BTreeSet<&UnitName> = owners.chain(named).collect();
    let mut units: BTreeMap<UnitName, TableUnit> = BTreeMap::new();
    for unit in table.units.iter().filter(|unit| needed.contains(&unit.name)) {
        units.insert(unit.name.clone(), unit.clone());
    }
    for unit in &declared.units {
        let (name, router) = (unit.name.clone(), unit.router.clone());
        units.insert(name.clone(), TableUnit { name, router });
    }
    table.units = units.into_values().collect();
}

/// Notes who stops writing without his lease, for those who begin only after a loss; what was noted stays while nothing is seen.
/// Who shall go on serving instead, or is declared no more, is taken away first and told then.
fn take_fencing(table: &mut RoutingTable, declared: &Declared, seen: &BTreeMap<UnitName, UnitSeen>) {
    let mut units: Vec<&DeclaredUnit> = declared.units.iter().filter(|unit| unit.fences).collect();
    units.sort_by(|a, b| a.name.cmp(&b.name));
    let fencing = units.into_iter().filter_map(|unit| {
        let now = seen.get(&unit.name).and_then(|seen| seen.fences.clone());
        let stores = now.or_else(|| table.fences(&unit.name).cloned())?;
        let unit = unit.name.clone();
        Some(Fencing { unit, stores })
    });
    table.fencing = fencing.collect();
}
