//! The custom resources of multiactive (group `multiactive.io`, version `v1alpha1`) and nothing else: one file a kind.
//!
//! Users store these objects: names and shapes are meant to last, later versions only add.

// Columns repeat `type_`, which the lint takes for a mistake.
#![allow(clippy::duplicated_attributes)]

pub mod common;
pub mod convert;
pub mod crd;
pub mod data_store;
pub mod decision;
pub mod failover;
pub mod keyspace;
pub mod member_cluster;
pub mod operation_report;
pub mod promotion;
pub mod region;
pub mod replication_link;
pub mod routing_table;
pub mod schema;
pub mod shard_range;
pub mod table_failover;
pub mod unit;
pub mod unit_assignment;
pub mod unit_workload;
pub mod verification;

pub use common::*;
pub use data_store::*;
pub use decision::*;
pub use failover::*;
pub use keyspace::*;
pub use member_cluster::*;
pub use operation_report::*;
pub use promotion::*;
pub use region::*;
pub use replication_link::*;
pub use routing_table::*;
pub use shard_range::*;
pub use table_failover::*;
pub use unit::*;
pub use unit_assignment::*;
pub use unit_workload::*;
pub use verification::*;

/// The API group.
pub const GROUP: &str = "multiactive.io";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// The name of the one RoutingTable of a namespace.
pub const ROUTING_TABLE: &str = "routing";
