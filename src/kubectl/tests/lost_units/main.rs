//! `failover`, against a real API server with the chart's kinds, policies and roles, in a fleet of its own: Regions that are
//! gone would trouble every other test. The operator is played by the test.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod follows;
#[allow(dead_code)] // Shared with the other tests of the program.
#[path = "../cli/objects.rs"]
mod objects;
#[path = "../cli/playing.rs"]
mod playing;
#[allow(dead_code)]
#[path = "../cli/support.rs"]
mod support;
mod transcripts;
mod world;
