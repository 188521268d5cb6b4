//! The places around each effect of the agent at which a test may end the process.

pub use multiactive_runtime::failpoint::hit;

/// Every place of a promotion, in its order; `--list-failpoints` prints them, and those of failovers behind them.
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
];

/// Those of failovers, and of the return of a lost unit.
pub const OF_FAILOVERS: &[&str] = &[
    "cut-before",
    "cut-after",
    "tail-before",
    "tail-after",
    "copy-before",
    "copy-after",
    "rejoin-before",
    "rejoin-after",
];
