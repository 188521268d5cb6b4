//! The agent: hears which units are its own. While it leads it keeps one hand for each, and whether it leads or not their
//! write leases.

use crate::events::Events;
use crate::hand;
use crate::lease;
use crate::metrics::Metrics;
use crate::routers::{RouterHub, UnitKey, serve};
use futures::stream::{BoxStream, StreamExt, select_all};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use multiactive_api::UnitAssignment;
use multiactive_runtime::certs::TlsFiles;
use multiactive_runtime::probes::Readiness;
use multiactive_runtime::watch as watches;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// What every hand shares. Clones share it.
#[derive(Clone)]
pub struct Shared {
    /// For single requests.
    pub requests: Client,
    /// For watches.
    pub watches: Client,
    /// The routers of all units.
    pub routers: RouterHub,
    /// The agent's metrics.
    pub metrics: Metrics,
    /// The agent's events.
    pub events: Events,
    /// Where the leases of its units say how they stand.
    pub leases: lease::Boards,
}

/// How an agent works.
#[derive(Clone)]
pub struct Agent {
    /// The MemberCluster whose units it has.
    pub cluster: String,
    /// The namespaces that it looks into; all where empty.
    pub namespaces: Vec<String>,
    /// The certificates for the routers' listener.
    pub tls: TlsFiles,
    /// What its hands share.
    pub shared: Shared,
    /// What its leases share.
    pub leases: lease::Shared,
    /// Whether it has its units.
    pub readiness: Readiness,
}

/// What is done for each unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Everything that only one replica may do, or that is done once.
    Hand,
    /// Its write lease.
    Lease,
}

/// A unit that is in hand.
struct InHand {
    uid: Option<String>,
    assignment: watch::Sender<Arc<UnitAssignment>>,
    /// Ends what is done for the unit, also where the agent itself is dropped.
    ends: DropGuard,
}

type Assigned = Event<DeserializeGuard<UnitAssignment>>;

impl Agent {
    /// Works until `token` is cancelled: serves routers on `listener` and keeps every unit of its cluster in hand.
    pub async fn run(&self, listener: TcpListener, token: CancellationToken) {
        let serving = serve(
            listener,
            self.tls.clone(),
            (self.shared.routers.clone(), self.shared.leases.clone()),
            token.clone(),
        );
        tokio::join!(serving, self.keep_units(Work::Hand, token.clone()));
    }

    /// Keeps the write leases of its units until `token` is cancelled, whether it leads or not.
    pub async fn keep_leases(&self, token: CancellationToken) {
        self.keep_units(Work::Lease, token).await;
    }

    async fn keep_units(&self, work: Work, token: CancellationToken) {
        let hands = TaskTracker::new();
        let mut units = BTreeMap::new();
        let mut listed: BTreeMap<usize, BTreeSet<UnitKey>> = BTreeMap::new();
        let mut events = select_all(self.watches());
        while let Some(Some((source, event))) = token.run_until_cancelled(events.next()).await {
            match event {
                Event::Init => {
                    listed.insert(source, BTreeSet::new());
                }
                Event::InitApply(object) | Event::Apply(object) => {
                    let key = key_of(&object);
                    listed.entry(source).or_default().insert(key.clone());
                    // What cannot be parsed has been logged: the last good one stays.
                    if let Ok(assignment) = object.0 {
                        self.take(work, &mut units, &hands, key, assignment);
                    }
                }
                Event::InitDone => {
                    let present = listed.get(&source).cloned().unwrap_or_default();
                    let scope = self.namespaces.get(source);
                    let gone = units
                        .keys()
                        .filter(|key: &&UnitKey| scope.is_none_or(|scope| *scope == key.namespace));
                    let gone: Vec<_> = gone.filter(|key| !present.contains(*key)).cloned().collect();
                    gone.iter().for_each(|key| self.leave(work, &mut units, key));
                    if work == Work::Hand && listed.len() >= self.namespaces.len().max(1) {
                        self.readiness.set_ready();
                    }
                }
                Event::Delete(object) => self.leave(work, &mut units, &key_of(&object)),
            }
        }
        drop(units);
        hands.close();
        hands.wait().await;
    }

