//! Brings one store to the newest table: installs the fence, closes and opens. Slots that are being fenced for an
//! operation are left to that fence, which holds up no others (see `answers`).
//!
//! It looks at the server once a second, for a restarted database starts fenced and is opened again at the same epoch.
//! Closing that waits is given up as soon as the wish is another one.

use super::identity;
use super::waiting::{Ended, until_not, while_wished};
use super::wish::{Target, Wish};
use super::{LONGEST_PAUSE, Store, links, tell_ended, timed};
use crate::backoff::Backoff;
use crate::facts::Problem;
use crate::failpoints::hit;
use crate::plan;
use multiactive_core::epoch::Epoch;
use multiactive_core::slots::SlotSet;
use multiactive_core::table::RoutingTable;
use multiactive_stores::driver::{FenceLimits, Grant, Inspected};
use multiactive_stores::{Driver, Error};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a store that is as it should be is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// For how long new tables may put a look off.
const LOOK_AT_LAST: Duration = Duration::from_secs(5);

/// How long closing slots may take outside of operations, and how old a transaction in its way may become.
const LIMITS: FenceLimits = FenceLimits {
    deadline: Duration::from_secs(10),
    grace: Duration::from_secs(2),
};

/// Why a store is not in hand.
enum Trouble {
    /// A verb failed.
    Failed(Error),
    /// Its database is not the one that it should be.
    Another(Problem),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What this agent has done to the server that runs now.
#[derive(Clone)]
struct Standing {
    server: String,
    /// The table that it was brought to, and the slots that are open by it.
    at: Option<(Epoch, SlotSet)>,
    /// What that table, if there is one, granted.
    grants: Vec<Grant>,
    /// The last table to which the database itself was told that it is brought.
    told: Epoch,
    /// Why its tables would be refused now.
    refused: Option<Problem>,
    looked: Instant,
}

pub(super) async fn keep<D: Driver>(
    store: &Store<D>,
    target: &Target,
    mut wish: watch::Receiver<Wish>,
    installed: &watch::Sender<bool>,
) {
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    let mut standing = None;
    while !store.token.is_cancelled() {
        let now = wish.borrow_and_update().clone();
        let pause = match pass(store, target, &wish, &now, &mut standing, installed).await {
            Ok(()) => {
                backoff.reset();
                LOOK
            }
            Err(trouble) => {
                // Whatever was true of the server may not be true any more.
                standing = None;
                store.judged.send_replace(false);
                report(store, target, trouble);
                backoff.pause()
            }
        };
        tokio::select! {
            () = store.token.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            changed = wish.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

fn report<D: Driver>(store: &Store<D>, target: &Target, trouble: Trouble) {
    let problem = match trouble {
        Trouble::Failed(error) => Problem::new(error.reason(), what_to_do(target, &error)),
        Trouble::Another(problem) => {
            // What the others have of it, and it of them, is not to be counted on: promotions see that by the links.
            store.board.change(|facts| facts.mistaken = Some(problem.clone()));
            for peer in &target.peers {
                links::note(store, &peer.unit, links::not_its_own(&problem));
            }
            problem
        }
    };
    let before = store.board.facts().problem;
    if before.is_none_or(|before| before.reason != problem.reason) {
        let (name, unit) = (&target.spec.store, &target.spec.unit);
        tracing::warn!(store = %name, %unit, reason = problem.reason, error = problem.message, "store is not in hand");
    }
    store.board.change(|facts| facts.problem = Some(problem));
}

/// What went wrong, and where a person has to change something, what.
fn what_to_do(target: &Target, error: &Error) -> String {
    let (said, secret) = (error.explain(), &target.secret);
    match error.is_login_refused() {
        true => format!("{said}; put the username and password that the server takes now into Secret {secret}"),
        false => said,
    }
}

/// One look at the wish: installs where nothing is known, then brings the store to the table.
async fn pass<D: Driver>(
    store: &Store<D>,
    target: &Target,
    wishes: &watch::Receiver<Wish>,
    wish: &Wish,
    standing: &mut Option<Standing>,
    installed: &watch::Sender<bool>,
) -> Result<(), Trouble> {
    let mut stands = match standing.take() {
        Some(stands) => stands,
        None => {
            timed(&store.metrics, "install", store.driver.install()).await?;
            look(store, target, None).await?
        }
    };
    store.judged.send_replace(true);
    installed.send_replace(true);
    let is_there = |stands: &Standing, table: &RoutingTable| {
        let at = stands.at.as_ref();
        at.is_some_and(|(epoch, _)| *epoch >= table.epoch) && stands.told >= wish.granted.min(table.epoch)
    };
    let mut behind = wish.table.as_deref().filter(|table| !is_there(&stands, table));
    // Who waits for a new table does not wait for a look: what opens is looked at inside the database.
    if behind.is_none() && stands.looked.elapsed() >= LOOK {
        let at = wish.table.as_ref().map(|table| table.epoch);
        let same = |wish: &Wish| wish.table.as_ref().map(|table| table.epoch) == at;
        let must = stands.looked.elapsed() >= LOOK_AT_LAST;
        stands = tokio::select! {
            biased;
            looked = look(store, target, Some(stands.clone())) => looked?,
            // Nor for one that is under way.
            () = until_not(wishes.clone(), same), if !must => {
                *standing = Some(stands);
                return Ok(());
            }
        };
        behind = wish.table.as_deref().filter(|table| !is_there(&stands, table));
    }
    if let Some(table) = behind {
        let grants = grants(target, table);
        match &mut stands.at {
            // Every change of a slot has an epoch of its own, so tables that grant the same, and all between them,
            // ask the same of the store: nothing is done, and whoever is older is refused as before.
            Some((epoch, _)) if stands.grants == grants && stands.told >= wish.granted.min(table.epoch) => {
                *epoch = table.epoch;
            }
            Some(_) | None => {
                let Ended::Done(opened) = apply(store, target, wishes, table, &grants).await? else {
                    stands.at = None;
                    *standing = Some(stands);
                    return Ok(());
                };
                (stands.at, stands.grants) = (Some((table.epoch, opened)), grants);
                stands.told = table.epoch;
                // It holds that epoch by now: said at once, it is no write of its own.
                store
                    .board
                    .change(|facts| facts.seen = facts.seen.max(Some(table.epoch)));
            }
        }
    }
    store.board.change(|facts| {
        facts.problem.clone_from(&stands.refused);
        facts.applied = stands.at.as_ref().map(|(epoch, _)| *epoch).or(facts.applied);
    });
    *standing = Some(stands);
    Ok(())
}

/// What the store shall let in at this table.
fn grants(target: &Target, table: &RoutingTable) -> Vec<Grant> {
    match target.spec.is_shared() {
        true => plan::shared_grants(target.spec.keyspace.slots),
        false => plan::grants(table, &target.spec.keyspace.name, &target.spec.unit),
    }
}

/// Looks at the server, and puts back what is not in place. What was done to it counts only while it is the same one, with
/// the same slots open. A server that is new here may hold another database.
async fn look<D: Driver>(store: &Store<D>, target: &Target, before: Option<Standing>) -> Result<Standing, Trouble> {
    let mut seen = timed(&store.metrics, "inspect", store.driver.inspect()).await?;
    if !seen.amiss.is_empty() {
        tracing::error!(amiss = seen.amiss.join(", "), "the fence is not whole, putting it back");
        timed(&store.metrics, "install", store.driver.install()).await?;
        seen = timed(&store.metrics, "inspect", store.driver.inspect()).await?;
    }
    let known = before.as_ref().is_some_and(|before| before.server == seen.server);
    let beyond = match known {
        true => Vec::new(),
        false => timed(&store.metrics, "went_back", store.driver.went_back(&target.peers)).await?,
    };
    identity::judge(target.engine, &store.board.facts(), &seen, &beyond).map_err(Trouble::Another)?;
    let Inspected {
        server,
        incarnation,
        opened: _,
        open,
        lease: _,
        refused,
        warnings,
        conflicts,
        version: _,
        seen: epoch,
        amiss: _,
    } = seen;
    let before = before.filter(|before| before.server == server);
    let told = before.as_ref().map_or(Epoch::NEVER, |before| before.told);
    let (at, grants) = before.map(|before| (before.at, before.grants)).unwrap_or_default();
    // Slots that no grant names are fenced by an operation, whenever its writes have ended.
    let granted: SlotSet = grants
        .iter()
        .flat_map(|grant: &Grant| grant.slots.ranges().iter().copied())
        .collect();
    let open = open.intersection(&granted);
    let warnings: Vec<_> = warnings
        .into_iter()
        .map(|finding| Problem::new(finding.reason, format!("{}: {}", finding.table, finding.message)))
        .collect();
    // Its slots can still be closed: nothing is held up by it here.
    let refused = (!refused.is_empty()).then(|| {
        let error = Error::TablesRefused(refused);
        Problem::new(error.reason(), error.explain())
    });
    store.board.change(|facts| {
        facts.mistaken = None;
        facts.server = Some(server.clone());
        facts.incarnation = Some(incarnation);
        facts.encrypted = target.tls.is_some();
        facts.conflicts = conflicts;
        facts.seen = Some(epoch);
        facts.warnings = warnings;
    });
    Ok(Standing {
        server,
        at: at.filter(|(_, opened)| *opened == open),
        grants,
        told,
        refused,
        looked: Instant::now(),
    })
}

/// Brings the store to a table; returns the slots that are open by it. Given up when the newest table grants otherwise.
async fn apply<D: Driver>(
    store: &Store<D>,
    target: &Target,
    wishes: &watch::Receiver<Wish>,
    table: &RoutingTable,
    grants: &[Grant],
) -> Result<Ended<SlotSet>, Error> {
    let opens = grants.iter().any(|grant| grant.brought_by.is_some());
    hit(if opens { "open-before" } else { "apply-before" });
    let verb = store.driver.apply(table.epoch, grants, LIMITS);
    let same = |wish: &Wish| {
        let granted = |table| super::keeper::grants(target, table);
        wish.table.as_deref().is_none_or(|table| granted(table) == grants)
    };
    let verb = timed(&store.metrics, "apply", verb);
    let Ended::Done(applied) = while_wished(store, wishes, same, verb).await? else {
        return Ok(Ended::GivenUp);
    };
    hit(if opens { "open-after" } else { "apply-after" });
    tell_ended(store, &format!("table {}", table.epoch), &applied.ended);
    if applied.opened > 0 || applied.closed > 0 {
        let (store, unit, epoch) = (&target.spec.store, &target.spec.unit, table.epoch);
        tracing::info!(%store, %unit, %epoch, opened = applied.opened, closed = applied.closed, "brought to the table");
    }
    Ok(Ended::Done(open_slots(grants)))
}

fn open_slots(grants: &[Grant]) -> SlotSet {
    let open = grants.iter().filter(|grant| grant.open);
    open.flat_map(|grant| grant.slots.ranges().iter().copied()).collect()
}
