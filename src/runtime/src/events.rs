//! Kubernetes events, told in the order in which things happened. They never hold anything up; one that cannot be
//! published is logged and lost.
//!
//! kube's `Recorder` counts an event that differs in nothing but its note as a repetition of the first one and drops
//! what it says. Here only the same words about the same object are a repetition.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::EventType;
use kube::{Api, Client};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest note that an event may carry, in bytes.
const NOTE_MAX: usize = 1000;
/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How many events wait at most while the API server does not take them; the oldest are lost first.
const WAITING_MAX: usize = 1000;
/// For how long a repetition is counted instead of told anew.
const REPEATED_WITHIN: SignedDuration = SignedDuration::from_mins(6);

/// The events of one process; clones share it.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    controller: String,
    instance: String,
    waiting: Mutex<VecDeque<Event>>,
    published: tokio::sync::Mutex<BTreeMap<Key, Event>>,
}

/// Uid, namespace, kind and name of the object, then type, reason and note.
type Key = [Option<String>; 7];

fn key(event: &Event) -> Key {
    let about = event.regarding.clone().unwrap_or_default();
    let (type_, reason, note) = (event.type_.clone(), event.reason.clone(), event.note.clone());
    [about.uid, about.namespace, about.kind, about.name, type_, reason, note]
}

impl Events {
    /// Events in the name of `controller`, by its process `instance`.
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                controller: controller.to_owned(),
                instance: instance.to_owned(),
                waiting: Mutex::default(),
                published: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Takes an event; the future publishes it after those that were taken before. Spawn it.
    #[must_use = "the future publishes the event"]
    pub fn tell(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: &str,
        mut note: String,
    ) -> impl Future<Output = ()> + Send + use<> {
        let end = (0..=NOTE_MAX.min(note.len()))
            .rev()
            .find(|at| note.is_char_boundary(*at));
        note.truncate(end.unwrap_or(0));
        let shared = Arc::clone(&self.shared);
        let event = shared.event(about, kind, reason, note);
        {
            let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push_back(event);
            if waiting.len() > WAITING_MAX {
                waiting.pop_front();
            }
        }
        async move { shared.publish_waiting().await }
    }
}

impl Shared {
    fn event(&self, mut about: ObjectReference, kind: EventType, reason: &str, note: String) -> Event {
        let now = Timestamp::now();
        // The version at which it was seen is no part of what the event is about.
        about.resource_version = None;
        let metadata = ObjectMeta {
            name: Some(format!(
                "{}.{:x}",
                about.name.as_deref().unwrap_or(&self.controller),
                now.as_nanosecond()
            )),
            // Those of objects without a namespace are there.
            namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        };
        let type_ = match kind {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        Event {
            action: Some(reason.to_owned()),
            event_time: Some(MicroTime(now)),
            metadata,
            note: Some(note),
            reason: Some(reason.to_owned()),
            regarding: Some(about),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(type_.to_owned()),
            ..Event::default()
        }
    }

    async fn publish_waiting(&self) {
        let mut published = self.published.lock().await;
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(event) = next else { return };
            self.publish(event, &mut published).await;
        }
    }

    async fn publish(&self, event: Event, published: &mut BTreeMap<Key, Event>) {
        let now = Timestamp::now();
        published.retain(|_, event| last_seen(event).is_some_and(|seen| now.duration_since(seen) < REPEATED_WITHIN));
        let key = key(&event);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let event = match published.get(&key) {
            Some(first) => repeated(first, now),
            None => event,
        };
        let name = event.metadata.name.clone().unwrap_or_default();
        let call = async {
            match &event.series {
                Some(series) => {
                    let patch = Patch::Merge(serde_json::json!({"series": series}));
                    api.patch(&name, &PatchParams::default(), &patch).await.map(drop)
                }
                None => api.create(&PostParams::default(), &event).await.map(drop),
            }
        };
        let error = match tokio::time::timeout(LIMIT, call).await {
            Ok(Ok(())) => {
                published.insert(key, event);
                return;
            }
            Ok(Err(error)) => text(&error),
            Err(_) => format!("no answer within {LIMIT:?}"),
        };
        // What went wrong with a repetition may be that the first one was deleted: the next is told anew.
        published.remove(&key);
        let about = event.regarding.unwrap_or_default();
        tracing::warn!(
            kind = about.kind,
            namespace = about.namespace,
            name = about.name,
            reason = event.reason,
            error,
            "event was not published"
        );
    }
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    series.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn repeated(first: &Event, now: Timestamp) -> Event {
    let count = first.series.as_ref().map_or(1, |series| series.count).saturating_add(1);
    let mut event = first.clone();
    event.series = Some(EventSeries {
        count,
        last_observed_time: MicroTime(now),
    });
    event
}

/// An error with its causes.
fn text(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("Promotion".to_owned()),
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            resource_version: Some("7".to_owned()),
            ..ObjectReference::default()
        }
    }

    /// Publishes; answers every request, with 500 where `fails` says so; what was sent, in order.
    async fn sent(told: &[(&str, &str)], fails: impl Fn(usize) -> bool + Send + 'static) -> Vec<String> {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let events = Events::new(Client::new(service, "ns"), "tester", "one");
        let answering = tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Some((request, reply)) = server.next_request().await {
                let method = request.method().to_string();
                let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
                let what = body.get("note").or(body.pointer("/series/count")).unwrap().to_string();
                let answer = match fails(lines.len()) {
                    true => Response::builder().status(500).body(Body::empty()),
                    false => Response::builder().body(Body::from(b"{\"metadata\":{}}".to_vec())),
                };
                reply.send_response(answer.unwrap());
                lines.push(format!("{method} {what}"));
            }
            lines
        });
        // All are taken before any is published: the order is that of the taking.
        let futures: Vec<_> = told
            .iter()
            .map(|(name, note)| events.tell(about(name), EventType::Normal, "StepEntered", (*note).to_owned()))
            .collect();
        for future in futures.into_iter().rev() {
            future.await;
        }
        drop(events);
        answering.await.unwrap()
    }

    #[tokio::test]
    async fn other_words_are_another_event_and_the_same_ones_are_counted() {
        let told = [
            ("a", "Hold"),
            ("a", "Fence"),
            ("a", "Hold"),
            ("b", "Hold"),
            ("a", "Hold"),
        ];
        let want = ["POST \"Hold\"", "POST \"Fence\"", "PATCH 2", "POST \"Hold\"", "PATCH 3"];
        assert_eq!(sent(&told, |_| false).await, want);
    }

    #[tokio::test]
    async fn one_that_was_not_published_is_lost_and_the_next_is_told_anew() {
        let told = [("a", "Hold"), ("a", "Hold"), ("a", "Hold"), ("a", "Hold")];
        let want = ["POST \"Hold\"", "POST \"Hold\"", "PATCH 2", "POST \"Hold\""];
        assert_eq!(sent(&told, |at| at == 0 || at == 2).await, want);
    }

    #[tokio::test]
    async fn a_note_beyond_the_limit_is_cut_at_a_character() {
        let long = "ä".repeat(NOTE_MAX);
        let sent = sent(&[("a", &long)], |_| false).await;
        assert_eq!(sent, [format!("POST \"{}\"", "ä".repeat(NOTE_MAX / 2))]);
    }
}
