//! Stores: one driver trait, one folder an engine.
//!
//! A driver does what the ledger says and decides nothing: the table is the agent's argument. [`driver`] holds the
//! verbs and their promises; [`postgres`] and [`family`] (MariaDB and MySQL) are the engines.

pub mod access;
mod any;
mod compared;
mod conflict;
pub mod driver;
pub mod error;
pub mod family;
mod fencing;
mod findings;
mod lease;
mod link;
mod mariadb;
mod mysql;
mod names;
pub mod postgres;
mod spec;
mod until;
mod waiting;

pub use any::{AnyStore, EngineKind};
pub use driver::Driver;
pub use error::Error;
pub use family::MySqlFamily;
pub use postgres::Postgres;
