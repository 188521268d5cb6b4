//! Stores: one driver trait, one folder an engine.
//!
//! A driver does what the ledger says and decides nothing: the table is the agent's argument. [`driver`] holds the
//! verbs and their promises; [`postgres`] and [`mariadb`] are the engines.

pub mod access;
mod any;
mod compared;
pub mod driver;
pub mod error;
mod fencing;
mod findings;
mod lease;
mod link;
pub mod mariadb;
mod names;
pub mod postgres;
mod spec;
mod until;
mod waiting;

pub use any::{AnyStore, EngineKind};
pub use driver::Driver;
pub use error::Error;
pub use mariadb::MariaDb;
pub use postgres::Postgres;
