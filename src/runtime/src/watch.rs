//! Watches that never end: errors are logged and tried again, an object that cannot be parsed is reported and does
//! not stop the others.

use futures::{Stream, StreamExt, future};
use kube::core::DeserializeGuard;
use kube::runtime::utils::{Backoff, StreamBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// How long a watch lasts, in seconds, and so the longest silence of one that lives: the server ends it then, and it is
/// begun anew where it was. [`crate::kube_client::Patience::WATCHES`] waits for a little longer.
pub const SECONDS: u32 = 60;

/// What is known of one watched object.
#[derive(Clone, Debug)]
pub enum Seen<K> {
    /// It is there.
    Present(K),
    /// It is not there.
    Absent,
    /// It is there, but cannot be read as its kind: whoever has a last good one keeps it.
    Unparsable {
        /// Why.
        error: String,
    },
}

/// Watches every object that `config` selects. An item is an event of kube's watcher; errors are logged here, and the
/// stream never ends.
///
/// Where an object cannot be parsed its event holds the error and its metadata.
pub fn all<K>(api: Api<DeserializeGuard<K>>, config: watcher::Config) -> impl Stream<Item = Event<DeserializeGuard<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = StreamBackoff::new(watcher(api, config.timeout(SECONDS)), Pause::default());
    events.filter_map(|event| {
        future::ready(match event {
            Ok(event) => {
                report_unparsable(&event);
                Some(event)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(kind = %K::kind(&()), error, "watching, trying again");
                None
            }
        })
    })
}

/// Watches one object by its name. The stream never ends; the first item comes with the first answer of the server.
pub fn one<K>(api: Api<DeserializeGuard<K>>, name: &str) -> impl Stream<Item = Seen<K>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut listed = false;
    all(api, config).filter_map(move |event| {
        let seen = match event {
            Event::Init => {
                listed = false;
                None
            }
            Event::InitApply(object) | Event::Apply(object) => {
                listed = true;
                Some(match object.0 {
                    Ok(object) => Seen::Present(object),
                    Err(invalid) => Seen::Unparsable { error: invalid.error },
                })
            }
            Event::InitDone => (!listed).then_some(Seen::Absent),
            Event::Delete(_) => Some(Seen::Absent),
        };
        future::ready(seen)
    })
}

fn report_unparsable<K: Resource<DynamicType = ()>>(event: &Event<DeserializeGuard<K>>) {
    let object = match event {
        Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => object,
        Event::Init | Event::InitDone => return,
    };
    if let Err(invalid) = &object.0 {
        let (kind, namespace) = (K::kind(&()), object.namespace());
        tracing::error!(%kind, namespace, name = object.name_any(), error = invalid.error, "cannot be parsed");
    }
}

/// Pauses between attempts: 100 ms, doubling up to 5 s. A table must not be missed for long after its server is back.
#[derive(Default)]
struct Pause {
    failures: u32,
    successes: u32,
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(100 << self.failures.min(6)).min(Duration::from_secs(5));
        (self.failures, self.successes) = (self.failures + 1, 0);
        Some(pause)
    }
}

impl Backoff for Pause {
    /// After each event. The first after a failure says only that kube is about to ask the server.
    fn reset(&mut self) {
        self.successes += 1;
        if self.successes > 1 {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds_and_begin_again_after_a_success() {
        let mut pause = Pause::default();
        let first: Vec<_> = pause.by_ref().take(8).map(|pause| pause.as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        pause.reset();
        assert_eq!(
            pause.next(),
            Some(Duration::from_secs(5)),
            "one event is no answer of the server"
        );
        pause.reset();
        pause.reset();
        assert_eq!(pause.next(), Some(Duration::from_millis(100)));
    }
}
