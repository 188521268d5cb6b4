//! The verbs, one file each: fetch, view, print.

pub mod completion;
pub mod decide;
pub mod events;
pub mod failback;
pub mod failover;
pub mod plan;
pub mod promote;
pub mod route;
pub mod status;
pub mod support_bundle;
pub mod verify;
pub mod version;
pub mod watch;
