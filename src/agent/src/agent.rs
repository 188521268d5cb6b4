//! The agent while it leads: hears which units are its own, and keeps one hand for each.

use crate::events::Events;
use crate::hand;
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
use tokio_util::sync::CancellationToken;
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
    /// Whether it has its units.
    pub readiness: Readiness,
}

/// A unit that is in hand.
struct InHand {
    uid: Option<String>,
    assignment: watch::Sender<Arc<UnitAssignment>>,
    token: CancellationToken,
}

type Assigned = Event<DeserializeGuard<UnitAssignment>>;

impl Agent {
    /// Works until `token` is cancelled: serves routers on `listener` and keeps every unit of its cluster in hand.
    pub async fn run(&self, listener: TcpListener, token: CancellationToken) {
        let serving = serve(listener, self.tls.clone(), self.shared.routers.clone(), token.clone());
        tokio::join!(serving, self.keep_units(token.clone()));
    }

    async fn keep_units(&self, token: CancellationToken) {
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
                        self.take(&mut units, &hands, key, assignment);
                    }
                }
                Event::InitDone => {
                    let present = listed.get(&source).cloned().unwrap_or_default();
                    let scope = self.namespaces.get(source);
                    let gone = units
                        .keys()
                        .filter(|key: &&UnitKey| scope.is_none_or(|scope| *scope == key.namespace));
                    let gone: Vec<_> = gone.filter(|key| !present.contains(*key)).cloned().collect();
                    gone.iter().for_each(|key| self.leave(&mut units, key));
                    if listed.len() >= self.namespaces.len().max(1) {
                        self.readiness.set_ready();
                    }
                }
                Event::Delete(object) => self.leave(&mut units, &key_of(&object)),
            }
        }
        for unit in units.values() {
            unit.token.cancel();
        }
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
        units: &mut BTreeMap<UnitKey, InHand>,
        hands: &TaskTracker,
        key: UnitKey,
        assignment: UnitAssignment,
    ) {
        if assignment.spec.cluster != self.cluster {
            return self.leave(units, &key);
        }
        let uid = assignment.uid();
        if let Some(unit) = units.get(&key).filter(|unit| unit.uid == uid) {
            unit.assignment.send_replace(Arc::new(assignment));
            return;
        }
        // Created again: its status is empty, so the hand begins anew too.
        self.leave(units, &key);
        let (sender, receiver) = watch::channel(Arc::new(assignment));
        let token = CancellationToken::new();
        hands.spawn(hold(key.clone(), self.shared.clone(), receiver, token.clone()));
        let assignment = sender;
        units.insert(key, InHand { uid, assignment, token });
    }

    fn leave(&self, units: &mut BTreeMap<UnitKey, InHand>, key: &UnitKey) {
        if let Some(unit) = units.remove(key) {
            let (namespace, unit_name) = (&key.namespace, &key.unit);
            tracing::info!(
                namespace,
                unit = unit_name,
                "not managed any more; its databases, fences and links are left as they are"
            );
            let stores = unit
                .assignment
                .borrow()
                .spec
                .stores
                .iter()
                .map(|store| store.name.clone())
                .collect::<Vec<_>>();
            self.shared.metrics.forget(key, stores);
            unit.token.cancel();
        }
    }
}

/// Keeps a hand; one that panics begins anew and harms no other.
async fn hold(
    key: UnitKey,
    shared: Shared,
    assignment: watch::Receiver<Arc<UnitAssignment>>,
    token: CancellationToken,
) {
    while !token.is_cancelled() {
        let hand = hand::run(key.clone(), shared.clone(), assignment.clone(), token.clone());
        // What is logged for a unit names it.
        let (namespace, unit) = (&key.namespace, &key.unit);
        let span = tracing::info_span!("unit", namespace, unit);
        if let Err(error) = tokio::spawn(hand.instrument(span)).await {
            tracing::error!(namespace, unit, %error, "the hand of a unit failed, beginning anew");
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
