//! The router: key → slot → owner for every request of a unit, in front of its local services.
//!
//! The decision itself is [`multiactive_core::route`]; here are the table in memory, the connections, and the waiting.
//! It goes on with the last table when its API server is away.

pub mod admin;
pub mod agent_link;
pub mod answer;
pub mod args;
pub mod asking;
pub mod body;
pub mod feed;
pub mod flight;
pub mod fresh;
pub mod headers;
pub mod hold;
pub mod home;
pub mod kept;
pub mod lease;
pub mod limits;
pub mod metrics;
pub mod peers;
pub mod proxy;
pub mod resolve;
pub mod saved;
pub mod server;
pub mod state;
pub mod target;
pub mod view;
