//! Drain: which positions have to arrive, who is waited for, and who is behind.

use super::operation::{Operation, StorePosition};
use super::seen::{MemberSeen, Reach, Seen};
use crate::ids::UnitName;
use jiff::{SignedDuration, Timestamp};

/// Whether nothing is asked of a member: it is away, or was when writes began to be held, or it is lost or in quarantine.
/// Never the target.
pub(super) fn excused(op: &Operation, seen: &Seen, member: &MemberSeen) -> bool {
    let out = member.away() || op.behind.contains(&member.unit) || seen.lost.contains(&member.unit);
    member.unit != op.target && out
}

/// A source's position vector without what it had applied from units that are away: a server that died may have sent
/// its last rows to the source alone, and nobody else could apply those now. They are rows of that unit's own slots,
/// which do not move. Of the slots that do move, all that the unit wrote when it owned them stands before an opening in
/// the stream of the source (or of another owner in between), and no member passes an opening before it has applied
/// the positions that stand in it.
pub(super) fn awaited(op: &Operation, seen: &Seen, position: &StorePosition) -> StorePosition {
    let away = |unit: &UnitName| {
        let mut members = seen.members.iter();
        members.any(|member| member.unit == *unit && excused(op, seen, member))
    };
    let mut position = position.clone();
    position.vector.retain(|at| !away(&at.unit));
    position
}

/// Who is behind, and what is waited for first. The target must have applied the positions and answer; the others must
/// have applied them too, or be away, and then they are behind.
pub(super) fn arrivals(op: &Operation, seen: &Seen) -> (Vec<UnitName>, Option<String>) {
    let (mut behind, mut problem) = (Vec::new(), None);
    if !seen.members.iter().any(|member| member.unit == op.target) {
        problem = Some(format!("{}: has not reported", op.target));
    }
    for member in &seen.members {
        let is_target = member.unit == op.target;
        let reached = member.reach == Some(Reach::Reached);
        if reached && (!is_target || member.reachable == Some(true)) {
            continue;
        }
        if excused(op, seen, member) {
            behind.push(member.unit.clone());
        } else {
            let store = seen.target.as_ref().filter(|_| is_target);
            let store = store.and_then(|target| target.problem.as_deref());
            problem = problem.or_else(|| Some(format!("{}: {}", member.unit, missing(member, store))));
        }
    }
    (behind, problem)
}

/// The first member that is waited for and whose link has been broken for so long that it will not mend by itself.
pub(super) fn broken(op: &Operation, seen: &Seen, patience: SignedDuration, now: Timestamp) -> Option<String> {
    let lasts = |unit: &UnitName| {
        let since = seen.since.broken.get(unit);
        since.is_some_and(|since| now.duration_since(*since) >= patience)
    };
    seen.members.iter().find_map(|member| match &member.reach {
        Some(Reach::Broken(why)) if !excused(op, seen, member) && lasts(&member.unit) => {
            Some(format!("{} cannot follow since {patience:#}: {why}", member.unit))
        }
        Some(Reach::Broken(_) | Reach::Reached | Reach::Waiting(_)) | None => None,
    })
}

/// Why a member is waited for; `store` is what its agent says keeps its stores.
pub(super) fn missing<'a>(member: &'a MemberSeen, store: Option<&'a str>) -> &'a str {
    if member.away() {
        return "its member cluster does not answer";
    }
    match &member.reach {
        Some(Reach::Reached) => "it is not known whether its member cluster answers",
        Some(Reach::Broken(why) | Reach::Waiting(why)) if !why.is_empty() => why,
        Some(Reach::Broken(_) | Reach::Waiting(_)) => "not applied yet",
        None => store.unwrap_or("has not reported"),
    }
}
