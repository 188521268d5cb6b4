//! Copies rows that no link will bring: what a lost unit had written and this member lacks, and what a unit wrote while it was
//! cut off that is back. One copy at a time; a gap for any other reason is a person's.
//!
//! Nothing is copied before the table says who is lost, from who is lost, or while this unit itself is.

use super::handed_on::HandedOn;
use super::lacking::{repairs, sources};
use super::waiting::until_not;
use super::wish::{Target, Wish};
use super::{Store, timed};
use crate::backoff::Backoff;
use jiff::Timestamp;
use multiactive_core::ids::UnitName;
use multiactive_core::quarantine;
use multiactive_stores::driver::{Link, Peer, Reseeded};
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
