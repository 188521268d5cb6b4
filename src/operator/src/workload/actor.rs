//! One UnitWorkload: what its units shall have is given to their runners, what came of it is written to its status.
//! Everything that it writes to the hub is in `written`.

use super::marks::Owner;
use super::news::{UnitNews, intent, pending, remembered};
use super::pass::Job;
use super::refused::refused;
use super::render::{Desired, Id, Invalid, render};
use super::runner::Runner;
use super::select::select;
use super::shared::Shared;
use super::status::{Problem, compose, patience, readiness};
use super::written::{Written, intended};
use crate::conditions::Readiness;
use crate::error::Error;
use crate::status::is_paused;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{Unit, UnitWorkload, UnitWorkloadStatus, WorkloadUnit};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often it is looked whether a unit that is gone is still needed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Unit and member.
pub type Place = (String, String);

/// What a pass over the UnitWorkload ends with.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for news, or for this long.
    Wait(Option<Duration>),
    /// The UnitWorkload is gone.
    Gone,
}

/// What each place shall have, and what is wrong with the spec all the same.
#[derive(Clone, Default)]
struct Wanted {
    places: BTreeMap<Place, Arc<Vec<Desired>>>,
    problem: Option<Problem>,
}

/// The keeper of one UnitWorkload.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) told: Arc<Notify>,
    pub(super) runners: BTreeMap<Place, Runner>,
    /// What this process wrote to the object: newer than the copy of the hub may be.
    pub(super) written: Option<Written>,
    /// What was rendered last, and of what: the uid, the generation, and the units as they were then.
    rendered: Option<(Rendered, Wanted)>,
    /// Units that are not there, and whose objects stay all the same.
    pub(super) stays: BTreeSet<String>,
    /// What this process recorded for the first time, and so before anybody tried to make it.
    fresh: BTreeMap<Place, Arc<HashSet<Id>>>,
    waiting_since: Option<Instant>,
}

/// Uid and generation of a UnitWorkload, and the Units of its namespace.
type Rendered = (Option<String>, Option<i64>, Vec<Arc<Unit>>);

impl Actor {
    /// A keeper that has not looked yet; `told` wakes it.
    pub fn new(shared: Arc<Shared>, namespace: String, name: String, told: Arc<Notify>) -> Self {
        Self {
            shared,
            namespace,
            name,
            told,
            runners: BTreeMap::new(),
            written: None,
            rendered: None,
            stays: BTreeSet::new(),
            fresh: BTreeMap::new(),
            waiting_since: None,
        }
    }

