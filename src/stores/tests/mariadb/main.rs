//! The driver of MariaDB on real servers: one file for each group of verbs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod caught_up;
mod compare;
mod crashes;
mod cut;
mod diverged;
mod encrypted;
mod fence;
mod full_disk;
mod lease;
mod links;
mod reseed;
mod single_writer;
mod support;
mod tables;
mod transactions;
mod writers;
