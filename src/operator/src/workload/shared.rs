//! What all workloads of one operator share.

use super::kinds::Kinds;
use super::marks::{Marks, Owner};
use super::pass::reachable;
use super::plan::Claims;
use super::render::Id;
use super::token::Deployers;
use super::trouble::Trouble;
use super::watches::{Scope, Watches};
use crate::Context;
use crate::members::Member;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::EventType;
use multiactive_api::UnitWorkload;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How many requests one member gets at a time: enough to keep it busy, not so many that others wait.
const CALLS_AT_ONCE: usize = 16;

/// Member, UnitWorkload (`namespace/name`) and unit.
pub type RunnerKey = (String, String, String);

/// What all workloads share.
pub struct Shared {
    /// What the whole operator shares.
    pub ctx: Arc<Context>,
    /// Clients that act as teams.
    pub deployers: Deployers,
    /// Kinds of the members.
    pub kinds: Kinds,
    /// Copies of what stands in the members.
    pub watches: Watches,
    runners: Arc<Runners>,
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    hub: Semaphore,
    unkept: Mutex<HashMap<(String, String, Id), Vec<String>>>,
}

impl Shared {
    /// Nothing known yet.
    pub fn new(ctx: Arc<Context>) -> Self {
        let runners = Arc::new(Runners::default());
        let tell = Arc::clone(&runners);
        let tell = Arc::new(move |scope: &Scope, workload: Option<&str>| tell.changed(scope, workload));
        Self {
            watches: Watches::new(tell, ctx.metrics.clone()),
            ctx,
            deployers: Deployers::default(),
            kinds: Kinds::default(),
            runners,
            limits: Mutex::default(),
            hub: Semaphore::new(CALLS_AT_ONCE),
            unkept: Mutex::default(),
        }
    }

    /// Who has to look again when something changes in a member.
    pub fn runners(&self) -> &Runners {
        &self.runners
    }

    /// The member, where it may be worked with.
    ///
    /// # Errors
    ///
    /// That it does not answer, or that there is none.
    pub fn member(&self, cluster: &str) -> Result<Arc<Member>, Trouble> {
        let declared = self.ctx.hub.members.get("", cluster).is_some();
        reachable(self.ctx.members.get(cluster), cluster, declared)
    }

    /// Waits for a place among the requests to a member.
    pub async fn permit(&self, cluster: &str) -> Option<OwnedSemaphorePermit> {
        let limit = {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Arc::new(Semaphore::new(CALLS_AT_ONCE));
            Arc::clone(limits.entry(cluster.to_owned()).or_insert_with(fresh))
        };
        // Nobody closes it.
        limit.acquire_owned().await.ok()
    }

    /// Waits for a place among the writes to the hub: thousands at once would each need a connection of their own, and
    /// none would be done sooner.
    pub async fn permit_of_hub(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.hub.acquire().await.ok()
    }

    /// Whose marks count.
    pub fn claims(&self) -> HubClaims<'_> {
        HubClaims(&self.ctx)
    }

    /// The fields of an object that its member does not keep.
    pub fn unkept(&self, cluster: &str, owner: &Owner, id: &Id) -> Vec<String> {
        let known = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&(cluster.to_owned(), owner.workload(), id.clone()))
            .cloned()
            .unwrap_or_default()
    }

    /// Remembers the fields of an object that its member does not keep.
    pub fn set_unkept(&self, cluster: &str, owner: &Owner, id: &Id, fields: Vec<String>) {
        let key = (cluster.to_owned(), owner.workload(), id.clone());
        let mut known = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        if fields.is_empty() {
            known.remove(&key);
        } else {
            known.insert(key, fields);
        }
    }

    /// Publishes an event about a UnitWorkload.
    pub fn event(&self, owner: &Owner, kind: EventType, reason: &str, note: String) {
        let reference = ObjectReference {
            api_version: Some(UnitWorkload::api_version(&()).into_owned()),
            kind: Some(UnitWorkload::kind(&()).into_owned()),
            namespace: Some(owner.namespace.clone()),
            name: Some(owner.name.clone()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        };
        self.ctx.event_for(reference, kind, reason, note);
    }
}

/// Claims as the hub's objects tell them.
pub struct HubClaims<'a>(&'a Context);

impl Claims for HubClaims<'_> {
    fn stands(&self, marks: &Marks) -> bool {
        let workloads = &self.0.hub.workloads;
        let Some((namespace, name)) = marks.workload.split_once('/') else {
            return true;
        };
        // A namespace that this hub does not work for may belong to another hub.
        let known_namespace = !self.0.hub.units.of(namespace).is_empty();
        !workloads.is_ready()
            || !known_namespace
            || workloads.get(namespace, name).is_some()
            || workloads.invalid(namespace).iter().any(|(invalid, _)| invalid == name)
    }
}

/// The runners of all units, to be woken.
#[derive(Default)]
pub struct Runners(Mutex<BTreeMap<RunnerKey, Arc<Notify>>>);

impl Runners {
    /// Adds one.
    pub fn add(&self, key: RunnerKey, wake: Arc<Notify>) {
        self.lock().insert(key, wake);
    }

    /// Takes one out.
    pub fn remove(&self, key: &RunnerKey) {
        self.lock().remove(key);
    }

    /// Wakes all runners.
    pub fn wake_all(&self) {
        for wake in self.lock().values() {
            wake.notify_one();
        }
    }

    fn changed(&self, scope: &Scope, workload: Option<&str>) {
        let mut from = (scope.cluster.clone(), String::new(), String::new());
        let belongs: Box<dyn Fn(&str) -> bool> = match workload {
            Some(workload) => {
                workload.clone_into(&mut from.1);
                Box::new(move |of| of == workload)
            }
            None if scope.namespace.is_empty() => Box::new(|_| true),
            None => {
                from.1 = format!("{}/", scope.namespace);
                let prefix = from.1.clone();
                Box::new(move |of| of.starts_with(&prefix))
            }
        };
        let runners = self.lock();
        let here = runners
            .range(from..)
            .take_while(|((cluster, of, _), _)| *cluster == scope.cluster && belongs(of));
        for (_, wake) in here {
            wake.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunnerKey, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
