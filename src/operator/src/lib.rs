//! The operator: observes the hub's objects and the members' reports, records decisions in the routing tables, and
//! performs them by writing to the members. One folder a kind; decisions are in `multiactive-core`.

pub mod apply;
pub mod certs;
pub mod conditions;
pub mod context;
pub mod error;
pub mod failpoints;
pub mod hub;
pub mod members;
pub mod mirror;
pub mod workload;

pub use context::Context;
pub use error::Error;
