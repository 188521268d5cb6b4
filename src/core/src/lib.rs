//! The pure heart of multiactive: epochs, slots, hashing, key extraction, the routing table, the write lease and the step
//! machine of promotions and failovers.
//!
//! Nothing here reads a clock, draws a random number or does I/O: time enters as an argument, what is unknown is
//! `None`, and the same functions run in the operator, the agent, the router and the model checker.

pub mod chunks;
pub mod conflict;
pub mod diff;
pub mod epoch;
pub mod hash;
pub mod ids;
pub mod incarnation;
pub mod key;
pub mod keyspace;
pub mod lag;
pub mod lease;
pub mod lookup;
pub mod ownership;
pub mod path;
pub mod promotion;
pub mod quarantine;
pub mod ranges;
pub mod reasons;
pub mod recover;
pub mod rejoin;
pub mod route;
pub mod schedule;
pub mod select;
pub mod slots;
pub mod span;
pub mod table;
pub mod verification;
pub mod wire;
