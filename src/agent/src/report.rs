//! From what is known to the status of a UnitAssignment. Pure; time is an argument.

use crate::facts::{self, Answer, Comparison, CutFact, QuarantineFact, StoreFacts, Stores};
use crate::plan::{Ask, Duty, Role, StoreDuty};
use crate::routers::Registry;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use multiactive_api::{
    AnswerProblem, AppliedTable, AssignedStoreStatus, AssignedVerification, ConflictCounts, CutReport, DivergentRow,
    LeaseReport, LinkState, LinkStatus, OperationReport, PairReport, QuarantineReport, QuarantineState, READY,
    RECONCILING, ReachReport, ReachState, RouterStatus, STALLED, StoreComparison, StorePair, TablePosition,
    UnitAssignmentStatus, VerificationReport, WithinSlot,
};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, StoreName};
use multiactive_core::promotion::{Reach, Step};
use multiactive_core::quarantine::Quarantined;
use multiactive_core::wire::PROTOCOL;

/// Everything that a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The generation of the assignment that the hand works by.
    pub generation: Option<i64>,
    /// The epoch of the newest table; `None` before the first.
    pub table: Option<Epoch>,
    /// The stores.
    pub stores: &'a Stores,
    /// What the running operations ask.
    pub duties: &'a [Duty],
    /// The routers.
    pub routers: &'a Registry,
    /// The unit's write lease.
    pub lease: Option<&'a LeaseReport>,
    /// What the table remembers of the unit, while it is in quarantine.
    pub quarantined: Option<&'a Quarantined>,
    /// The Verification that runs.
    pub verification: Option<&'a AssignedVerification>,
    /// The operations that the table remembers and at whose commit the unit was behind.
    pub behind: &'a [(OperationUid, Vec<KeyspaceName>)],
}

/// The status that says it; conditions keep their times from `before` where nothing changed.
pub fn status(known: Known<'_>, before: &[Condition], now: Timestamp) -> UnitAssignmentStatus {
    let applied = facts::applied(known.stores, known.table);
    let store = |(name, facts): (&multiactive_core::ids::StoreName, &StoreFacts)| AssignedStoreStatus {
        name: name.to_string(),
        ready: facts.is_ready(),
        reason: told(facts).map(|(reason, _)| reason),
        message: told(facts).map(|(_, message)| message),
        server: facts.server.clone(),
        incarnation: facts.incarnation.clone(),
        encrypted: facts.encrypted,
        seen: facts.seen.map(table_of),
        conflicts: facts.conflicts.map(|known| ConflictCounts {
            open: signed(known.open),
            settled: signed(known.settled),
        }),
    };
    let router = |(name, router): (&str, &crate::routers::Router)| RouterStatus {
        name: name.to_owned(),
        table: router.epoch.map(table_of),
        connected: router.connection.is_some(),
    };
    UnitAssignmentStatus {
        observed_generation: known.generation,
        conditions: conditions(known, applied, before, now),
        protocol: i32::try_from(PROTOCOL).unwrap_or(i32::MAX),
        applied: applied.map(table_of),
        routers: known.routers.iter().map(router).collect(),
        stores: known.stores.iter().map(store).collect(),
        links: links(known.stores),
        operations: known.duties.iter().map(|duty| operation(duty, known)).collect(),
        lease: known.lease.cloned(),
        caught_up: caught_up(known),
        quarantine: known.quarantined.map(|by| quarantine(by, known.stores)),
        verification: known.verification.map(|asked| verification(asked, known.stores)),
    }
}

