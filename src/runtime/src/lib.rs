//! What the programs share at run time.

pub mod failpoint;
