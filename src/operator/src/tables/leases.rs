//! What the table wants of its units' write leases, brought about, and what is known of those of lost units. The lease
//! itself is read from the ledger, never from a copy; a copy only tells that there may be something to do, and when a
//! renewal was seen.
//!
//! What to do is derived from the table in every pass, so that a crash repeats it, and it is done after the record that
//! wants it was written: a seal is put by compare-and-swap on the very renewal that was read.

use super::Inputs;
use crate::Context;
use crate::failpoints::hit;
use crate::leases::{Noted, Renewals};
use jiff::SignedDuration;
use multiactive_api::LeaseMode;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::lease::{Challenge, LONGEST, Lease, Mode, Terms};
use multiactive_core::promotion::{LeaseEnd, LeaseSeen, RenewalSeen};
use multiactive_core::quarantine::{LeaseWanted, lease_wanted};
use multiactive_core::reasons;
use multiactive_core::table::RoutingTable;
use multiactive_ledger::{Commit, HeldLease, KubernetesLeases, LeaseLedger, Version, held, lease_name};
use multiactive_runtime::clock::boottime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// How long one write may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How soon a lease that is to be sealed is looked at again where it could not be read or written,
const AGAIN: Duration = Duration::from_millis(250);
/// and one that is to be granted: nothing waits for it but the unit itself.
const CALM: Duration = Duration::from_secs(2);

type Answers = Arc<Mutex<BTreeMap<UnitName, (LeaseWanted, HeldLease)>>>;

/// Why leases could not be brought to what is wanted, at the last try; shared with those who try.
#[derive(Clone, Default)]
struct Troubles(Arc<Mutex<BTreeMap<UnitName, String>>>);

impl Troubles {
    /// Says why, or with `None` that nothing is in the way any more; whether that is news.
    fn tell(&self, unit: &UnitName, why: Option<String>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => known.insert(unit.clone(), why.clone()).as_ref() != Some(&why),
            None => known.remove(unit).is_some(),
        }
    }

    fn keep(&self, wanted: impl Fn(&UnitName) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|unit, _| wanted(unit));
    }
}

/// The leases of one namespace.
#[derive(Default)]
pub struct Leases {
    /// What the ledger said once it was as the table wants it.
    answers: Answers,
    troubles: Troubles,
    working: BTreeMap<UnitName, (LeaseWanted, AbortOnDropHandle<()>)>,
    /// Since when this process has seen without a break that a unit stops writing without its lease.
    fences: BTreeMap<UnitName, SignedDuration>,
}

impl Leases {
    /// Starts what has to be done, and says how the leases of lost units stand. Never waits: `wake` is told of answers.
    pub fn look(
        &mut self,
        (ctx, namespace): (&Context, &str),
        table: &RoutingTable,
        inputs: &Inputs,
        wake: &Arc<Notify>,
    ) -> BTreeMap<UnitName, LeaseSeen> {
        let Some(now) = boottime() else {
            return BTreeMap::new();
        };
        // What was acknowledged once stays so while nothing else is told: another change of the assignment is no news of it.
        self.fences.retain(|unit, _| is_told_to_fence(unit, inputs));
        for unit in inputs.units.iter().filter_map(|unit| unit.metadata.name.as_deref()) {
            let unit = UnitName(unit.to_owned());
            if fences(&unit, inputs) {
                self.fences.entry(unit).or_insert(now);
            }
        }
        let mut all = BTreeMap::new();
        for unit in table.units.iter().map(|unit| &unit.name) {
            let wanted = lease_wanted(table, unit);
            let sealed = matches!(wanted, LeaseWanted::Sealed(_));
            match self.answer(ctx, namespace, unit, &wanted) {
                Some(held) if sealed => {
                    let noted = ctx.renewals.of(&lease_name(namespace, unit));
                    let fences = self.fences.get(unit).copied();
                    let fences = match (is_recorded(table, unit), table.fences(unit)) {
                        (true, _) => Fences::Recorded,
                        (false, Some(stores)) => Fences::Noted(stores),
                        (false, None) => Fences::Seen(fences),
                    };
                    all.insert(unit.clone(), lease_seen(unit, inputs, &held, &noted, fences, now));
                }
                Some(_) => {}
                None => self.work(ctx, namespace, unit, wanted, wake),
            }
        }
        let known = |unit: &UnitName| table.units.iter().any(|known| known.name == *unit);
        self.working.retain(|unit, _| known(unit));
        self.troubles.keep(known);
        all
    }

