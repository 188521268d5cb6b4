//! What follows a pass: statuses, links, finalizers, labels. Compared first, written concurrently, and while writes are held
//! somewhere it waits. Events and metrics of commits are told by [`telling`].

mod telling;

use super::sweep::Sweep;
use super::view::{Told, View};
use crate::Context;
use crate::conditions::{Conditioned, is_ready};
use crate::failpoints::hit;
use crate::protection::Protection;
use crate::served::Unserved;
use crate::{datastores, failovers, keyspaces, links, promotions, shard_ranges, status, units, verifications};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::NamespaceResourceScope;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use multiactive_api::{ShardRange, Verification};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest time that statuses wait while writes are held somewhere: their writes would slow down the steps.
const HASTE: Duration = Duration::from_secs(2);
/// How many writes run at once,
const WIDTH: usize = 8;
/// and how many of ranges' statuses.
const WIDTH_OF_RANGES: usize = 16;
/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The task that follows the passes over one namespace.
pub struct After {
    ctx: Arc<Context>,
    namespace: String,
    written: Mutex<BTreeMap<(String, String), Written>>,
    owner_changed: BTreeMap<OperationUid, Epoch>,
    witnessed: failovers::status::Witnessed,
    protection: Protection,
    sweep: Sweep,
}

/// A status that we wrote: the watch may show an older one for a moment.
struct Written {
    version: Option<u64>,
    /// What it says, but for the times of conditions: they are computed anew from an old object.
    says: String,
}

impl After {
    /// A task that has written nothing yet.
    pub fn new(ctx: Arc<Context>, namespace: String) -> Self {
        Self {
            ctx,
            namespace,
            written: Mutex::default(),
            owner_changed: BTreeMap::new(),
            witnessed: failovers::status::Witnessed::default(),
            protection: Protection::default(),
            sweep: Sweep::new(Instant::now()),
        }
    }

