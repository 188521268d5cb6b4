//! Copies rows that no link will bring: what a lost unit had written and this member lacks, and what a unit wrote while it was
//! cut off that is back. One copy at a time; a gap for any other reason is a person's.
//!
//! Nothing is copied before the table says who is lost, from who is lost, or while this unit itself is.

use super::waiting::until_not;
use super::wish::{Target, Wish};
use super::{Store, timed};
use crate::backoff::Backoff;
use crate::lost::{self, Cut};
use jiff::Timestamp;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Operation, UnitPosition};
use multiactive_core::quarantine;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use multiactive_stores::driver::{Lacking, Link, LinkState, Peer, Reseeded};
use multiactive_stores::{Driver, Error};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long one copy may take: as long as comparing the same rows.
const LIMIT: Duration = super::answers::COMPARE;

/// The longest pause after copies that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The links as they were seen last.
#[derive(Default)]
pub(super) struct Looked {
    /// When the look began; `None` before the first.
    pub(super) at: Option<Instant>,
    pub(super) links: Vec<Link>,
}

/// The last copy from a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// It runs since then.
    UnderWay(Timestamp),
    /// What it changed.
    Done(String),
    /// Why it failed.
    Failed(String),
}

/// What the task that copies and the one that keeps the links tell each other.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) looked: watch::Sender<Looked>,
    told: watch::Sender<BTreeMap<UnitName, Copied>>,
    /// From whom rows shall be copied though no link lacks any.
    wanted: watch::Sender<BTreeSet<UnitName>>,
}

impl Copies {
    /// The last copy from a unit, if there was one since this store is in hand.
    pub(super) fn of(&self, from: &UnitName) -> Option<Copied> {
        self.told.borrow().get(from).cloned()
    }

    /// Has the rows that a unit owns copied from it, and returns how that went. Dropped, nobody wants it any more.
    pub(super) async fn repair(&self, from: &UnitName) -> Copied {
        self.wanted.send_modify(|wanted| {
            wanted.insert(from.clone());
        });
        let _wanted = Wanted {
            all: &self.wanted,
            from,
        };
        let mut wanted = self.wanted.subscribe();
        // The sender lives as long as we do.
        let _ = wanted.wait_for(|wanted| !wanted.contains(from)).await;
        let given_up = || Copied::Failed("it was given up".to_owned());
        self.of(from).unwrap_or_else(given_up)
    }

    fn tell(&self, from: &UnitName, copied: Copied) {
        self.told.send_modify(|told| {
            told.insert(from.clone(), copied);
        });
    }
}

/// Somebody waits for a copy, until this is dropped.
struct Wanted<'a> {
    all: &'a watch::Sender<BTreeSet<UnitName>>,
    from: &'a UnitName,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.all.send_if_modified(|all| all.remove(self.from));
    }
}

pub(super) async fn keep<D: Driver>(store: &Store<D>, target: &Target, wish: watch::Receiver<Wish>) {
    let mut tables = wish.clone();
    let mut looked = store.copies.looked.subscribe();
    let mut wanted = store.copies.wanted.subscribe();
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    let (mut ended, mut failures) = (Instant::now(), 0_usize);
    let mut handed_on = HandedOn::default();
    while !store.token.is_cancelled() {
        let table = tables.borrow_and_update().table.clone();
        let mut lacks = 0;
        let from = table.as_deref().and_then(|table| {
            // A look that began before the last copy ended shows what is over.
            let looked = looked.borrow_and_update();
            let fresh = looked.at.is_some_and(|at| at > ended) && *store.judged.borrow();
            let mut sources = sources(table, target, if fresh { &looked.links } else { &[] });
            lacks = sources.len();
            if *store.judged.borrow() {
                sources.extend(repairs(table, target, &wanted.borrow_and_update()));
            }
            let next = failures.checked_rem(sources.len())?;
            Some((sources[next], next >= lacks))
        });
        if let Some(table) = table.as_deref() {
            handed_on.tell(store, table, target).await;
        }
        let Some((from, only_wanted)) = from else {
            let changed = async {
                tokio::select! {
                    changed = looked.changed() => changed,
                    changed = wanted.changed() => changed,
                    changed = tables.changed() => changed,
                }
            };
            let changed = store.token.run_until_cancelled(changed).await;
            if changed.is_none_or(|seen| seen.is_err()) {
                return;
            }
            continue;
        };
        let copied = copy(store, target, &wish, from, only_wanted).await;
        ended = Instant::now();
        // Whether it went well: who wanted it looks, and asks again.
        store.copies.wanted.send_modify(|wanted| {
            wanted.remove(&from.unit);
        });
        match copied {
            Some(Ok(reseeded)) => {
                backoff.reset();
                failures = 0;
                if let Some(table) = table.as_deref() {
                    handed_on.add(table, target, &reseeded);
                }
            }
            Some(Err(_)) => {
                failures += 1;
                let pause = tokio::time::sleep(backoff.pause());
                let _ = store.token.run_until_cancelled(pause).await;
            }
            None => {}
        }
    }
}

