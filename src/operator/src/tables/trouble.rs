//! What keeps a member from holding what it shall: from failed writes to a problem that is shown. One transient error is
//! no problem.

use crate::error::Error;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// For how long writes must have failed before that is told.
const LASTING: Duration = Duration::from_secs(10);

/// Something in a member that is not as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteProblem {
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether only a change from outside ends it.
    pub stalled: bool,
}

/// What is wrong in one member, as far as one namespace is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteProblems {
    /// With its copy of the routing table.
    pub table: Option<SiteProblem>,
    /// With the assignments of its units, by unit.
    pub assignments: BTreeMap<String, SiteProblem>,
}

impl SiteProblems {
    /// What keeps this unit from acting by the record; the table first, all units need it.
    pub fn of(&self, unit: &str) -> Option<&SiteProblem> {
        self.table.as_ref().or_else(|| self.assignments.get(unit))
    }
}

/// Where the writers of one site put what is wrong; cloning shares it.
#[derive(Clone)]
pub struct Board {
    problems: Arc<Mutex<SiteProblems>>,
    wake: Arc<Notify>,
}

impl Board {
    /// Nothing is wrong; `wake` is told where that changes.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self {
            problems: Arc::default(),
            wake,
        }
    }

    /// What is wrong now.
    pub fn read(&self) -> SiteProblems {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what is wrong with the table.
    pub fn table(&self, problem: Option<SiteProblem>) {
        self.change(|problems| problems.table = problem);
    }

    /// Says what is wrong with the assignments.
    pub fn assignments(&self, problems: BTreeMap<String, SiteProblem>) {
        self.change(|known| known.assignments = problems);
    }

    fn change(&self, change: impl FnOnce(&mut SiteProblems)) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let before = problems.clone();
        change(&mut problems);
        if *problems != before {
            self.wake.notify_one();
        }
    }
}

/// Since when each of several things fails.
#[derive(Debug, Default)]
pub struct Failing(BTreeMap<String, Instant>);

impl Failing {
    /// Takes what failed in the last attempt, all else succeeded; what of it has lasted, as problems of `member`.
    pub fn take(
        &mut self,
        failed: &BTreeMap<String, Error>,
        (member, namespace): (&str, &str),
        now: Instant,
    ) -> BTreeMap<String, SiteProblem> {
        self.0.retain(|what, _| failed.contains_key(what));
        let mut lasting = BTreeMap::new();
        for (what, error) in failed {
            let since = *self.0.entry(what.clone()).or_insert(now);
            if now.duration_since(since) >= LASTING {
                lasting.insert(what.clone(), problem(error, member, namespace));
            }
        }
        lasting
    }
}

fn problem(error: &Error, member: &str, namespace: &str) -> SiteProblem {
    match error.status() {
        Some(status) if namespace_missing(status) => SiteProblem {
            reason: "NamespaceMissing",
            message: format!("namespace {namespace} does not exist in member {member}: create it"),
            stalled: true,
        },
        Some(status) if status.is_forbidden() => SiteProblem {
            reason: "WriteForbidden",
            message: format!(
                "{} in member {member}: install the chart there with {namespace} among member.namespaces",
                error.chain()
            ),
            stalled: true,
        },
        Some(_) | None => SiteProblem {
            reason: "WriteFailed",
            message: format!("{} in member {member}", error.chain()),
            stalled: false,
        },
    }
}

/// Whether the server says that there is no such namespace, and not that there is no such object.
pub fn namespace_missing(status: &kube::core::Status) -> bool {
    status.is_not_found() && status.message.contains("namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> Error {
        let status = kube::core::Status::failure(message, reason).with_code(code);
        Error::Apply {
            kind: "UnitAssignment".into(),
            name: "north-1".to_owned(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        }
    }

    #[test]
    fn a_failure_is_told_once_it_has_lasted_and_no_longer_than_it_lasts() {
        let mut failing = Failing::default();
        let start = Instant::now();
        let both: &[&str] = &["a", "b"];
        for (second, failed, want) in [
            (0, both, &[][..]),
            (9, both, &[]),
            (10, both, &["a", "b"]),
            (11, &["a"], &["a"]),
            (12, both, &["a"]),
            (13, &[], &[]),
            (14, both, &[]),
        ] {
            let failed = failed
                .iter()
                .map(|what| ((*what).to_owned(), refused(500, "InternalError", "m")));
            let failed = failed.collect();
            let told = failing.take(&failed, ("north", "shop"), start + Duration::from_secs(second));
            assert_eq!(told.keys().collect::<Vec<_>>(), want, "at {second}");
        }
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let missing = "namespaces \"shop\" not found";
        for (error, reason, stalled) in [
            (refused(404, "NotFound", missing), "NamespaceMissing", true),
            (refused(403, "Forbidden", "m"), "WriteForbidden", true),
            (
                refused(404, "NotFound", "unitassignments \"north-1\" not found"),
                "WriteFailed",
                false,
            ),
            (refused(500, "InternalError", "m"), "WriteFailed", false),
        ] {
            let problem = problem(&error, "north", "shop");
            assert_eq!(
                (problem.reason, problem.stalled),
                (reason, stalled),
                "{}",
                problem.message
            );
            assert!(problem.message.contains("member north"), "{}", problem.message);
        }
    }

    #[test]
    fn who_waits_is_woken_only_by_news() {
        let wake: Arc<Notify> = Arc::default();
        let board = Board::new(Arc::clone(&wake));
        let woken = || futures::FutureExt::now_or_never(wake.notified()).is_some();
        board.table(None);
        assert!(!woken());
        let problem = problem(&refused(403, "Forbidden", "m"), "north", "shop");
        board.table(Some(problem.clone()));
        assert!(woken());
        board.table(Some(problem.clone()));
        assert!(!woken());
        assert_eq!(board.read().of("north-1"), Some(&problem));
        board.table(None);
        assert!(woken());
    }
}
