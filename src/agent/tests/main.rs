//! The agent's tests, with a real API server and real databases.
//! One program: each more would be linked with all that it needs.

mod aborted_fence;
mod failover;
mod failpoints;
mod failures;
mod lease;
mod lost;
mod promotion;
mod repaired;
mod routers;
mod support;
mod verifying;