/// From whom a Verification wants rows copied; not from who is lost, nor while this unit is, nor while slots of the keyspace
/// move: what the owner's fence wrote before the copy would not come by the link any more, and be waited for while writes are
/// held.
fn repairs<'a>(table: &RoutingTable, target: &'a Target, wanted: &BTreeSet<UnitName>) -> Vec<&'a Peer> {
    let lost = quarantine::lost(table);
    let moves = |op: &Operation| !op.slots_of(&target.spec.keyspace.name, None).is_empty();
    if lost.contains(&target.spec.unit) || table.operations.iter().any(moves) {
        return Vec::new();
    }
    let peers = target.peers.iter().filter(|peer| wanted.contains(&peer.unit));
    peers.filter(|peer| !lost.contains(&peer.unit)).collect()
}

/// From whom rows are to be copied.
fn sources<'a>(table: &RoutingTable, target: &'a Target, links: &[Link]) -> Vec<&'a Peer> {
    let lost = quarantine::lost(table);
    if lost.contains(&target.spec.unit) {
        return Vec::new();
    }
    let owners = table.owners_of(&target.spec.keyspace.name);
    let mut wanted: Vec<&UnitName> = Vec::new();
    for link in links.iter().filter(|link| may_be_mended(link)) {
        match &link.lacking {
            Some(Lacking::Of(slots)) => {
                let has = owners.iter().filter(|(_, owned)| owned.intersects(slots));
                wanted.extend(has.map(|(owner, _)| *owner));
            }
            Some(Lacking::Unknown) => wanted.push(&link.from),
            None if matches!(link.state, LinkState::Lacks { .. }) => wanted.push(&link.from),
            None => {}
        }
    }
    let peers = target.peers.iter();
    peers
        .filter(|peer| wanted.contains(&&peer.unit) && !lost.contains(&peer.unit))
        .collect()
}

/// Whether the link's unit is one whose rows may come here at all.
fn may_be_mended(link: &Link) -> bool {
    match link.state {
        LinkState::Running | LinkState::Starting(_) | LinkState::Lacks { .. } | LinkState::Broken(_) => true,
        LinkState::Cut(_) | LinkState::Quarantined(_) => false,
    }
}

/// Copies from a peer, for as long as it is not lost, and somebody wants it where no link lacks anything; `None` where that was
/// given up.
async fn copy<D: Driver>(
    store: &Store<D>,
    target: &Target,
    wish: &watch::Receiver<Wish>,
    from: &Peer,
    only_wanted: bool,
) -> Option<Result<Reseeded, Error>> {
    let mut wanted = store.copies.wanted.subscribe();
    let still = |wish: &Wish| {
        let lost = wish.table.as_deref().map(quarantine::lost);
        lost.is_some_and(|lost| !lost.contains(&from.unit) && !lost.contains(&target.spec.unit))
    };
    store.copies.tell(&from.unit, Copied::UnderWay(Timestamp::now()));
    super::links::note_copy(store, &from.unit);
    let verb = timed(&store.metrics, "reseed", store.driver.reseed(from, LIMIT));
    let given_up = "it was given up, for the table is another one";
    let copied = tokio::select! {
        biased;
        copied = verb => Some(copied),
        () = until_not(wish.clone(), still) => None,
        // The sender lives as long as we do.
        _ = wanted.wait_for(|wanted| !wanted.contains(&from.unit)), if only_wanted => None,
        () = store.token.cancelled() => None,
    };
    let told = match &copied {
        Some(Ok(done)) => Copied::Done(words(done)),
        Some(Err(error)) => {
            tracing::warn!(from = %from.unit, error = error.explain(), "rows are not copied yet");
            Copied::Failed(error.explain())
        }
        None => Copied::Failed(given_up.to_owned()),
    };
    store.copies.tell(&from.unit, told);
    copied
}

fn words(done: &Reseeded) -> String {
    format!(
        "{} rows of {} slots were copied, and {} removed",
        done.written,
        done.slots.len(),
        done.removed
    )
}

/// What was copied since units are cut off: once that is every slot that somebody else owns, all that such a unit had written,
/// as far as anybody has it, is here, and nothing waits for it any more.
#[derive(Default)]
struct HandedOn(BTreeMap<UnitName, Since>);

/// Since one cut.
struct Since {
    cut_by: OperationUid,
    slots: SlotSet,
    /// How far the others had applied the unit's log.
    upto: Vec<UnitPosition>,
    told: bool,
}

