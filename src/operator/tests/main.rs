//! The operator's tests, each with API servers of its own; what is about UnitWorkloads stands beside it, with one world for all.
//! One program: each more would be linked with all that it needs, and they wait for most of the time.

mod crash;
mod disturbed;
mod events;
mod failover;
mod fencing_hook;
mod in_force;
mod leases;
mod lifecycle;
mod members;
mod members_in_trouble;
mod promotions_in_trouble;
mod record_in_trouble;
mod support;
mod two_operators;
