//! The task that keeps one unit's objects: a pass for each change of what is wanted or of what is there.

use super::judged::Judged;
use super::news::{UNKNOWN_AFTER, UnitNews, bridge, looked, not_looked, remembered};
use super::pass::{Job, Report, pass};
use super::refused::{Sent, Untried, refused};
use super::render::Id;
use super::shared::{RunnerKey, Shared};
use super::trouble::{Cause, Trouble};
use super::watches::Watch;
use crate::supervise::supervise;
use kube::runtime::events::EventType;
use multiactive_api::{WorkloadObject, WorkloadUnit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

/// What came of the latest pass.
#[derive(Clone, Debug)]
pub struct Latest {
    /// The job that it was for.
    pub sequence: u64,
    /// What is known of the unit.
    pub news: UnitNews,
    /// Whether nothing is wanted and nothing is left.
    pub empty: bool,
}

/// A runner; it ends when it is dropped.
pub struct Runner {
    key: RunnerKey,
    shared: Arc<Shared>,
    jobs: watch::Sender<(u64, Arc<Job>)>,
    latest: Arc<Mutex<Option<Latest>>>,
    _task: AbortOnDropHandle<()>,
}

impl Runner {
    /// Starts working on `job`; `told` is notified of news.
    pub fn start(shared: &Arc<Shared>, job: Job, told: &Arc<Notify>) -> Self {
        let key = (job.cluster.clone(), job.owner.workload(), job.owner.unit.clone());
        let wake = Arc::new(Notify::new());
        shared.runners().add(key.clone(), Arc::clone(&wake));
        let latest: Arc<Mutex<Option<Latest>>> = Arc::default();
        let (jobs, receiver) = watch::channel((1, Arc::new(job)));
        let name = format!("{} in {}", key.1, key.0);
        let (of, told, shown) = (Arc::clone(shared), Arc::clone(told), Arc::clone(&latest));
        // It outlives a panic: what was sent is not to be forgotten.
        let sent: Arc<Sent> = Arc::default();
        let begin = move || {
            let work = Work {
                shared: Arc::clone(&of),
                wake: Arc::clone(&wake),
                told: Arc::clone(&told),
                latest: Arc::clone(&shown),
                held: Vec::new(),
                judged: Judged::default(),
                sent: Arc::clone(&sent),
                news: None,
                silent_since: None,
            };
            work.run(receiver.clone())
        };
        let work = supervise(shared.ctx.metrics.clone(), "workload of a unit", name, begin);
        Self {
            key,
            shared: Arc::clone(shared),
            jobs,
            latest,
            _task: AbortOnDropHandle::new(tokio::spawn(work)),
        }
    }

    /// Gives it another job, unless `same` says that it has it already.
    pub fn give(&self, same: impl FnOnce(&Job) -> bool, job: impl FnOnce() -> Job) {
        self.jobs.send_if_modified(|(sequence, current)| {
            if same(current) {
                return false;
            }
            *sequence += 1;
            *current = Arc::new(job());
            true
        });
    }

    /// What is known, and whether that is of the present job.
    pub fn latest(&self) -> (Option<Latest>, bool) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wanted = self.jobs.borrow().0;
        let present = latest.as_ref().is_some_and(|latest| latest.sequence == wanted);
        (latest, present)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.runners().remove(&self.key);
    }
}

struct Work {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    told: Arc<Notify>,
    latest: Arc<Mutex<Option<Latest>>>,
    held: Vec<Arc<Watch>>,
    judged: Judged,
    sent: Arc<Sent>,
    news: Option<UnitNews>,
    silent_since: Option<Instant>,
}

