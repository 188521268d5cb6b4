//! The points around each effect of the promotion path at which a test may end the process.

pub use multiactive_runtime::failpoint::hit;

/// Every point, in the order of a promotion, then of a failover; `--list-failpoints` prints them.
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
    // Of failovers, and of the return of a lost unit.
    "lease-before-write",
    "lease-after-write",
];
