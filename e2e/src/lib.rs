//! The shop on a local fleet: what the demo shows and the end-to-end tests take apart.
//!
//! [`world`] starts clusters and databases, [`install`] brings the chart and the shop onto them as a user would,
//! [`kube_ext`] waits for objects, [`http`] sends requests, [`demo`] tells the story.

pub mod again;
pub mod bench;
pub mod catalog;
pub mod database_wire;
pub mod databases;
pub mod demo;
pub mod held_up;
pub mod http;
pub mod install;
pub mod kube_ext;
pub mod locked_out;
pub mod lost;
pub mod open_slots;
pub mod processes;
pub mod promotion;
pub mod region;
pub mod relay;
pub mod server;
pub mod session;
pub mod stage;
pub mod stops;
pub mod story;
pub mod unheard;
pub mod verification;
pub mod wire;
pub mod world;
pub mod writer;