impl Work {
    async fn run(mut self, mut jobs: watch::Receiver<(u64, Arc<Job>)>) {
        loop {
            let (sequence, job) = jobs.borrow_and_update().clone();
            // In a box: it is large, and most of thousands of runners wait.
            let retry = Box::pin(self.once(sequence, &job)).await;
            let pause = async {
                match retry {
                    Some(retry) => tokio::time::sleep(retry).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = jobs.changed() => if changed.is_err() { return },
                () = self.wake.notified() => {}
                () = pause => {}
            }
        }
    }

    /// One pass; returns when to do the next without being asked.
    async fn once(&mut self, sequence: u64, job: &Job) -> Option<Duration> {
        if self.news.is_none() {
            self.news = job.prior.as_ref().map(remembered);
        }
        let untried = Untried {
            fresh: Arc::clone(&job.fresh),
            recorded: refused(job.prior.as_ref()),
            told: refused(self.news.as_ref().map(|news| &news.unit)),
            sent: Arc::clone(&self.sent),
        };
        let mut job = job.clone();
        job.prior = known(job.prior.as_ref(), self.news.as_ref().map(|news| &news.unit));
        let result = pass(&self.shared, &job, &self.judged, &untried).await;
        let (unit, cluster) = (job.owner.unit.as_str(), job.cluster.as_str());
        let silent_for = self.silence(&result);
        let (news, empty, retry) = match result {
            Ok(Report { found, held }) => {
                self.held = held;
                let retry = found.iter().filter_map(|found| found.cause?.retry()).min();
                let empty = job.desired.is_empty() && found.is_empty();
                let found = bridge(found, self.news.as_ref(), silent_for);
                (looked(unit, cluster, &found), empty, retry)
            }
            Err(trouble) => {
                let mut before = self.news.clone();
                if let (Some(before), Some(prior)) = (&mut before, &job.prior) {
                    before.unit.objects.clone_from(&prior.objects);
                }
                let mut news = not_looked(unit, cluster, before.as_ref(), &trouble, silent_for);
                if trouble.is_refusal() {
                    untried.mark(&mut news.unit.objects);
                }
                (news, false, retry_of(&trouble))
            }
        };
        self.tell(sequence, &job, news, empty);
        retry
    }

    /// How long the member has been silent.
    fn silence(&mut self, result: &Result<Report, Trouble>) -> Duration {
        let silent = match result {
            Ok(report) => report.found.iter().any(|found| found.cause == Some(Cause::Unreachable)),
            Err(trouble) => trouble.cause == Cause::Unreachable,
        };
        if !silent {
            self.silent_since = None;
            return Duration::ZERO;
        }
        self.silent_since.get_or_insert_with(Instant::now).elapsed()
    }

    fn tell(&mut self, sequence: u64, job: &Job, news: UnitNews, empty: bool) {
        self.tell_state(job, &news);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let same = latest
            .as_ref()
            .is_some_and(|known| known.sequence == sequence && known.news == news && known.empty == empty);
        if !same {
            *latest = Some(Latest {
                sequence,
                news: news.clone(),
                empty,
            });
            self.told.notify_one();
        }
        self.news = Some(news);
    }

    /// An event where the unit came into or out of trouble; progress is not worth one.
    fn tell_state(&self, job: &Job, news: &UnitNews) {
        let grave = |cause: Option<Cause>| cause.filter(|cause| *cause != Cause::Progressing);
        let before = self.news.as_ref().and_then(|news| grave(news.cause));
        let after = grave(news.cause);
        let place = format!("unit {} in member {}", job.owner.unit, job.cluster);
        match (before, after) {
            (before, Some(cause)) if before != Some(cause) => {
                let why = news.unit.message.as_deref().unwrap_or_default();
                self.shared
                    .event(&job.owner, EventType::Warning, cause.word(), format!("{place}: {why}"));
            }
            (Some(_), None) if news.cause.is_none() => {
                self.shared.event(
                    &job.owner,
                    EventType::Normal,
                    "Recovered",
                    format!("{place} is ready again"),
                );
            }
            (Some(_) | None, None | Some(_)) => {}
        }
    }
}

fn retry_of(trouble: &Trouble) -> Option<Duration> {
    // Soon enough to call it unknown in time.
    trouble.cause.retry().map(|retry| retry.min(UNKNOWN_AFTER))
}

/// All objects that are recorded in either, with the uid that one of them knows.
fn known(recorded: Option<&WorkloadUnit>, found: Option<&WorkloadUnit>) -> Option<WorkloadUnit> {
    let (Some(recorded), Some(found)) = (recorded, found) else {
        return recorded.or(found).cloned();
    };
    let same = |a: &WorkloadObject, b: &WorkloadObject| Id::from(a).same_object(&Id::from(b));
    let mut all = found.clone();
    for object in &recorded.objects {
        match all.objects.iter_mut().find(|known| same(known, object)) {
            Some(known) if known.uid.is_none() => known.uid.clone_from(&object.uid),
            Some(_) => {}
            None => all.objects.push(object.clone()),
        }
    }
    Some(all)
}
