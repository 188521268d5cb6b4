//! Real clusters and real databases as processes on loopback, for developers, tests and the demo.
//!
//! [`tools`] provides the programs, [`postgres`] and [`cluster`] run them, [`node`] runs pods as processes, and
//! [`fleet`] puts several of them together. Everything started here ends with the process that started it.

pub mod error;
mod janitor;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod tools;

pub use error::{Error, Result};
pub use postgres::Postgres;