fn table_of(epoch: Epoch) -> AppliedTable {
    AppliedTable {
        term: i64::from(epoch.term),
        epoch: signed(epoch.epoch),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Warnings that stay in the status until a person has dealt with them: rows may be wrong.
const LASTING: [&str; 2] = ["FenceRepaired", "PublicationRepaired"];

/// Reason and message of a store that is not in hand, or of what somebody must see to though it is.
fn told(facts: &StoreFacts) -> Option<(String, String)> {
    let unfenced = facts.answers.values().find_map(|answer| answer.unfenced.as_ref());
    let mut lasting = facts.warnings.iter();
    let lasting = lasting.find(|warning| LASTING.contains(&warning.reason.as_str()));
    let besides = unfenced.or(lasting);
    not_ready(facts).or_else(|| besides.map(|problem| (problem.reason.clone(), problem.message.clone())))
}

/// Reason and message of a store that is not in hand.
fn not_ready(facts: &StoreFacts) -> Option<(String, String)> {
    match &facts.problem {
        Some(problem) => Some((problem.reason.clone(), problem.message.clone())),
        None if facts.applied.is_none() => Some(("Starting".to_owned(), "waiting for its first table".to_owned())),
        None => None,
    }
}

fn links(stores: &Stores) -> Vec<LinkStatus> {
    let all = stores.iter().flat_map(|(store, facts)| {
        facts.links.iter().map(move |(from, link)| LinkStatus {
            store: store.to_string(),
            from: from.clone(),
            state: link.state,
            gap: link.gap,
            lag_ms: facts
                .lags
                .get(from)
                .map(|lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)),
            message: link.message.clone(),
        })
    });
    all.collect()
}

fn conditions(known: Known<'_>, applied: Option<Epoch>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let broken = known
        .stores
        .iter()
        .find_map(|(name, facts)| Some((name, facts.problem.as_ref()?)));
    let stuck = links(known.stores)
        .into_iter()
        .find(|link| link.state == LinkState::Broken);
    // Each row: Ready, Reconciling, Stalled, reason, message.
    let (ready, reconciling, stalled, reason, message) = match (broken, applied, stuck) {
        (Some((name, problem)), _, _) => (
            false,
            false,
            true,
            problem.reason.clone(),
            format!("{name}: {}", problem.message),
        ),
        (None, None, _) => (
            false,
            true,
            false,
            "Starting".to_owned(),
            "waiting for the first table".to_owned(),
        ),
        (None, Some(_), _) if known.quarantined.is_some() => {
            let by = known.quarantined.map(|known| known.name.as_str()).unwrap_or_default();
            let message = format!(
                "Failover {by} took its slots over while it was lost: it serves nothing and is no replica before its rows were \
                 compared and it has rejoined"
            );
            (false, false, true, "Quarantined".to_owned(), message)
        }
        (None, Some(_), Some(link)) => {
            let why = link.message.unwrap_or_default();
            let message = format!("{}: the link from {} is broken: {why}", link.store, link.from);
            (false, false, true, "LinkBroken".to_owned(), message)
        }
        // The epoch is not in the message: a condition changes only when the unit's health does.
        (None, Some(_), None) => (
            true,
            false,
            false,
            "InHand".to_owned(),
            "every store stands at its table".to_owned(),
        ),
    };
    [(READY, ready), (RECONCILING, reconciling), (STALLED, stalled)]
        .into_iter()
        .map(|(kind, value)| {
            let status = if value { "True" } else { "False" };
            let same = before.iter().find(|old| old.type_ == kind && old.status == status);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.clone(),
                message: message.clone(),
                observed_generation: known.generation,
                last_transition_time: same.map_or(Time(now), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The operations at whose commit the unit was behind, and of which every store has all rows by now.
fn caught_up(known: Known<'_>) -> Vec<String> {
    let with_a_part = || known.stores.values().filter(|store| !store.shared);
    let passed = |uid: &OperationUid| with_a_part().all(|store| store.passed.contains(uid));
    let behind = known.behind.iter().map(|(uid, _)| uid);
    behind.filter(|uid| passed(uid)).map(ToString::to_string).collect()
}

/// How many rows are told.
const TOLD: usize = 20;

/// How far the unit is on its way back: as far as the store that is the farthest behind.
fn quarantine(known: &Quarantined, stores: &Stores) -> QuarantineReport {
    let begun = || QuarantineFact::begun(known.by.clone());
    let fact = |facts: &StoreFacts| {
        facts
            .quarantine
            .clone()
            .filter(|fact| fact.by == known.by)
            .unwrap_or_else(begun)
    };
    let concerned = stores.iter().filter(|(_, facts)| !facts.shared);
    let all: Vec<(&StoreName, QuarantineFact)> = concerned.map(|(name, facts)| (name, fact(facts))).collect();
    // A unit without stores holds nothing.
    let without = match known.accepted {
        Some(_) => QuarantineState::Rejoined,
        None => QuarantineState::Compared,
    };
    let rows: Option<Vec<u64>> = all.iter().map(|(_, fact)| fact.rows).collect();
    let longest = all.iter().filter_map(|(_, fact)| fact.span).max();
    let first = all.iter().flat_map(|(store, fact)| {
        fact.first.iter().map(|(table, key)| DivergentRow {
            store: store.to_string(),
            table: table.clone(),
            key: key.clone(),
        })
    });
    let problems = all
        .iter()
        .filter_map(|(store, fact)| Some(format!("{store}: {}", fact.message.as_ref()?)));
    let problems: Vec<_> = problems.collect();
    QuarantineReport {
        by: known.by.to_string(),
        state: all.iter().map(|(_, fact)| fact.state).min().unwrap_or(without),
        rows: rows.map(|rows| signed(rows.into_iter().sum())),
        span_ms: longest.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        first: first.take(TOLD).collect(),
        message: (!problems.is_empty()).then(|| problems.join("; ")),
    }
}

/// What the stores have found for a Verification.
fn verification(asked: &AssignedVerification, stores: &Stores) -> VerificationReport {
    let of = |name: &String| {
        let found = stores.get(&StoreName::from(name.as_str()))?.verification.as_ref();
        let found = found.filter(|found| found.uid == asked.uid)?;
        Some(pairs(name, &found.pairs))
    };
    VerificationReport {
        uid: asked.uid.clone(),
        pairs: asked.stores.iter().filter_map(of).flatten().collect(),
    }
}

fn operation(duty: &Duty, known: Known<'_>) -> OperationReport {
    let answers: Vec<(&StoreDuty, Option<&Answer>)> = duty
        .stores
        .iter()
        .map(|asked| {
            let facts = known.stores.get(&asked.store);
            (asked, facts.and_then(|facts| facts.answers.get(&duty.operation)))
        })
        .collect();
    let mut report = OperationReport {
        uid: duty.operation.to_string(),
        term: i64::from(duty.epoch.term),
        epoch: signed(duty.epoch.epoch),
        in_flight: None,
        fenced: None,
        opened: None,
        cut: None,
        lag_ms: None,
        reach: None,
        compared: Vec::new(),
        comparing: Vec::new(),
        problems: problems(&answers),
    };
    match (duty.step, duty.role) {
        (Step::Check | Step::Prepare, Role::Target | Role::Member) => report.lag_ms = lag_ms(&answers),
        // Verify may last: whole seconds are a write each second, not four. Never less than it is.
        (Step::Verify, Role::Target | Role::Member) => {
            report.compared = compared(&answers);
            report.comparing = comparing(&answers);
            report.lag_ms = lag_ms(&answers).map(|lag| lag.saturating_add(999) / 1000 * 1000);
        }
        (Step::Hold | Step::Fence, Role::Source) => {
            let writes = known.routers.in_flight(&duty.operation, duty.epoch);
            report.in_flight = writes.map(signed);
            report.fenced = fenced(duty, &answers, known);
            report.opened = report.fenced.as_ref().and_then(|_| opened(&answers));
        }
        (Step::Hold | Step::Fence | Step::Drain, Role::Target | Role::Member) => report.reach = reach(duty, &answers),
        (Step::Cut, Role::Target | Role::Member) => report.cut = cut(duty, &answers),
        (Step::Check | Step::Prepare | Step::Verify | Step::Cut | Step::Drain, Role::Source)
        | (Step::Commit | Step::Open | Step::Settle, Role::Source | Role::Target | Role::Member) => {}
    }
    report
}

/// One unknown lag makes the whole unknown; without a store there is nothing to lag.
fn lag_ms(answers: &[(&StoreDuty, Option<&Answer>)]) -> Option<i64> {
    let lags: Option<Vec<_>> = answers.iter().map(|(_, answer)| answer.as_ref()?.lag).collect();
    let lag = lags?.into_iter().max().unwrap_or_default();
    Some(i64::try_from(lag.as_millis()).unwrap_or(i64::MAX))
}

/// How far a store is with each owner.
fn pairs(store: &str, found: &[PairReport]) -> Vec<StorePair> {
    let pair = |found: &PairReport| StorePair {
        store: store.to_owned(),
        found: PairReport {
            within: found.within.clone().filter(WithinSlot::can_be_told),
            ..found.clone()
        },
    };
    found.iter().map(pair).collect()
}

fn comparing(answers: &[(&StoreDuty, Option<&Answer>)]) -> Vec<StorePair> {
    let said = answers
        .iter()
        .filter_map(|(asked, answer)| Some(pairs(asked.store.as_str(), &(*answer)?.comparing)));
    said.flatten().collect()
}

/// Why stores that shall compare or copy rows have not, for those who wait for it.
fn problems(answers: &[(&StoreDuty, Option<&Answer>)]) -> Vec<AnswerProblem> {
    let asked = answers.iter().filter(|(asked, _)| {
        let mut asks = std::iter::once(&asked.ask).chain(&asked.besides);
        asks.any(|ask| matches!(ask, Ask::Compare { .. } | Ask::TakeTail { .. }))
    });
    let failed = asked.filter_map(|(asked, answer)| {
        let message = answer.as_ref()?.problem.clone()?;
        let store = asked.store.to_string();
        Some(AnswerProblem { store, message })
    });
    failed.collect()
}

fn compared(answers: &[(&StoreDuty, Option<&Answer>)]) -> Vec<StoreComparison> {
    let said = |(asked, answer): &(&StoreDuty, Option<&Answer>)| {
        let Comparison {
            rows,
            differing,
            examples,
        } = (*answer)?.compared.as_ref()?;
        Some(StoreComparison {
            store: asked.store.to_string(),
            rows: signed(*rows),
            differing: (!differing.is_empty()).then(|| differing.to_string()),
            examples: examples.clone(),
        })
    };
    answers.iter().filter_map(said).collect()
}

/// The final positions, once every moving store is fenced at the operation's epoch; a unit without stores is fenced
/// when it has taken that table and its routers have no write under way.
fn fenced(duty: &Duty, answers: &[(&StoreDuty, Option<&Answer>)], known: Known<'_>) -> Option<Vec<TablePosition>> {
    known.table.filter(|table| duty.quiet && *table >= duty.epoch)?;
    let positions = answers.iter().map(|(_, answer)| {
        let (epoch, position) = answer.as_ref()?.fenced.as_ref()?;
        (*epoch == duty.epoch).then(|| TablePosition::from(position))
    });
    positions.collect()
}

/// Whether one of the databases ever opened the slots of the operation that is superseded; unknown while one has not said.
fn opened(answers: &[(&StoreDuty, Option<&Answer>)]) -> Option<bool> {
    let asked = answers.iter().filter(|(asked, _)| asks_opened(&asked.ask));
    let said: Option<Vec<bool>> = asked.map(|(_, answer)| answer.as_ref()?.opened).collect();
    // Where nothing is superseded nobody asks.
    said.filter(|said| !said.is_empty())
        .map(|said| said.into_iter().any(|opened| opened))
}

fn asks_opened(ask: &Ask) -> bool {
    match ask {
        Ask::Fence { superseded, .. } => superseded.is_some(),
        Ask::Nothing
        | Ask::Lag(_)
        | Ask::Compare { .. }
        | Ask::Beat
        | Ask::Cut(_)
        | Ask::TakeTail { .. }
        | Ask::Follow { .. }
        | Ask::Reach { .. } => false,
    }
}

/// What every moving store of the unit has of the lost unit's log, once all of them are cut off from it.
fn cut(duty: &Duty, answers: &[(&StoreDuty, Option<&Answer>)]) -> Option<Vec<CutReport>> {
    if !duty.missing.is_empty() {
        return None;
    }
    let reports = answers.iter().map(|(asked, answer)| {
        let (epoch, CutFact { progress, position }) = answer.as_ref()?.cut.as_ref()?;
        (*epoch == duty.epoch).then(|| CutReport {
            store: asked.store.to_string(),
            log: progress.log.clone(),
            at: progress.at.to_string(),
            position: position.into(),
        })
    });
    reports.collect()
}

/// `Reached` when every store has; else the first that is broken, or still waits, is named with the reason.
fn reach(duty: &Duty, answers: &[(&StoreDuty, Option<&Answer>)]) -> Option<ReachReport> {
    let said = |state, message| ReachReport {
        state,
        message: Some(message),
    };
    if let Some(store) = duty.missing.first() {
        let message = format!("this unit has no member of store {store}");
        return Some(said(ReachState::Broken, message));
    }
    let mut waiting = None;
    for (asked, answer) in answers {
        let (epoch, reach) = answer.and_then(|answer| answer.reach.as_ref())?;
        if *epoch != duty.epoch {
            return None;
        }
        match reach {
            Reach::Reached => {}
            Reach::Waiting(missing) => {
                waiting.get_or_insert_with(|| said(ReachState::Waiting, format!("{}: {missing}", asked.store)));
            }
            Reach::Broken(why) => return Some(said(ReachState::Broken, format!("{}: {why}", asked.store))),
        }
    }
    Some(waiting.unwrap_or(ReachReport {
        state: ReachState::Reached,
        message: None,
    }))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
