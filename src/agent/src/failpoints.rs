//! The places around each effect of the agent at which a test may end the process.

pub use multiactive_runtime::failpoint::hit;

/// Every place, in the order of a promotion, then of a failover; `--list-failpoints` prints them.
pub const FAILPOINTS: &[&str] = &[
    "apply-before",
    "apply-after",
    "fence-before",
    "fence-after",
    "follow-before",
    "follow-after",
    "drain-before",
    "drain-after",
    "open-before",
    "open-after",
    "told-routers",
    "status-before-write",
    "status-after-write",
    // Of failovers, and of the return of a lost unit.
    "cut-before",
    "cut-after",
    "copy-before",
    "copy-after",
    "rejoin-before",
    "rejoin-after",
];
