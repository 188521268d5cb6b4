//! Member clusters: how each is reached, whether it answers, and the registry from which all others take its client.

mod registry;

pub use registry::{Health, Member, Members};
