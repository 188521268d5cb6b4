//! The program as users run it, against a real API server with the chart's kinds, policies and roles: transcripts of what
//! it prints, its exit codes, what it does when things go wrong, and what it leaves behind: nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod bundle;
mod deciding;
mod help;
mod moving;
mod objects;
mod playing;
mod support;
mod terminal;
mod transcripts;
mod troubles;
mod verifying;
mod watching;
mod writers;
