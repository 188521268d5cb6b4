//! The write lease in a store: a deadline on the database's own clock.

use multiactive_core::epoch::Epoch;
use std::fmt;
use std::time::Duration;

/// A reading of a database's clock, in microseconds since the epoch. Only that database compares it with anything: no
/// other machine's clock says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreClock(pub(crate) i64);

impl StoreClock {
    /// Microseconds since the epoch, by the database.
    pub fn as_micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for StoreClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

/// A lease as it is asked for. Absolute: it does not matter when the call arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLease {
    /// The database's clock, read before the renewal was sent to the ledger.
    pub from: StoreClock,
    /// For how long writes may pass from then on.
    pub length: Duration,
    /// The table that the caller had read when the renewal succeeded, or an older one.
    pub granted: Epoch,
}

impl StoreLease {
    /// The longest lease that a store can keep.
    pub const LONGEST: Duration = Duration::from_millis((1 << 21) - 1);
}

/// A lease that is valid in a store now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// When it ends, by the database's clock.
    pub until: StoreClock,
    /// How long that was when the database answered.
    pub left: Duration,
}
