//! Shapes that several kinds share.

/// The condition that every kind has: true when all that the spec asks for holds.
pub const READY: &str = "Ready";
/// True while the operator is still working towards the spec (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// True when the operator cannot go on without a change from outside (kstatus).
pub const STALLED: &str = "Stalled";
