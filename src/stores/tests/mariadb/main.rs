//! The driver of MariaDB on real servers: the tests of the family, one file for each group of verbs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

#[path = "../family/caught_up.rs"]
mod caught_up;
#[path = "../family/changed.rs"]
mod changed;
mod clock;
#[path = "../family/compare.rs"]
mod compare;
#[path = "../family/crashes.rs"]
mod crashes;
#[path = "../family/cut.rs"]
mod cut;
#[path = "../family/diverged.rs"]
mod diverged;
#[path = "../family/encrypted.rs"]
mod encrypted;
mod engine;
#[path = "../family/fence.rs"]
mod fence;
mod full_disk;
#[path = "../family/lease.rs"]
mod lease;
#[path = "../family/links.rs"]
mod links;
#[path = "../family/logged_keys.rs"]
mod logged_keys;
#[path = "../family/ranges.rs"]
mod ranges;
mod relay_logs;
#[path = "../family/reseed.rs"]
mod reseed;
#[path = "../family/settle.rs"]
mod settle;
#[path = "../family/single_writer.rs"]
mod single_writer;
mod skipped;
#[path = "../family/support.rs"]
mod support;
#[path = "../family/tables.rs"]
mod tables;
#[path = "../family/tail.rs"]
mod tail;
#[path = "../family/transactions.rs"]
mod transactions;
#[path = "../family/writers.rs"]
mod writers;