    /// Runs until the UnitWorkload is gone.
    pub async fn run(mut self) {
        loop {
            // In a box: it is large, and most of thousands of keepers wait.
            let pause = match Box::pin(self.once()).await {
                Ok(Next::Gone) => return,
                Ok(Next::Wait(pause)) => pause,
                // The copy of the hub was old: the newer one is on its way.
                Err(error) if error.status().is_some_and(kube::core::Status::is_conflict) => {
                    Some(Duration::from_millis(200))
                }
                Err(error) => {
                    let (namespace, name) = (&self.namespace, &self.name);
                    tracing::warn!(
                        namespace,
                        name,
                        error = error.chain(),
                        "UnitWorkload could not be kept, trying again"
                    );
                    Some(error.retry())
                }
            };
            let pause = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.told.notified() => {}
                () = pause => {}
            }
        }
    }

    async fn once(&mut self) -> Result<Next, Error> {
        let workloads = &self.shared.ctx.hub.workloads;
        let Some(workload) = workloads.get(&self.namespace, &self.name) else {
            // One that cannot be parsed is not gone; what it had stays.
            let invalid = workloads.invalid(&self.namespace);
            let unread = invalid.iter().any(|(name, _)| *name == self.name);
            return Ok(if unread { Next::Wait(None) } else { Next::Gone });
        };
        if is_paused(&*workload) {
            self.forget_runners();
            return Ok(Next::Wait(None));
        }
        let old = self.known_status(&workload);
        if workload.metadata.deletion_timestamp.is_some() {
            return self.leave(&workload, &old).await;
        }
        let next = self.keep(&workload, old).await?;
        Ok(match next {
            // Nothing tells that a unit which is gone owns nothing any more.
            Next::Wait(pause) if !self.stays.is_empty() => {
                Next::Wait(Some(pause.map_or(LOOK_AGAIN, |pause| pause.min(LOOK_AGAIN))))
            }
            other @ (Next::Wait(_) | Next::Gone) => other,
        })
    }

    /// The status as it was written last, or as the hub has it.
    fn known_status(&mut self, workload: &UnitWorkload) -> UnitWorkloadStatus {
        let uid = workload.uid().unwrap_or_default();
        match &self.written {
            Some(written) if written.uid == uid => written.status.clone(),
            _ => {
                // Another object of the same name, or the first look.
                self.forget_runners();
                let mut status = workload.status.clone().unwrap_or_default();
                if status.observed_generation.is_none() {
                    status.units = intended(workload);
                }
                self.written = Some(Written {
                    uid,
                    status: status.clone(),
                    version: None,
                    held: false,
                });
                status
            }
        }
    }

    async fn keep(&mut self, workload: &UnitWorkload, mut old: UnitWorkloadStatus) -> Result<Next, Error> {
        let Wanted { places, problem } = match self.wanted(workload) {
            Ok(wanted) => wanted,
            Err(invalid) => {
                // What is invalid is never applied; what was applied before is kept as it is.
                let problem = Problem {
                    reason: "Invalid",
                    message: invalid.to_string(),
                };
                return self.report(workload, &old, Some(problem)).await;
            }
        };
        let mut news = false;
        for ((unit, cluster), desired) in &places {
            let at = old.units.iter().position(|known| is_at(known, unit, cluster));
            let prior = at.map(|at| &old.units[at]);
            if let Some(entry) = intent(unit, cluster, prior, desired) {
                news = true;
                let known = prior.map_or(0, |prior| prior.objects.len());
                let fresh = self.fresh.entry((unit.clone(), cluster.clone())).or_default();
                Arc::make_mut(fresh).extend(entry.objects.iter().skip(known).map(Id::from));
                match at {
                    Some(at) => old.units[at] = entry,
                    None => old.units.push(entry),
                }
            }
        }
        // What is about to be made is recorded before: with the finalizer, where there is no status yet.
        let recorded = !places.is_empty() && self.hold_finalizer(workload, &old).await?;
        if news && !recorded {
            old.observed_generation = workload.metadata.generation;
            self.put(workload, &old).await?;
        }
        self.stays = self.staying(&places, &old).await;
        self.hand_out(workload, &places, &old);
        self.report(workload, &old, problem).await
    }

    /// What each place shall have.
    fn wanted(&mut self, workload: &UnitWorkload) -> Result<Wanted, Invalid> {
        let all = self.shared.ctx.hub.units.of(&self.namespace);
        let rendered = (workload.uid(), workload.metadata.generation, all);
        if let Some((of, wanted)) = &self.rendered
            && (&of.0, of.1) == (&rendered.0, rendered.1)
            && of.2.len() == rendered.2.len()
            && of.2.iter().zip(&rendered.2).all(|(one, other)| Arc::ptr_eq(one, other))
        {
            return Ok(wanted.clone());
        }
        let selected = select(&workload.spec, &rendered.2)?;
        let mut places = BTreeMap::new();
        for unit in &selected.units {
            let place = (unit.name_any(), unit.spec.cluster.clone());
            let desired = render(&workload.spec, &self.owner(workload, &place.0))?;
            // What says the same stays the same.
            let before = self.rendered.iter().find_map(|(_, wanted)| wanted.places.get(&place));
            let desired = match before.filter(|before| ***before == desired) {
                Some(before) => Arc::clone(before),
                None => Arc::new(desired),
            };
            places.insert(place, desired);
        }
        let problem = (!selected.missing.is_empty()).then(|| Problem {
            reason: "UnknownUnit",
            message: format!(
                "spec.units names {}, which is no Unit of this namespace; create it or remove the name",
                selected.missing.join(", ")
            ),
        });
        let wanted = Wanted { places, problem };
        self.rendered = Some((rendered, wanted.clone()));
        Ok(wanted)
    }

    /// Gives every place its job: what is wanted there, or that all of it shall go.
    fn hand_out(
        &mut self,
        workload: &UnitWorkload,
        wanted: &BTreeMap<Place, Arc<Vec<Desired>>>,
        old: &UnitWorkloadStatus,
    ) {
        for (place, desired) in wanted {
            let prior = old.units.iter().find(|known| is_at(known, &place.0, &place.1));
            self.assign(workload, place, Arc::clone(desired), prior.cloned());
        }
        for known in &old.units {
            let Some(cluster) = known.cluster.clone() else { continue };
            let place = (known.unit.clone(), cluster);
            if wanted.contains_key(&place) || self.stays.contains(&known.unit) {
                continue;
            }
            let mut prior = known.clone();
            let here = wanted.iter().filter(|((_, cluster), _)| *cluster == place.1);
            let moved: Vec<&Desired> = here.flat_map(|(_, desired)| desired.iter()).collect();
            // Another unit of this cluster takes the object over as it is.
            prior
                .objects
                .retain(|object| !moved.iter().any(|desired| desired.id.same_object(&object.into())));
            self.assign(workload, &place, Arc::default(), Some(prior));
        }
    }

    pub(super) fn assign(
        &mut self,
        workload: &UnitWorkload,
        place: &Place,
        desired: Arc<Vec<Desired>>,
        prior: Option<WorkloadUnit>,
    ) {
        let owner = self.owner(workload, &place.0);
        let recorded = refused(prior.as_ref());
        let same = |job: &Job| {
            job.owner == owner
                && (Arc::ptr_eq(&job.desired, &desired) || job.desired == desired)
                && refused(job.prior.as_ref()) == recorded
        };
        let fresh = self.fresh.get(place).cloned().unwrap_or_default();
        let job = || Job {
            owner: owner.clone(),
            cluster: place.1.clone(),
            desired: Arc::clone(&desired),
            prior,
            fresh,
        };
        match self.runners.get(place) {
            Some(runner) => runner.give(same, job),
            None => {
                let runner = Runner::start(&self.shared, job(), &self.told);
                self.runners.insert(place.clone(), runner);
            }
        }
    }

    fn owner(&self, workload: &UnitWorkload, unit: &str) -> Owner {
        Owner {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: workload.uid().unwrap_or_default(),
            unit: unit.to_owned(),
        }
    }

    /// What is known of every place, and whether all of it is of the present jobs. Places that are empty are dropped.
    pub(super) fn gather(&mut self, old: &UnitWorkloadStatus) -> (Vec<UnitNews>, bool) {
        let (mut news, mut complete) = (Vec::new(), true);
        self.runners.retain(|_, runner| {
            let (latest, present) = runner.latest();
            !(present && latest.is_some_and(|latest| latest.empty))
        });
        for known in &old.units {
            let place = (known.unit.clone(), known.cluster.clone().unwrap_or_default());
            let Some(runner) = self.runners.get(&place) else {
                if self.stays.contains(&known.unit) {
                    news.push(remembered(known));
                }
                continue;
            };
            let (latest, present) = runner.latest();
            complete &= present;
            let known = latest.map_or_else(|| remembered(known), |latest| latest.news);
            news.push(if present { known } else { pending(known) });
        }
        (news, complete)
    }

    async fn report(
        &mut self,
        workload: &UnitWorkload,
        old: &UnitWorkloadStatus,
        problem: Option<Problem>,
    ) -> Result<Next, Error> {
        let (mut news, complete) = self.gather(old);
        if self.runners.is_empty() {
            // Nothing is worked on since the spec is invalid: what was known stays, and so do units that outlive theirs.
            let known = old.units.iter().map(remembered);
            news = known
                .filter(|known| problem.is_some() || self.stays.contains(&known.unit.unit))
                .collect();
        }
        let readiness = readiness(&news, problem.as_ref(), false);
        self.report_when_due(workload, old, &news, &readiness, complete).await
    }

    /// Writes the status once what is new is worth a write: see [`patience`].
    pub(super) async fn report_when_due(
        &mut self,
        workload: &UnitWorkload,
        old: &UnitWorkloadStatus,
        news: &[UnitNews],
        readiness: &Readiness,
        complete: bool,
    ) -> Result<Next, Error> {
        let status = compose(old, workload.metadata.generation, news, readiness, Timestamp::now());
        if status == *old {
            self.waiting_since = None;
            return Ok(Next::Wait(None));
        }
        let waited = self.waiting_since.get_or_insert_with(Instant::now).elapsed();
        let patience = patience(old, &status, complete);
        if waited < patience {
            return Ok(Next::Wait(Some(patience - waited)));
        }
        self.waiting_since = None;
        self.put(workload, &status).await?;
        let refusals = |status: &UnitWorkloadStatus| -> Vec<_> {
            let units = status.units.iter();
            units.map(|unit| refused(Some(unit))).collect()
        };
        if refusals(old) != refusals(&status) {
            // The runners wait to hear that it is recorded.
            self.told.notify_one();
        }
        Ok(Next::Wait(None))
    }

    /// Ends all work. What they sent is forgotten with them, so nothing counts as never sent any more.
    pub(super) fn forget_runners(&mut self) {
        self.runners.clear();
        self.fresh.clear();
    }
}

fn is_at(known: &WorkloadUnit, unit: &str, cluster: &str) -> bool {
    known.unit == unit && known.cluster.as_deref() == Some(cluster)
}
