//! `(term, epoch)`: the number that every change of ownership takes, compared as a pair.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A point in the history of ownership. A term belongs to one hub; the epoch grows with every write of the
/// RoutingTable. Ordered by term first.
///
/// ```
/// # use multiactive_core::epoch::Epoch;
/// assert!(Epoch::new(2, 1) > Epoch::new(1, 99));
/// assert_eq!("1.41".parse(), Ok(Epoch::new(1, 41)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The reign of one hub; 0 only in [`Epoch::NEVER`].
    pub term: u32,
    /// The number within all reigns; it is not reset by a new term.
    pub epoch: u64,
}

impl Epoch {
    /// Before any change of ownership: the epoch of a slot that was never owned.
    pub const NEVER: Self = Self { term: 0, epoch: 0 };

    /// The pair `(term, epoch)`.
    pub const fn new(term: u32, epoch: u64) -> Self {
        Self { term, epoch }
    }

    /// The epoch that the next change takes, in the same term.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            term: self.term,
            epoch: self.epoch + 1,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.epoch)
    }
}

/// The text is not `term.epoch`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no epoch: expected term.epoch, such as 1.41")]
pub struct ParseEpochError(pub String);

impl FromStr for Epoch {
    type Err = ParseEpochError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `parse` alone would take `+1` too.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text
            .split_once('.')
            .filter(|(term, epoch)| digits(term) && digits(epoch))
            .and_then(|(term, epoch)| Some(Self::new(term.parse().ok()?, epoch.parse().ok()?)));
        parsed.ok_or_else(|| ParseEpochError(text.to_owned()))
    }
}
