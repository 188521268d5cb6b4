//! What a router asks, answered from the lease and from the databases of its unit. Unknown is the answer that promises least.

use crate::lease::Board;
use multiactive_core::promotion::Progress;
use multiactive_core::wire::{Answer, Caught, Question};
use std::time::Duration;

/// The longest that a database is asked, whatever a router says.
const LONGEST: Duration = Duration::from_secs(5);

/// `None` for what this agent does not understand.
pub(super) async fn answer(question: &Question, lease: &Board) -> Option<Answer> {
    Some(match question {
        Question::Lease => {
            let left = lease.left();
            Answer::Lease {
                left_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            }
        }
        Question::Place { store } => Answer::Place {
            place: match lease.database(store) {
                Some(database) => database.place().await,
                None => None,
            },
        },
        Question::CaughtUp {
            store,
            from,
            place,
            within_ms,
        } => {
            let limit = Duration::from_millis(*within_ms).min(LONGEST);
            let place = place.as_deref().map(str::parse::<Progress>).transpose();
            let caught = match (lease.database(store), place) {
                (Some(database), Ok(place)) => database.caught_up(from, place.as_ref(), limit).await,
                // What is no place is reached by nobody.
                (None, _) | (Some(_), Err(_)) => Caught::No,
            };
            Answer::CaughtUp { caught }
        }
        Question::Unknown => return None,
    })
}