    /// The units that this process knows to stop writing without their lease, for as long as a lease of theirs may last, with
    /// their stores: what the record keeps for those who come after it.
    pub fn fencing(
        &self,
        (ctx, namespace): (&Context, &str),
        inputs: &Inputs,
    ) -> BTreeMap<UnitName, BTreeSet<StoreName>> {
        let Some(now) = boottime() else {
            return BTreeMap::new();
        };
        let lasted = |(unit, since): &(&UnitName, &SignedDuration)| {
            let patience = patience(ctx, namespace, unit);
            patience.is_some_and(|patience| now - **since >= patience) && unenforced(unit, inputs).is_empty()
        };
        let known = self.fences.iter().filter(lasted);
        known
            .map(|(unit, _)| (unit.clone(), stores_of(unit, inputs).collect()))
            .collect()
    }

    /// Until there may be more of that to note: it is a matter of time, and nothing else need happen meanwhile.
    pub fn notes_in(&self, (ctx, namespace): (&Context, &str), table: &RoutingTable) -> Option<Duration> {
        let now = boottime()?;
        let open = self.fences.iter().filter(|(unit, _)| table.fences(unit).is_none());
        let left = open.filter_map(|(unit, since)| {
            let left = *since + patience(ctx, namespace, unit)? - now;
            Duration::try_from(left).ok().filter(|left| !left.is_zero())
        });
        left.min()
    }

