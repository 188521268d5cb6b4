//! The unit's hands: one agent in every member cluster, which drives the databases of its units by what the projected
//! routing table says, and reports.
//!
//! It decides nothing about ownership. [`plan`] works out what a table asks of a unit, [`store`] does it, [`report`]
//! says what is, [`routers`] talks with the unit's routers, [`lease`] keeps its write lease.

pub mod agent;
mod backoff;
pub mod credentials;
mod events;
pub mod facts;
pub mod failpoints;
mod hand;
mod inputs;
pub mod lease;
pub mod lost;
pub mod metrics;
pub mod plan;
mod publish;
pub mod report;
pub mod routers;
pub mod store;

pub use agent::{Agent, Shared};
pub use events::Events;

/// An error with all its causes, on one line.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