impl HandedOn {
    fn add(&mut self, table: &RoutingTable, target: &Target, reseeded: &Reseeded) {
        for Cut { lost, by, .. } in lost::cuts(table, &target.spec.unit) {
            let fresh = || Since {
                cut_by: by.clone(),
                slots: SlotSet::default(),
                upto: Vec::new(),
                told: false,
            };
            let since = self.0.entry(lost.clone()).or_insert_with(fresh);
            if since.cut_by != by {
                *since = fresh();
            }
            since.slots = since.slots.union(&reseeded.open);
            since.told = false;
            let cuts = reseeded.cuts.iter().filter(|at| at.unit == lost);
            since.upto.extend(cuts.cloned());
        }
    }

    /// The cuts of units whose logs are here, as far as anybody has them, and how far that is, unless it was told.
    fn complete(&mut self, table: &RoutingTable, target: &Target) -> Vec<(Cut, Vec<UnitPosition>)> {
        let cuts = lost::cuts(table, &target.spec.unit);
        self.0.retain(|lost, _| cuts.iter().any(|cut| cut.lost == *lost));
        let others = owned_by_others(table, target);
        let mut complete = Vec::new();
        for cut in cuts {
            let since = self.0.get(&cut.lost).filter(|since| since.cut_by == cut.by);
            let all = since.filter(|since| !since.told && others.difference(&since.slots).is_empty());
            if let Some(since) = all {
                complete.push((cut, since.upto.clone()));
            }
        }
        complete
    }

    /// Tells the store which logs are here now.
    async fn tell<D: Driver>(&mut self, store: &Store<D>, table: &RoutingTable, target: &Target) {
        for (cut, positions) in self.complete(table, target) {
            let mut told = true;
            for upto in &positions {
                let verb = store.driver.repaired(cut.at, upto);
                if let Err(error) = timed(&store.metrics, "repaired", verb).await {
                    tracing::warn!(lost = %cut.lost, error = error.explain(), "what was handed on is not noted yet");
                    told = false;
                }
            }
            if let Some(since) = self.0.get_mut(&cut.lost) {
                since.told = told;
            }
        }
    }
}

