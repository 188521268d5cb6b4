//! One UnitWorkload: what its units shall have is given to their runners, what came of it is written to its status.

use super::marks::Owner;
use super::pass::Job;
use super::render::{Desired, Invalid, render};
use super::runner::Runner;
use super::select::select;
use super::shared::Shared;
use super::status::{Problem, UnitNews, compose, intent, readiness, remembered};
use crate::conditions::Readiness;
use crate::error::Error;
use crate::status::{is_paused, write};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use multiactive_api::{UnitWorkload, UnitWorkloadStatus, WorkloadUnit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Unit and member.
pub type Place = (String, String);

/// How long news of one unit wait for those of the others, so that they travel in one write.
const GATHER: Duration = Duration::from_secs(1);

/// What a pass over the UnitWorkload ends with.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for news, or for this long.
    Wait(Option<Duration>),
    /// The UnitWorkload is gone.
    Gone,
}

/// The keeper of one UnitWorkload.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) told: Arc<Notify>,
    pub(super) runners: BTreeMap<Place, Runner>,
    /// The uid and status that were written last: newer than the copy of the hub may be.
    pub(super) written: Option<(String, UnitWorkloadStatus)>,
    /// The uid of the object that is known to carry our finalizer; the copy of the hub may not show it yet.
    pub(super) held: Option<String>,
    waiting_since: Option<Instant>,
}

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
            held: None,
            waiting_since: None,
        }
    }

    /// Runs until the UnitWorkload is gone.
    pub async fn run(mut self) {
        loop {
            let pause = match self.once().await {
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
            self.runners.clear();
            return Ok(Next::Wait(None));
        }
        let old = self.known_status(&workload);
        if workload.metadata.deletion_timestamp.is_some() {
            return self.leave(&workload, &old).await;
        }
        self.keep(&workload, old).await
    }

    /// The status as it was written last, or as the hub has it.
    fn known_status(&mut self, workload: &UnitWorkload) -> UnitWorkloadStatus {
        let uid = workload.uid().unwrap_or_default();
        match &self.written {
            Some((of, status)) if *of == uid => status.clone(),
            _ => {
                // Another object of the same name, or the first look.
                self.runners.clear();
                let status = workload.status.clone().unwrap_or_default();
                self.written = Some((uid, status.clone()));
                status
            }
        }
    }

    async fn keep(&mut self, workload: &UnitWorkload, mut old: UnitWorkloadStatus) -> Result<Next, Error> {
        let (wanted, problem) = match self.wanted(workload) {
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
        if !wanted.is_empty() {
            self.hold_finalizer(workload).await?;
        }
        let mut news = false;
        for ((unit, cluster), desired) in &wanted {
            let at = old.units.iter().position(|known| is_at(known, unit, cluster));
            if let Some(entry) = intent(unit, cluster, at.map(|at| &old.units[at]), desired) {
                news = true;
                match at {
                    Some(at) => old.units[at] = entry,
                    None => old.units.push(entry),
                }
            }
        }
        if news {
            old.observed_generation = workload.metadata.generation;
            self.put(workload, &old).await?;
        }
        self.hand_out(workload, &wanted, &old);
        self.report(workload, &old, problem).await
    }

    /// What each place shall have.
    #[expect(clippy::type_complexity, reason = "a pair of one use")]
    fn wanted(
        &self,
        workload: &UnitWorkload,
    ) -> Result<(BTreeMap<Place, Arc<Vec<Desired>>>, Option<Problem>), Invalid> {
        let all = self.shared.ctx.hub.units.of(&self.namespace);
        let selected = select(&workload.spec, &all)?;
        let mut wanted = BTreeMap::new();
        for unit in &selected.units {
            let owner = self.owner(workload, &unit.name_any());
            let desired = render(&workload.spec, &owner)?;
            wanted.insert((unit.name_any(), unit.spec.cluster.clone()), Arc::new(desired));
        }
        let problem = (!selected.missing.is_empty()).then(|| Problem {
            reason: "UnknownUnit",
            message: format!(
                "spec.units names {}, which is no Unit of this namespace; create it or remove the name",
                selected.missing.join(", ")
            ),
        });
        Ok((wanted, problem))
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
        let unread = self.shared.ctx.hub.units.invalid(&self.namespace);
        for known in &old.units {
            let Some(cluster) = known.cluster.clone() else { continue };
            let place = (known.unit.clone(), cluster);
            // A Unit that cannot be parsed is not gone.
            if wanted.contains_key(&place) || unread.iter().any(|(name, _)| *name == known.unit) {
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
        let same = |job: &Job| job.owner == owner && job.desired == desired;
        let job = || Job {
            owner: owner.clone(),
            cluster: place.1.clone(),
            desired: Arc::clone(&desired),
            prior,
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
                continue;
            };
            let (latest, present) = runner.latest();
            complete &= present;
            news.push(latest.map_or_else(|| remembered(known), |latest| latest.news));
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
            // Nothing is worked on since the spec is invalid: what was known stays.
            news = old.units.iter().map(remembered).filter(|_| problem.is_some()).collect();
        }
        let readiness = readiness(&news, problem.as_ref(), false);
        self.report_when_due(workload, old, &news, &readiness, complete).await
    }

    /// Writes the status once all units have told, or the first has waited long enough for the others.
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
        if !complete && waited < GATHER {
            return Ok(Next::Wait(Some(GATHER - waited)));
        }
        self.waiting_since = None;
        self.put(workload, &status).await?;
        Ok(Next::Wait(None))
    }

    async fn put(&mut self, workload: &UnitWorkload, status: &UnitWorkloadStatus) -> Result<(), Error> {
        let api: Api<UnitWorkload> = Api::namespaced(self.shared.ctx.client.clone(), &self.namespace);
        write(&api, workload, status).await?;
        self.written = Some((workload.uid().unwrap_or_default(), status.clone()));
        Ok(())
    }
}

fn is_at(known: &WorkloadUnit, unit: &str, cluster: &str) -> bool {
    known.unit == unit && known.cluster.as_deref() == Some(cluster)
}
