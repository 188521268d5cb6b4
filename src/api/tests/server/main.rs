//! What a real API server says to our kinds: for each rule an object that it refuses, with the message, and one that it
//! accepts; the admission policies and roles of the chart, as other users than the administrator.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod accounts;
mod columns;
mod decisions;
mod failovers;
mod generated;
mod good;
mod leases;
mod lists;
mod operations;
mod parts;
mod protection;
mod rules;
mod support;
