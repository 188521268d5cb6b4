//! Real clusters and real databases as processes on loopback, for developers, tests and the demo.
//!
//! [`tools`] provides the programs, [`postgres`] and [`cluster`] run them, and [`node`] runs pods as processes.
//! Everything started here ends with the process that started it.

pub mod certs;
pub mod cluster;
pub mod error;
mod janitor;
pub mod kubeconfig;
pub mod node;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod tools;

pub use cluster::Cluster;
pub use error::{Error, Result};
pub use postgres::Postgres;
