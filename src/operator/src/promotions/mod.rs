//! Promotions: what an object asks for, what is seen of a running one, and what its status says. All pure.

mod compared;
pub mod lifecycle;
pub mod plan;
pub mod request;
pub mod seen;
pub mod status;
