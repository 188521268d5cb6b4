//! The operator: observes the hub's objects and the members' reports, records decisions in the routing tables, and
//! performs them by writing to the members. One folder a kind; decisions are in `multiactive-core`.

pub mod apply;
pub mod certs;
pub mod conditions;
pub mod context;
pub mod datastores;
pub mod error;
pub mod failpoints;
pub mod finalizers;
pub mod hub;
pub mod keyspaces;
pub mod links;
pub mod members;
pub mod metrics;
pub mod mirror;
pub mod promotions;
pub mod shard_ranges;
pub mod status;
pub mod tables;
pub mod units;
pub mod workload;

pub use context::Context;
pub use error::Error;