    /// Why leases are not as the table wants them.
    pub fn troubles(&self) -> BTreeMap<UnitName, String> {
        self.troubles.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the ledger said, where the lease is as it is wanted and no copy says otherwise.
    fn answer(&mut self, ctx: &Context, namespace: &str, unit: &UnitName, wanted: &LeaseWanted) -> Option<HeldLease> {
        let copy = ctx.leases.get(&ctx.namespace, &lease_name(namespace, unit));
        let copy = copy.and_then(|object| held(&object).ok());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers
            .get(unit)
            .filter(|(asked, _)| asked == wanted)
            .map(|(_, held)| held);
        let number = |version: &Version| version.as_str().parse::<u64>().unwrap_or(u64::MAX);
        let later = |held: &HeldLease, copy: &HeldLease| number(&copy.version) > number(&held.version);
        match (answer, copy, wanted) {
            // Somebody took the seal off, or made the lease anew: it is asked for again.
            (Some(held), Some(copy), _) if later(held, &copy) && !is_so(&copy.lease, wanted) => {
                answers.remove(unit);
                None
            }
            (Some(held), _, _) => Some(held.clone()),
            // A copy that shows it granted is as good as an answer: nothing is decided by that.
            (None, Some(copy), LeaseWanted::Granted { .. }) if is_so(&copy.lease, wanted) => Some(copy),
            // Nothing was ever taken from it; its lease is made elsewhere.
            (None, None, LeaseWanted::Granted { at }) if *at == Epoch::NEVER => None,
            (None, _, _) => None,
        }
    }

    fn work(&mut self, ctx: &Context, namespace: &str, unit: &UnitName, wanted: LeaseWanted, wake: &Arc<Notify>) {
        let never = LeaseWanted::Granted { at: Epoch::NEVER };
        if wanted == never {
            self.working.remove(unit);
            self.troubles.tell(unit, None);
            return;
        }
        let running = |(asked, task): &(LeaseWanted, AbortOnDropHandle<()>)| *asked == wanted && !task.is_finished();
        if self.working.get(unit).is_some_and(running) {
            return;
        }
        let work = bring(
            KubernetesLeases::new(ctx.client.clone(), &ctx.namespace),
            (namespace.to_owned(), unit.clone()),
            wanted.clone(),
            ctx.renewals.clone(),
            (Arc::clone(&self.answers), self.troubles.clone()),
            Arc::clone(wake),
        );
        let task = AbortOnDropHandle::new(tokio::spawn(work));
        self.working.insert(unit.clone(), (wanted, task));
    }
}

/// For how long a lease of the unit may last, by the copy of its record.
fn patience(ctx: &Context, namespace: &str, unit: &UnitName) -> Option<SignedDuration> {
    let copy = ctx.leases.get(&ctx.namespace, &lease_name(namespace, unit))?;
    let terms = Terms::new(held(&copy).ok()?.length).ok()?;
    Some(terms.patience())
}

/// Whether a lease is as it is wanted.
fn is_so(lease: &Lease, wanted: &LeaseWanted) -> bool {
    match wanted {
        LeaseWanted::Sealed(wanted) => lease.sealed.as_ref().is_some_and(|seal| seal.at >= wanted.at),
        LeaseWanted::Granted { at } => lease.granted >= *at && lease.sealed.is_none(),
    }
}

/// The lease to write over `found`; `None` where a later table has decided otherwise, or where there is none to grant: it
/// is made elsewhere, at the table of then.
fn next(found: Option<&HeldLease>, unit: &UnitName, wanted: &LeaseWanted) -> Option<(Lease, SignedDuration)> {
    // Who deleted it did not end it: nobody knows by which length its holder counts.
    let length = found.map_or(LONGEST, |held| held.length);
    let before = found.map_or_else(|| Lease::first(unit.clone(), Epoch::NEVER), |held| held.lease.clone());
    let lease = match wanted {
        LeaseWanted::Sealed(seal) => before.sealed_by(seal),
        LeaseWanted::Granted { at } => before.granted_at(*at).filter(|_| found.is_some()),
    };
    lease.map(|lease| (lease, length))
}

/// Why nothing is written over `found`, which is not as it is wanted.
fn not_so(found: Option<&HeldLease>, wanted: &LeaseWanted) -> String {
    match (found, wanted) {
        (None, LeaseWanted::Granted { .. }) => "there is none; it is made with the next look at the units".to_owned(),
        (found, LeaseWanted::Sealed(_) | LeaseWanted::Granted { .. }) => {
            let granted = found.map_or(Epoch::NEVER, |held| held.lease.granted);
            format!("a later table has changed it: it was granted at {granted}")
        }
    }
}

/// Reads and writes until the ledger says that it is as it is wanted.
async fn bring(
    leases: KubernetesLeases,
    (namespace, unit): (String, UnitName),
    wanted: LeaseWanted,
    renewals: Renewals,
    (answers, troubles): (Answers, Troubles),
    wake: Arc<Notify>,
) {
    let name = lease_name(&namespace, &unit);
    let settle = |held: HeldLease| {
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(unit.clone(), (wanted.clone(), held));
        troubles.tell(&unit, None);
        wake.notify_one();
    };
    // Each reason once in the log; the failover that waits for it shows it, and so does its event.
    let failed = |why: String| {
        if troubles.tell(&unit, Some(why.clone())) {
            tracing::warn!(namespace, %unit, ?wanted, why, "the write lease is not as the table wants it");
            wake.notify_one();
        }
    };
    loop {
        match leases.read(&namespace, &unit).await {
            Ok(found) => {
                if let Some(held) = &found {
                    renewals.note(&name, held, boottime());
                }
                if let Some(held) = found.as_ref().filter(|held| is_so(&held.lease, &wanted)) {
                    settle(held.clone());
                    return;
                }
                if let Some((lease, length)) = next(found.as_ref(), &unit, &wanted) {
                    let expected = found.as_ref().map(|held| &held.version);
                    hit("lease-before-write");
                    match leases.write(&namespace, expected, &lease, length, LIMIT).await {
                        Commit::Committed(version) => {
                            hit("lease-after-write");
                            tracing::info!(namespace, %unit, ?wanted, "the write lease was changed");
                            let renewed = found.and_then(|held| held.renewed);
                            let version = *version;
                            settle(HeldLease {
                                lease,
                                version,
                                length,
                                renewed,
                            });
                            return;
                        }
                        // A renewal came first, or nobody knows: read again.
                        Commit::Conflict => continue,
                        Commit::Refused(why) => failed(format!("the server refuses it: {why}")),
                        Commit::Unknown(why) => failed(why),
                    }
                } else {
                    failed(not_so(found.as_ref(), &wanted));
                }
            }
            Err(error) => failed(error.to_string()),
        }
        let pause = match wanted {
            LeaseWanted::Sealed(_) => AGAIN,
            LeaseWanted::Granted { .. } => CALM,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Whether all that is known says that a unit stops writing without its lease: its spec, and what its agent was told and
/// has acknowledged.
fn fences(unit: &UnitName, inputs: &Inputs) -> bool {
    let Some(report) = inputs.reports.get(unit) else {
        return false;
    };
    let taken = report.status.as_ref().map(|status| status.observed_generation) == Some(report.metadata.generation);
    taken && is_told_to_fence(unit, inputs)
}

/// Whether a unit's spec says so, and what its agent was told.
fn is_told_to_fence(unit: &UnitName, inputs: &Inputs) -> bool {
    let declared = inputs.unit(unit).map(super::mode);
    let told = inputs.reports.get(unit).and_then(|report| report.spec.lease.as_ref());
    declared == Some(Mode::Fence) && told.map(|lease| lease.mode) == Some(LeaseMode::Fence)
}

/// What says that a lost unit stops writing without its lease.
#[derive(Clone, Copy, Debug)]
enum Fences<'a> {
    /// The record: it was known when the failover began. Since then the unit was told nothing else (see `assign`).
    Recorded,
    /// The record: it was known, of these stores, before it was lost. Since then the unit was told nothing else.
    Noted(&'a BTreeSet<StoreName>),
    /// This process, without a break since then; `None` where it is not so.
    Seen(Option<SignedDuration>),
}

/// Whether the record counts on it that the unit stops writing without its lease: it is told nothing else meanwhile.
pub fn is_counted_on(table: &RoutingTable, unit: &UnitName) -> bool {
    is_recorded(table, unit) || table.fences(unit).is_some()
}

/// Whether a failover of the unit runs that began with it.
fn is_recorded(table: &RoutingTable, unit: &UnitName) -> bool {
    let mut failovers = table.operations.iter().filter_map(|op| op.failover.as_ref());
    failovers.any(|failover| failover.lost == *unit && failover.fences)
}

/// How a sealed lease stands.
///
/// Known to be weak: the mode is read from the unit's assignment, which is not what the lease was renewed under. What
/// changed within the last lease before the failover counts as KeepServing, which asks a person.
fn lease_seen(
    unit: &UnitName,
    inputs: &Inputs,
    held: &HeldLease,
    noted: &[Noted],
    fences: Fences<'_>,
    now: SignedDuration,
) -> LeaseSeen {
    let object = held.version.reference().uid;
    let mine = noted
        .iter()
        .filter(|noted| noted.object == object && noted.renewal <= held.lease.renewals);
    let mine: Vec<&Noted> = mine.collect();
    let terms = Terms::new(held.length).ok();
    let lasted = |since: SignedDuration| terms.is_some_and(|terms| now - since >= terms.patience());
    let (mode, unenforced) = match fences {
        Fences::Recorded => (Mode::Fence, Vec::new()),
        Fences::Noted(stores) => {
            let others = unenforced(unit, inputs)
                .into_iter()
                .filter(|store| !stores.contains(store));
            (Mode::Fence, others.collect())
        }
        Fences::Seen(since) if since.is_some_and(lasted) => (Mode::Fence, unenforced(unit, inputs)),
        Fences::Seen(_) => (Mode::KeepServing, unenforced(unit, inputs)),
    };
    let will_last = matches!(fences, Fences::Seen(Some(_))) && terms.is_some();
    let fences_soon = mode == Mode::KeepServing && will_last && unenforced.is_empty();
    // The seal is on this very renewal. One that never was renewed says nothing of what its unit holds by an earlier one.
    let last = mine
        .first()
        .filter(|noted| noted.renewal == held.lease.renewals && noted.renewal > 0);
    let end = match (last, terms) {
        (Some(last), Some(terms)) => {
            let challenge = Challenge::new(last.renewal, last.seen);
            match challenge.is_over(terms, now) {
                true => LeaseEnd::Ago(now - challenge.ends_at(terms)),
                false => LeaseEnd::In(challenge.ends_at(terms) - now),
            }
        }
        (None, _) | (_, None) => LeaseEnd::Unknown,
    };
    let before = |noted: &Noted| {
        let before = mine.iter().find(|before| before.renewal + 1 == noted.renewal);
        before.map(|before| now - before.seen)
    };
    let renewals = mine.iter().map(|noted| RenewalSeen {
        age: now - noted.seen,
        since: before(noted),
        positions: noted.positions.clone(),
        earlier: noted.earlier.clone(),
    });
    LeaseSeen {
        mode,
        fences_soon,
        length: held.length,
        unenforced,
        sealed: held.lease.sealed.as_ref().map(|seal| (seal.at, end)),
        renewals: renewals.collect(),
    }
}

/// Stores of a unit of which nothing says that its database knows a deadline: the agent keeps no lease, or had the store
/// not in hand when it was heard last. A database that only fell silent keeps the deadline that it had.
fn unenforced(unit: &UnitName, inputs: &Inputs) -> Vec<StoreName> {
    let status = inputs.reports.get(unit).and_then(|report| report.status.as_ref());
    let leased = status.filter(|status| status.lease.is_some());
    let enforced = |name: &str| {
        let mut stores = leased.into_iter().flat_map(|status| &status.stores);
        let store = stores.find(|store| store.name == name);
        store.is_some_and(|store| store.ready || reasons::is_silence(store.reason.as_deref().unwrap_or_default()))
    };
    stores_of(unit, inputs)
        .filter(|store| !enforced(store.as_str()))
        .collect()
}

/// The stores in force that have a member in the unit.
fn stores_of(unit: &UnitName, inputs: &Inputs) -> impl Iterator<Item = StoreName> {
    let held = inputs.stores_in_force().into_iter().filter(|store| store.has(unit));
    held.map(|store| store.store).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
