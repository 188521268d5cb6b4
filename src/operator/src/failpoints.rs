//! The points around each effect of the promotion path at which a test may end the process.

pub use multiactive_runtime::failpoint::hit;

/// Every point of a promotion, in its order; `--list-failpoints` prints them, and those of failovers behind them.
pub const FAILPOINTS: &[&str] = &[
    "finalizer-before-add",
    "finalizer-after-add",
    "admit-before-commit",
    "admit-after-commit",
    "step-before-commit",
    "step-after-commit",
    "publish-before-write",
    "publish-after-write",
    "assign-before-write",
    "assign-after-write",
    "status-before-write",
    "status-after-write",
    "finalizer-before-remove",
    "finalizer-after-remove",
];

/// Those of failovers, and of the return of a lost unit.
pub const OF_FAILOVERS: &[&str] = &[
    "lease-before-write",
    "lease-after-write",
    "hook-before-ask",
    "hook-after-answer",
];
