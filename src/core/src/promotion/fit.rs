//! Whether an operation may hold writes: looked at in Check, again in Prepare, and again once rows have been compared,
//! which may have taken hours. And whether the stores are still those that it was admitted with.

use super::drain;
use super::operation::{MovingStore, Operation, SlotMove, Step};
use super::seen::{MemberSeen, Seen, UnitReady};
use super::wait::WaitFor;
use crate::ids::UnitName;
use jiff::{SignedDuration, Timestamp};

/// How long what is unknown or not healthy is waited for.
pub(super) const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// For how long a target must have been unready before that ends a promotion: one bad report changes nothing.
pub(super) const UNREADY: SignedDuration = SignedDuration::from_secs(5);

/// What keeps an operation from holding writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Only a person changes that.
    For(&'static str, String),
    /// The target is known not to be ready.
    Unready(String),
    /// It is unknown, or may become well by itself.
    Still(WaitFor, &'static str),
}

/// Whether something keeps an operation that has not held writes yet from doing so.
pub fn is_unfit(op: &Operation, seen: &Seen) -> bool {
    op.step < Step::Hold && unfit(op, seen).is_some()
}

/// The first thing that keeps the operation from holding writes.
pub(super) fn unfit(op: &Operation, seen: &Seen) -> Option<Unfit> {
    target_problem(op, seen).or_else(|| {
        let links = links_problem(op, seen).map(|problem| Unfit::Still(WaitFor::Links(problem), "LinksUnhealthy"));
        links
            .or_else(|| routers_problem(op, seen))
            .or_else(|| lag_problem(op, seen))
    })
}

fn target_problem(op: &Operation, seen: &Seen) -> Option<Unfit> {
    let unknown = Some(Unfit::Still(WaitFor::TargetReport, "TargetUnknown"));
    let Some(target) = &seen.target else { return unknown };
    if target.cordoned {
        let message = format!("{} is cordoned: uncordon it or choose another target", op.target);
        return Some(Unfit::For("TargetCordoned", message));
    }
    match &target.ready {
        Some(UnitReady::Ready) => None,
        Some(UnitReady::NotReady(_)) => unready(op, seen).map(Unfit::Unready),
        None => unknown,
    }
}

/// Why the target is known not to be ready.
pub(super) fn unready(op: &Operation, seen: &Seen) -> Option<String> {
    match seen.target.as_ref()?.ready.as_ref()? {
        UnitReady::Ready => None,
        UnitReady::NotReady(why) => Some(format!("{} is not ready: {why}", op.target)),
    }
}

/// A source without a router that is connected cannot say that no write is under way, so Hold would never pass.
fn routers_problem(op: &Operation, seen: &Seen) -> Option<Unfit> {
    for unit in op.sources() {
        let source = seen.sources.iter().find(|source| source.unit == *unit);
        let routers = source.and_then(|source| source.routers.as_ref());
        let (problem, reason) = match routers {
            None => (format!("{unit} has not reported"), "SourceUnknown"),
            Some(routers) if routers.count == 0 => (without_routers(unit), "RoutersMissing"),
            Some(routers) => match routers.behind.first() {
                None => continue,
                Some(name) => (
                    format!("{unit}/{name} is not connected to its agent, or has no table yet"),
                    "RoutersMissing",
                ),
            },
        };
        return Some(Unfit::Still(WaitFor::Routers(problem), reason));
    }
    None
}

/// Why a unit without routers is waited for.
pub(super) fn without_routers(unit: &UnitName) -> String {
    format!("no router of {unit} is connected to its agent, so nobody counts its writes")
}

fn lag_problem(op: &Operation, seen: &Seen) -> Option<Unfit> {
    let within = |member: &&MemberSeen| member.lag.is_some_and(|lag| lag <= op.budgets.drain);
    let member = counted(op, seen).find(|member| !within(member))?;
    let lag = member
        .lag
        .map_or_else(|| "unknown".to_owned(), |lag| format!("{lag:#}"));
    let wait = WaitFor::Lag(format!(
        "{} is {lag} behind, as far as the clocks of the two servers agree",
        member.unit
    ));
    Some(Unfit::Still(wait, "LagTooLarge"))
}

/// The members that something is asked of before Hold and in Settle.
pub(super) fn counted<'a>(op: &'a Operation, seen: &'a Seen) -> impl Iterator<Item = &'a MemberSeen> {
    seen.members.iter().filter(|member| !drain::excused(op, seen, member))
}

/// The first link of source, target or a counted member that is not known to run.
pub(super) fn links_problem(op: &Operation, seen: &Seen) -> Option<String> {
    own_links_problem(op, seen).or_else(|| bystanders_links(op, seen).into_iter().next())
}

/// The first link between source and target that is not known to run; one that was not seen is a problem too.
pub(super) fn own_links_problem(op: &Operation, seen: &Seen) -> Option<String> {
    let mut members = seen.members.iter();
    let target = members
        .find(|member| member.unit == op.target)
        .map(|member| &member.links);
    // A source that was lost after the commit point has no links to wait for.
    let sources = op.sources().into_iter().filter(|unit| !seen.lost.contains(unit));
    let sources = sources.map(|unit| {
        let source = seen.sources.iter().find(|source| source.unit == *unit);
        (unit, source.map(|source| &source.links))
    });
    let mut all = std::iter::once((&op.target, target)).chain(sources);
    all.find_map(|(unit, links)| link_problem(unit, links.and_then(Option::as_ref)))
}

/// What does not run of the target's links, where it has reported them.
pub(super) fn target_links(op: &Operation, seen: &Seen) -> Option<String> {
    let target = seen.members.iter().find(|member| member.unit == op.target)?;
    link_problem(&target.unit, target.links.as_ref())
}

/// What does not run of the links of the others that something is asked of.
pub(super) fn bystanders_links(op: &Operation, seen: &Seen) -> Vec<String> {
    let others = counted(op, seen).filter(|member| member.unit != op.target);
    others
        .filter_map(|member| link_problem(&member.unit, member.links.as_ref()))
        .collect()
}

fn link_problem(unit: &UnitName, links: Option<&Result<(), String>>) -> Option<String> {
    match links {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(format!("{unit}: {why}")),
        None => Some(format!("{unit} has not reported")),
    }
}

/// Until when patience with what keeps it from holding writes lasts.
pub(super) fn patience_ends(op: &Operation, seen: &Seen, unfit: &Unfit) -> Option<Timestamp> {
    let (since, patience) = match unfit {
        Unfit::For(..) => return None,
        Unfit::Unready(_) => (seen.since.unready, UNREADY),
        Unfit::Still(..) => match op.step {
            // They are left as soon as it is fit, so it has not been since they were entered.
            Step::Check | Step::Prepare => (seen.entered(op, op.step), PATIENCE),
            Step::Verify
            | Step::Hold
            | Step::Fence
            | Step::Cut
            | Step::Drain
            | Step::Commit
            | Step::Open
            | Step::Settle => (seen.since.unfit, PATIENCE),
        },
    };
    since.and_then(|since| since.checked_add(patience).ok())
}

/// How the stores differ from those that the operation was admitted with, in words; unknown stores do not.
pub(super) fn stores_changed(op: &Operation, seen: &Seen) -> Option<String> {
    let now = seen.stores.as_ref()?;
    for was in &op.stores {
        let Some(is) = now.iter().find(|store| store.store == was.store) else {
            return Some(format!(
                "DataStore {} is gone, or holds another keyspace's rows now",
                was.store
            ));
        };
        if is.keyspace != was.keyspace {
            return Some(format!("DataStore {} is of keyspace {} now", was.store, is.keyspace));
        }
        let came = is.members.iter().find(|unit| !was.has(unit));
        if let Some(unit) = came {
            return Some(format!("DataStore {} has a member in {unit} now", was.store));
        }
        if let Some(unit) = was.members.iter().find(|unit| !is.has(unit)) {
            return Some(format!("DataStore {} has no member in {unit} any more", was.store));
        }
    }
    let came = now
        .iter()
        .find(|is| !op.stores.iter().any(|was| was.store == is.store))?;
    Some(format!("DataStore {} came to keyspace {}", came.store, came.keyspace))
}

/// The first source or target that has no member of a store whose rows it would lose or get: a word, and what to do.
pub fn no_member(op: &Operation) -> Option<(&'static str, String)> {
    let moved_by = |store: &MovingStore, slot_move: &&SlotMove| slot_move.keyspace == store.keyspace;
    for store in &op.stores {
        let mut moves = op.moves.iter().filter(|slot_move| moved_by(store, slot_move));
        if let Some(slot_move) = moves.find(|slot_move| !store.has(&slot_move.source)) {
            let message = format!(
                "DataStore {} has no member in {}: its rows there can be neither fenced nor moved; add the member or take \
                 the store away",
                store.store, slot_move.source
            );
            return Some(("SourceHasNoMember", message));
        }
        if !store.has(&op.target) {
            return Some(target_lacks(op, store));
        }
    }
    None
}

/// The first store whose rows the target would get and of which it has no member: a word, and what to do.
pub(super) fn target_has_no_member(op: &Operation) -> Option<(&'static str, String)> {
    let lacked = op.stores.iter().find(|store| !store.has(&op.target))?;
    Some(target_lacks(op, lacked))
}

fn target_lacks(op: &Operation, store: &MovingStore) -> (&'static str, String) {
    let message = format!(
        "DataStore {} has no member in {}: add one first",
        store.store, op.target
    );
    ("TargetHasNoMember", message)
}
