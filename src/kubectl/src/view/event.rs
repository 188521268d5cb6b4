//! Events of the project, in order.

use crate::text;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use serde::Serialize;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// When it happened last.
    pub time: Option<String>,
    /// How long ago, for people.
    #[serde(skip)]
    pub age: String,
    /// The namespace of the object; absent where it has none.
    pub namespace: Option<String>,
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub type_: String,
    /// One word.
    pub reason: String,
    /// The object's kind.
    #[serde(rename = "objectKind")]
    pub kind: String,
    /// The object's name.
    #[serde(rename = "objectName")]
    pub name: String,
    /// How often.
    pub count: i32,
    /// What happened.
    pub note: String,
}

/// Which events are meant.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only those about this kind and name.
    pub about: Option<(String, String)>,
    /// Only those of the last time.
    pub since: Option<SignedDuration>,
}

/// Those that are meant, oldest first.
pub fn events(events: &[Event], wanted: &Wanted, now: Timestamp) -> Vec<EventView> {
    let mut found: Vec<(Option<Timestamp>, &Event)> = events
        .iter()
        .filter(|event| is_ours(event) && is_about(event, wanted))
        .map(|event| (last(event), event))
        .collect();
    // One without a time is kept: nobody knows that it is old.
    found.retain(|(at, _)| match (wanted.since, at) {
        (Some(since), Some(at)) => now.duration_since(*at) <= since,
        (_, _) => true,
    });
    found.sort_by_key(|(at, event)| (*at, event.metadata.name.clone()));
    found.into_iter().map(|(at, event)| view(event, at, now)).collect()
}

fn is_ours(event: &Event) -> bool {
    let about = event.regarding.as_ref().and_then(|about| about.api_version.as_deref());
    let by = event.reporting_controller.as_deref().unwrap_or_default();
    about.is_some_and(|version| version.starts_with(multiactive_api::GROUP)) || by.starts_with("multiactive")
}

fn is_about(event: &Event, wanted: &Wanted) -> bool {
    let Some((kind, name)) = &wanted.about else { return true };
    let about = event.regarding.as_ref();
    let is = |value: Option<&String>, wanted: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    let kind_is =
        about.is_some_and(|about| is(about.kind.as_ref(), kind) || is(about.kind.as_ref(), kind.trim_end_matches('s')));
    kind_is && about.is_some_and(|about| about.name.as_ref() == Some(name))
}

/// When it happened last.
fn last(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let old = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(old)
        .or(created)
}

fn view(event: &Event, at: Option<Timestamp>, now: Timestamp) -> EventView {
    let about = event.regarding.clone().unwrap_or_default();
    let series = event.series.as_ref().map(|series| series.count);
    EventView {
        time: at.map(|at| at.to_string()),
        age: at.map_or_else(|| "?".to_owned(), |at| text::ago(now, at)),
        namespace: about.namespace,
        type_: event.type_.clone().unwrap_or_default(),
        reason: event.reason.clone().unwrap_or_default(),
        kind: about.kind.unwrap_or_default(),
        name: about.name.unwrap_or_default(),
        count: series.or(event.deprecated_count).unwrap_or(1),
        note: event.note.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(name: &str, api: &str, kind: &str, second: i64) -> Event {
        let at = Timestamp::from_second(second).unwrap();
        let time = format!("{at:.6}");
        serde_json::from_value(
            json!({"metadata": {"name": format!("{name}.{second}")}, "eventTime": time, "reason": "R", "note": "n",
            "type": "Normal", "regarding": {"apiVersion": api, "kind": kind, "name": name, "namespace": "shop"}}),
        )
        .unwrap()
    }

    #[test]
    fn only_ours_are_listed_oldest_first() {
        let ours = "multiactive.io/v1alpha1";
        let all = [
            event("b", ours, "Promotion", 50),
            event("pod", "v1", "Pod", 20),
            event("a", ours, "Unit", 10),
        ];
        let now = Timestamp::from_second(60).unwrap();
        let about = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
        for (wanted, want) in [
            (Wanted::default(), vec!["a", "b"]),
            (
                Wanted {
                    since: Some(SignedDuration::from_secs(30)),
                    ..Wanted::default()
                },
                vec!["b"],
            ),
            (
                Wanted {
                    about: about("promotion", "b"),
                    ..Wanted::default()
                },
                vec!["b"],
            ),
            (
                Wanted {
                    about: about("units", "a"),
                    ..Wanted::default()
                },
                vec!["a"],
            ),
            (
                Wanted {
                    about: about("unit", "b"),
                    ..Wanted::default()
                },
                vec![],
            ),
        ] {
            let got: Vec<_> = events(&all, &wanted, now).into_iter().map(|event| event.name).collect();
            assert_eq!(got, want, "{wanted:?}");
        }
    }
}
