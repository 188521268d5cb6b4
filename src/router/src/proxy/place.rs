//! Reading one's own writes in a store with a single writer: a write is answered with the place to which the log had come, and a
//! read that brings a place is answered where that was applied, else by the writer's unit.

use super::Worker;
use super::decide::Read;
use crate::headers::value;
use http::{HeaderValue, request};
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::promotion::Progress;
use multiactive_core::route::to_show;
use multiactive_core::wire::{Answer, Caught, Question};
use std::time::Duration;

/// How long the answer to a write waits for its place.
const TELL: Duration = Duration::from_millis(250);
/// How long a read waits for its place to be applied here, before it goes to the writer's unit.
const SHOW: Duration = Duration::from_millis(250);

/// How long a read at the writer's unit waits for its database to say that it may write, where that was not said lately.
const PROVE: Duration = Duration::from_secs(3);

/// The longest text of a place that is looked at: names of a unit and of a history, and a number.
const LONGEST: usize = 256;

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

    /// Whether this unit, the writer by the table, may write now: then it has all that was committed before.
    pub(super) async fn may_write_now(&self, parts: &request::Parts) -> bool {
        let Some(Read { store, unit, .. }) = self.read_here(parts) else {
            return false;
        };
        self.caught_up(store, unit, None, PROVE).await
    }

    /// Whether what is read here shows what was written up to this place. Where it would not be read here, nobody is asked.
    pub(super) async fn shows(&self, parts: &request::Parts, place: &HeaderValue) -> bool {
        let Some(Read { store, unit, writes }) = self.read_here(parts) else {
            return false;
        };
        let place = place.to_str().ok().filter(|place| place.len() <= LONGEST);
        let place = place.and_then(|place| place.parse::<Progress>().ok());
        let Some((from, place)) = to_show(&unit, writes, place.as_ref()) else {
            return false;
        };
        self.caught_up(store, from, place, SHOW).await
    }

    /// Whether all that `from` had committed, up to `place` or by now, can be read here; the agent may look for so long.
    async fn caught_up(&self, store: StoreName, from: UnitName, place: Option<Progress>, within: Duration) -> bool {
        let question = Question::CaughtUp {
            store,
            from,
            place: place.map(|place| place.to_string()),
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = self.state.asking.ask(question, within + within / 2).await;
        matches!(answer, Some(Answer::CaughtUp { caught: Caught::Yes }))
    }
}