    /// Runs until `token` is cancelled or the passes end.
    pub async fn run(
        mut self,
        mut views: watch::Receiver<Option<Arc<View>>>,
        told: &mut mpsc::UnboundedReceiver<Told>,
        token: CancellationToken,
    ) {
        let mut failed = false;
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                changed = views.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if failed => {}
            }
            // Another view ends the haste, or its time does.
            let calm = views.wait_for(|view| view.as_ref().is_none_or(|view| !view.in_haste()));
            let _ = token.run_until_cancelled(tokio::time::timeout(HASTE, calm)).await;
            // Before the first look nothing is known of anything.
            let Some(view) = views.borrow_and_update().clone() else {
                continue;
            };
            while let Ok(told) = told.try_recv() {
                self.tell(&told, &view);
            }
            self.measure(&view);
            // A receiver whose sender is gone ends the loop at its next turn.
            let overtaken = || views.has_changed().unwrap_or(true);
            match token.run_until_cancelled(self.write(&view, overtaken)).await {
                Some(complete) => failed = !complete,
                None => return,
            }
        }
    }

    /// Writes all that differs; whether all of it succeeded. Ranges come last, for there may be thousands: once the view
    /// is `overtaken`, those that are left are written after what the next one says of promotions.
    async fn write(&mut self, view: &View, overtaken: impl Fn() -> bool) -> bool {
        let existing = self.ctx.hub.links.of(&self.namespace);
        // Before the finalizers: a unit that is gone is not looked at any more.
        let labelled = self.protection.keep(&self.ctx, &self.namespace, view).await;
        let labelled = &labelled;
        let now = Timestamp::now();
        let unserved = &Unserved::of(view, now);
        let inputs = &view.inputs;
        self.owner_changed.retain(|uid, _| {
            inputs
                .promotions
                .iter()
                .any(|p| p.uid().as_deref() == Some(uid.as_str()))
        });
        self.witnessed.keep(&inputs.failovers);
        let this = &*self;
        let mut work: Vec<BoxFuture<'_, bool>> = Vec::new();
        // What a member has not had the time to say is no news, and guessed by nobody: such statuses stay as they are.
        for object in &inputs.promotions {
            let changed = this.owner_changed.get(&promotions::request::uid_of(object)).copied();
            let wanted = promotions::status::status(object, view, changed, now);
            let known = !view.awaits_promotion(object);
            work.push(Box::pin(async move {
                // The finalizer goes first: it is written against the version that was seen.
                let settled = promotions::lifecycle::finalizer(&this.ctx, object, view).await;
                let told = !known || this.put(&**object, object.status.as_ref(), wanted).await;
                told && settled
            }));
        }
        for object in &inputs.failovers {
            let wanted = failovers::status::status(object, view, &this.witnessed, now);
            work.push(Box::pin(async move {
                let settled = failovers::lifecycle::finalizer(&this.ctx, object, view).await;
                let told = this.put(&**object, object.status.as_ref(), wanted).await;
                told && settled
            }));
        }
        // One that has ended says all that it will, and stays as long as somebody wants it.
        let ended = |object: &Verification| object.status.as_ref().is_some_and(|status| status.outcome.is_some());
        for object in inputs.verifications.iter().filter(|object| !ended(object)) {
            let wanted = verifications::status(object, view, now);
            work.push(Box::pin(this.put(&**object, object.status.as_ref(), wanted)));
        }
        for object in &inputs.keyspaces {
            let wanted = keyspaces::status(object, view, unserved, now);
            let known = !view.awaits_keyspace(object);
            work.push(Box::pin(async move {
                let settled = keyspaces::finalizer(&this.ctx, object, view).await;
                let told = !known || this.put(&**object, object.status.as_ref(), wanted).await;
                told && settled
            }));
        }
        // In one without a uid, which is not there or cannot be read, nothing can be said.
        let stores = inputs.stores.iter().filter(|store| store.uid().is_some());
        for object in stores.chain(&inputs.given_up_stores) {
            let wanted = datastores::status(object, view, unserved, now);
            let known = !view.awaits_store(object);
            work.push(Box::pin(async move {
                let settled = datastores::finalizer(&this.ctx, object, view).await;
                let told = !known || this.put(&**object, object.status.as_ref(), wanted).await;
                told && settled
            }));
        }
        for object in &inputs.units {
            let wanted = units::status(object, view, now);
            let known = !view.awaits(&object.name_any());
            work.push(Box::pin(async move {
                // The finalizer says that there was a record, so it comes after the record.
                let settled = view.table.is_none() || units::finalizer(&this.ctx, object, view, labelled).await;
                let told = !known || this.put(&**object, object.status.as_ref(), wanted).await;
                told && settled
            }));
        }
        work.push(Box::pin(links::keep(&this.ctx, existing.clone(), view)));
        for object in existing.iter().filter(|object| !view.awaits_link(object)) {
            let wanted = links::status(object, view, now);
            work.push(Box::pin(this.put(&**object, object.status.as_ref(), wanted)));
        }
        let results: Vec<bool> = futures::stream::iter(work).buffer_unordered(WIDTH).collect().await;
        let ranges = self.write_ranges(view, (unserved, now), overtaken).await;
        // What has not lasted yet is looked at again.
        ranges && !unserved.fresh && labelled.failed.is_empty() && results.into_iter().all(|ok| ok)
    }

    /// Whether the statuses of all ranges were written, or need not be. Interrupted where the view is `overtaken`.
    async fn write_ranges(
        &mut self,
        view: &View,
        (unserved, now): (&Unserved, Timestamp),
        overtaken: impl Fn() -> bool,
    ) -> bool {
        let problems = shard_ranges::Problems::of(view);
        let mut sweep = std::mem::replace(&mut self.sweep, Sweep::new(Instant::now()));
        let this = &*self;
        let mut writing = FuturesUnordered::new();
        let (mut complete, mut put_off, mut begun) = (true, false, 0);
        for object in sweep.order(&view.inputs.ranges, Instant::now()) {
            // However often it is interrupted it comes round in the end.
            if begun >= WIDTH_OF_RANGES && overtaken() {
                complete = false;
                sweep.interrupt(object);
                break;
            }
            if writing.len() >= WIDTH_OF_RANGES {
                complete &= writing.next().await.unwrap_or(true);
            }
            // The view may be old by now, and with it the version to write against.
            let newest = this.ctx.hub.ranges.get(&this.namespace, &object.name_any());
            let same = |newest: &Arc<ShardRange>| {
                (newest.uid(), newest.metadata.generation) == (object.uid(), object.metadata.generation)
            };
            let object = newest.filter(same).unwrap_or_else(|| Arc::clone(object));
            let wanted = shard_ranges::status(&object, view, &problems, unserved, now);
            if object.status.as_ref() == Some(&wanted) {
                this.caught_up(&*object);
            } else if sweep.puts_off(&object, &wanted, Instant::now()) {
                put_off = true;
            } else {
                begun += 1;
                writing.push(async move { this.put(&*object, object.status.as_ref(), wanted).await });
            }
        }
        while let Some(written) = writing.next().await {
            complete &= written;
        }
        drop(writing);
        sweep.end(put_off || !complete);
        self.sweep = sweep;
        complete && !put_off
    }

    /// Writes a status where it differs, tells a change of readiness, and says whether that succeeded.
    async fn put<K, S>(&self, object: &K, held: Option<&S>, wanted: S) -> bool
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        S: Serialize + PartialEq + Conditioned,
    {
        if held == Some(&wanted) {
            self.caught_up(object);
            return true;
        }
        if status::is_paused(object) {
            return true;
        }
        let key = key_of(object);
        let Ok(says) = serde_json::to_value(&wanted).map(without_times) else {
            return true;
        };
        let number = |version: Option<String>| version.and_then(|version| version.parse::<u64>().ok());
        let seen = number(object.resource_version());
        let same = self.written(|written| {
            let known = written.get(&key);
            known.is_some_and(|known| known.version > seen && known.says == says)
        });
        if same {
            return true;
        }
        let api: Api<K> = Api::namespaced(self.ctx.client.clone(), &self.namespace);
        hit("status-before-write");
        match status::write(&api, object, &wanted).await {
            Ok(answer) => {
                hit("status-after-write");
                self.ctx.metrics.wrote("status");
                let version = number(answer.resource_version());
                self.written(|written| written.insert(key, Written { version, says }));
                let old = held.map(Conditioned::conditions).unwrap_or_default();
                let told = wanted
                    .tells()
                    .then(|| self.readiness_event(object, old, wanted.conditions()));
                let told = told.flatten();
                for (kind, reason, message) in wanted.news_since(held) {
                    if told.as_ref() != Some(&message) {
                        self.ctx.event(object, kind, reason, message);
                    }
                }
                true
            }
            Err(error) if status::is_overtaken(&error) => true,
            Err(error) => {
                tracing::warn!(
                    kind = key.0,
                    name = key.1,
                    error = error.chain(),
                    "status was not written"
                );
                false
            }
        }
    }

    /// The watch shows what is wanted: what we wrote need not be remembered.
    fn caught_up<K: Resource<DynamicType = ()>>(&self, object: &K) {
        self.written(|written| {
            if !written.is_empty() {
                written.remove(&key_of(object));
            }
        });
    }

    fn written<T>(&self, with: impl FnOnce(&mut BTreeMap<(String, String), Written>) -> T) -> T {
        with(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells when an object becomes ready or ceases to be, and why; what was told.
    fn readiness_event<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        old: &[Condition],
        new: &[Condition],
    ) -> Option<String> {
        let reason = |list: &[Condition]| list.first().map(|condition| condition.reason.clone());
        if is_ready(old) == is_ready(new) && reason(old) == reason(new) {
            return None;
        }
        let condition = new.iter().find(|condition| condition.type_ == multiactive_api::READY)?;
        let kind = match condition.status.as_str() {
            "True" => EventType::Normal,
            _ => EventType::Warning,
        };
        self.ctx
            .event(object, kind, &condition.reason, condition.message.clone());
        Some(condition.message.clone())
    }
}

/// Kind and name.
fn key_of<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
    (K::kind(&()).into_owned(), object.name_any())
}

/// What a status says, but for the times of its conditions.
fn without_times(mut status: serde_json::Value) -> String {
    if let Some(list) = status.get_mut("conditions").and_then(|list| list.as_array_mut()) {
        for condition in list.iter_mut().filter_map(|condition| condition.as_object_mut()) {
            condition.remove("lastTransitionTime");
        }
    }
    status.to_string()
}
