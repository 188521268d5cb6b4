//! Reading one's own writes in a store with a single writer: a write is answered with the place to which the log had come, and a
//! read that brings a place is answered where that was applied, else by the writer's unit.

use super::Worker;
use crate::headers::value;
use http::{HeaderValue, request};
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::wire::{Answer, Question};
use std::time::Duration;

/// How long the answer to a write waits for its place.
const TELL: Duration = Duration::from_millis(250);
/// How long a read waits for its place to be applied here, before it goes to the writer's unit.
const SHOW: Duration = Duration::from_millis(250);

/// A place that no unit but the writer's shows: that of the write is not known.
const WRITER: &str = "writer";

impl Worker {
    /// How far the log has come, after a write was acknowledged.
    pub(super) async fn place(&self, store: StoreName) -> HeaderValue {
        let answer = self.state.asking.ask(Question::Place { store }, TELL).await;
        let place = match answer {
            Some(Answer::Place { place }) => place,
            Some(Answer::Lease { .. } | Answer::CaughtUp { .. }) | None => None,
        };
        place.map_or_else(|| HeaderValue::from_static(WRITER), |place| value(&place))
    }

    /// Whether a local read shows what was written up to this place. Where it would not be local, nobody is asked.
    pub(super) async fn shows(&self, parts: &request::Parts, place: &HeaderValue) -> bool {
        let (Some(store), Ok(place)) = (self.read_here(parts), place.to_str()) else {
            return false;
        };
        // unit/history@number
        let Some((unit, _)) = place.split_once('/') else {
            return false;
        };
        let question = Question::CaughtUp {
            store,
            from: UnitName::from(unit),
            place: Some(place.to_owned()),
            within_ms: u64::try_from(SHOW.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = self.state.asking.ask(question, SHOW + SHOW / 2).await;
        matches!(answer, Some(Answer::CaughtUp { yes: true }))
    }
}