/// The slots that another unit owns, the lost one too.
fn owned_by_others(table: &RoutingTable, target: &Target) -> SlotSet {
    let owners = table.owners_of(&target.spec.keyspace.name).into_iter();
    let others = owners.filter(|(owner, _)| **owner != target.spec.unit);
    others.fold(SlotSet::default(), |all, (_, owned)| all.union(&owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Login;
    use multiactive_core::epoch::Epoch;
    use multiactive_core::hash::Function;
    use multiactive_core::promotion::{Budgets, OperationKind, SlotMove, Step, Verify};
    use multiactive_core::quarantine::Quarantined;
    use multiactive_core::span::SpanState;
    use multiactive_core::table::KeyspaceTable;
    use multiactive_stores::driver::{KeyspaceSpec, StoreSpec};

    const UNITS: [&str; 3] = ["east-1", "north-1", "west-1"];

    /// South's store; north owns the first half, west a quarter.
    fn south() -> (Target, RoutingTable) {
        let login = || Login {
            username: String::new(),
            password: String::new(),
        };
        let peer = |unit: &str| Peer {
            unit: unit.into(),
            host: String::new(),
            port: 1,
            user: String::new(),
            password: String::new(),
        };
        let target = Target {
            spec: StoreSpec {
                namespace: "shop".to_owned(),
                store: "orders".into(),
                unit: "south-1".into(),
                keyspace: KeyspaceSpec {
                    name: "users".into(),
                    slots: 16,
                    function: Function::Crc32,
                    overrides: BTreeMap::new(),
                },
                tables: Vec::new(),
                peers: UNITS.iter().map(|unit| (*unit).into()).collect(),
            },
            host: String::new(),
            port: 1,
            database: String::new(),
            login: login(),
            peers: UNITS.map(peer).to_vec(),
        };
        let mut keyspace = KeyspaceTable::unowned("users".into(), 16);
        let at = Epoch::new(1, 1);
        for (unit, first, last) in [("north-1", 0, 7), ("west-1", 8, 11), ("south-1", 12, 15)] {
            let slots = SlotSet::range(first, last);
            keyspace.set(&slots, Some(&unit.into()), SpanState::Serving, at);
        }
        let table = RoutingTable {
            keyspaces: vec![keyspace],
            ..RoutingTable::default()
        };
        (target, table)
    }

    fn moving() -> Operation {
        Operation {
            kind: OperationKind::Promotion,
            uid: "uid".into(),
            name: "move".to_owned(),
            target: "west-1".into(),
            moves: Vec::new(),
            stores: Vec::new(),
            verify: Verify::None,
            budgets: Budgets {
                fence: jiff::SignedDuration::from_secs(1),
                drain: jiff::SignedDuration::from_secs(1),
            },
            step: Step::Check,
            epoch: Epoch::NEVER,
            positions: Vec::new(),
            behind: Vec::new(),
            failover: None,
            history: Vec::new(),
        }
    }

    fn lost(table: &mut RoutingTable, unit: &str) {
        table.quarantined.push(Quarantined {
            unit: unit.into(),
            by: "uid".into(),
            name: "lost".to_owned(),
            since: Epoch::new(1, 2),
            accepted: None,
        });
    }

    #[test]
    fn rows_are_copied_from_who_has_them_and_never_from_or_into_a_lost_unit() {
        let lacks = || LinkState::Lacks {
            of: "east-1".into(),
            upto: "0/1".to_owned(),
        };
        let of = |first, last| Some(Lacking::Of(SlotSet::range(first, last)));
        let cut = || LinkState::Cut("op".to_owned());
        for (state, lacking, lost_units, want) in [
            (lacks(), None, vec!["east-1"], vec!["north-1"]),
            (lacks(), None, vec!["east-1", "north-1"], vec![]),
            (lacks(), None, vec!["east-1", "south-1"], vec![]),
            (LinkState::Running, None, vec![], vec![]),
            (LinkState::Broken("x".to_owned()), None, vec![], vec![]),
            (LinkState::Running, Some(Lacking::Unknown), vec![], vec!["north-1"]),
            (
                LinkState::Broken("x".to_owned()),
                Some(Lacking::Unknown),
                vec![],
                vec!["north-1"],
            ),
            (cut(), Some(Lacking::Unknown), vec![], vec![]),
            (LinkState::Running, of(8, 8), vec![], vec!["west-1"]),
            (LinkState::Running, of(7, 8), vec![], vec!["north-1", "west-1"]),
            (LinkState::Running, of(7, 8), vec!["west-1"], vec!["north-1"]),
            (LinkState::Running, of(12, 15), vec![], vec![]),
        ] {
            let (target, mut table) = south();
            lost_units.iter().for_each(|unit| lost(&mut table, unit));
            let link = Link {
                from: "north-1".into(),
                state,
                gap: lacking.is_some().then(|| "why".to_owned()),
                lacking,
            };
            let found = sources(&table, &target, std::slice::from_ref(&link));
            let found: Vec<_> = found.iter().map(|peer| peer.unit.as_str()).collect();
            assert_eq!(found, want, "{link:?}, lost {lost_units:?}");
        }
    }

    #[test]
    fn a_repair_waits_until_no_slot_of_the_keyspace_moves_and_nobody_is_lost() {
        let wanted = BTreeSet::from(["north-1".into()]);
        let (target, table) = south();
        let from = |table: &RoutingTable| {
            let found = repairs(table, &target, &wanted);
            found.iter().map(|peer| peer.unit.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(from(&table), ["north-1"]);
        for unit in ["north-1", "south-1"] {
            let mut table = table.clone();
            lost(&mut table, unit);
            assert_eq!(from(&table), Vec::<String>::new(), "{unit} is lost");
        }
        for (keyspace, want) in [("users", 0), ("carts", 1)] {
            let mut table = table.clone();
            table.operations.push(Operation {
                moves: vec![SlotMove {
                    keyspace: keyspace.into(),
                    source: "north-1".into(),
                    slots: SlotSet::range(0, 1),
                }],
                ..moving()
            });
            assert_eq!(from(&table).len(), want, "{keyspace}");
        }
    }

    #[test]
    fn a_lost_units_log_is_here_once_every_slot_of_the_others_was_copied_since_the_cut() {
        let (target, mut table) = south();
        lost(&mut table, "east-1");
        let reseeded = |first, last, position: &str| Reseeded {
            open: SlotSet::range(first, last),
            cuts: vec![UnitPosition {
                unit: "east-1".into(),
                position: position.to_owned(),
            }],
            ..Reseeded::default()
        };
        let mut handed_on = HandedOn::default();
        for (open, want) in [(None, 0), (Some((0, 7)), 0), (Some((8, 10)), 0), (Some((8, 11)), 3)] {
            if let Some((first, last)) = open {
                handed_on.add(&table, &target, &reseeded(first, last, "0/1"));
            }
            let found: usize = handed_on
                .complete(&table, &target)
                .iter()
                .map(|(_, upto)| upto.len())
                .sum();
            assert_eq!(found, want, "{open:?}");
        }
        // Another failover cut it off again: what was copied before says nothing.
        table.quarantined[0].by = "another".into();
        assert!(handed_on.complete(&table, &target).is_empty());
        handed_on.add(&table, &target, &reseeded(8, 11, "0/2"));
        assert!(handed_on.complete(&table, &target).is_empty());
    }
}
