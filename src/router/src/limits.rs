//! What one router takes on at most.

use std::time::Duration;

/// The limits of a router.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest time that one request waits, all its waits together.
    pub hold_time: Duration,
    /// How long a write of a span that the unit serves waits for an agent that is connected and behind; then the
    /// database decides.
    pub behind_time: Duration,
    /// For how long a write that a service's database refused is decided about anew, and sent again.
    pub refused_time: Duration,
    /// How many requests wait at most.
    pub hold_requests: usize,
    /// For how long after their release held writes of one slot are passed on one after the other, each with the answer to
    /// the one before; the rest follows in the same order, without waiting for answers.
    pub order_time: Duration,
    /// Bytes of one request's body that are kept, so that it can be sent again.
    pub kept_per_request: usize,
    /// Bytes of all kept bodies together.
    pub kept_total: usize,
    /// The longest time until a backend's answer begins.
    pub answer_time: Duration,
    /// For how long a write whose answer has begun counts as in flight while an operation waits for those.
    pub body_time: Duration,
    /// How long a connection that cannot be made is tried again, for requests that another router shall answer.
    pub connect_time: Duration,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// How long an idle connection to a backend is kept. Less than backends keep theirs: a write on a connection that
    /// the other side is closing has an unknown outcome.
    pub backend_idle: Duration,
    /// How often one request is sent anew because its owner had changed.
    pub resends: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_time: Duration::from_secs(45),
            behind_time: Duration::from_secs(5),
            refused_time: Duration::from_secs(5),
            hold_requests: 10_000,
            order_time: Duration::from_millis(250),
            kept_per_request: 1 << 20,
            kept_total: 64 << 20,
            answer_time: Duration::from_secs(60),
            body_time: Duration::from_secs(1),
            connect_time: Duration::from_secs(2),
            header_bytes: 32 << 10,
            backend_idle: Duration::from_secs(4),
            resends: 8,
        }
    }
}