    fn watches(&self) -> Vec<BoxStream<'static, (usize, Assigned)>> {
        let client = || self.shared.watches.clone();
        let apis: Vec<Api<DeserializeGuard<UnitAssignment>>> = if self.namespaces.is_empty() {
            vec![Api::all(client())]
        } else {
            self.namespaces
                .iter()
                .map(|namespace| Api::namespaced(client(), namespace))
                .collect()
        };
        let streams = apis.into_iter().enumerate();
        streams
            .map(|(source, api)| {
                watches::all(api, Config::default())
                    .map(move |event| (source, event))
                    .boxed()
            })
            .collect()
    }

    fn take(
        &self,
        work: Work,
        units: &mut BTreeMap<UnitKey, InHand>,
        hands: &TaskTracker,
        key: UnitKey,
        assignment: UnitAssignment,
    ) {
        if assignment.spec.cluster != self.cluster {
            return self.leave(work, units, &key);
        }
        let uid = assignment.uid();
        if let Some(unit) = units.get(&key).filter(|unit| unit.uid == uid) {
            unit.assignment.send_replace(Arc::new(assignment));
            return;
        }
        // Created again: its status is empty, so the hand begins anew too.
        self.leave(work, units, &key);
        let (sender, receiver) = watch::channel(Arc::new(assignment));
        let token = CancellationToken::new();
        match work {
            Work::Hand => {
                let shared = self.shared.clone();
                let hand = move |key, receiver, token| hand::run(key, shared.clone(), receiver, token);
                hands.spawn(hold(key.clone(), "hand", hand, receiver, token.clone()))
            }
            Work::Lease => {
                let shared = self.leases.clone();
                let keep = move |key, receiver, token| lease::keep(key, shared.clone(), receiver, token);
                hands.spawn(hold(key.clone(), "lease", keep, receiver, token.clone()))
            }
        };
        let assignment = sender;
        let ends = token.drop_guard();
        units.insert(key, InHand { uid, assignment, ends });
    }

    fn leave(&self, work: Work, units: &mut BTreeMap<UnitKey, InHand>, key: &UnitKey) {
        let Some(unit) = units.remove(key) else { return };
        drop(unit.ends);
        if work == Work::Hand {
            let (namespace, unit_name) = (&key.namespace, &key.unit);
            tracing::info!(
                namespace,
                unit = unit_name,
                "not managed any more; its databases, fences and links are left as they are"
            );
            self.shared.metrics.forget(key, &unit.assignment.borrow().spec.stores);
        }
    }
}

/// Does something for a unit; where it panics it begins anew and harms no other.
async fn hold<F>(
    key: UnitKey,
    what: &'static str,
    work: impl Fn(UnitKey, watch::Receiver<Arc<UnitAssignment>>, CancellationToken) -> F,
    assignment: watch::Receiver<Arc<UnitAssignment>>,
    token: CancellationToken,
) where
    F: Future<Output = ()> + Send + 'static,
{
    while !token.is_cancelled() {
        let work = work(key.clone(), assignment.clone(), token.clone());
        // What is logged for a unit names it.
        let (namespace, unit) = (&key.namespace, &key.unit);
        let span = tracing::info_span!("unit", namespace, unit);
        if let Err(error) = tokio::spawn(work.instrument(span)).await {
            tracing::error!(namespace, unit, what, %error, "what is done for a unit failed, beginning anew");
            let _ = token
                .run_until_cancelled(tokio::time::sleep(Duration::from_secs(1)))
                .await;
        }
    }
}

fn key_of(object: &DeserializeGuard<UnitAssignment>) -> UnitKey {
    UnitKey {
        namespace: object.namespace().unwrap_or_default(),
        unit: object.name_any(),
    }
}
