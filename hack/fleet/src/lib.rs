//! Real clusters and real databases as processes on loopback, for developers, tests and the demo.
//!
//! [`tools`] provides the programs, [`postgres`], [`mariadb`], [`mysql`] and [`cluster`] run them, [`node`] runs pods as processes, [`fleet`]
//! puts several of them together, and [`supervisor`] keeps a fleet running in the background. Everything started here
//! ends with the process that started it.

pub mod certs;
mod clock;
pub mod cluster;
pub mod error;
pub mod files;
pub mod fleet;
mod held;
mod janitor;
pub mod kubeconfig;
pub mod mariadb;
pub mod mysql;
pub mod node;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod server;
pub mod state;
pub mod supervisor;
pub mod tools;

pub use cluster::Cluster;
pub use error::{Error, Result};
pub use fleet::Fleet;
pub use mariadb::MariaDb;
pub use mysql::MySql;
pub use postgres::Postgres;
