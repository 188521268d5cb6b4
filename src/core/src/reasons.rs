//! Words that one program writes into a status and another decides by: named once, so that neither changes alone.

/// A database could not be reached.
pub const UNREACHABLE: &str = "Unreachable";

/// A database did not answer in time.
pub const TIMED_OUT: &str = "TimedOut";

/// Whether this reason says of a database that it does not answer its agent.
pub fn is_silence(reason: &str) -> bool {
    [UNREACHABLE, TIMED_OUT].contains(&reason)
}
