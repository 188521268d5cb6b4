//! The write lease of a unit: the time-limited right to write at all. Its numbers, its record, and who counts from when.
//!
//! The holder is the unit. It reads its database's clock, sends the renewal, and once that is known to have been taken lets
//! the database admit writes until [`Terms::window`] after that reading. So whatever comes late afterwards, the answer or
//! the call to the database, lengthens nothing. A challenger counts from when it *saw* a renewal, waits [`Terms::patience`]
//! without a newer one, and seals that very renewal by compare-and-swap: either a newer renewal makes the swap fail, or
//! the holder's window was over before it. Only then it changes the table. No clock is compared with another one's.
//!
//! Lease and table are two objects. What ties them is [`Lease::granted`]: a lease that is granted anew counts only for a
//! database that has been brought to that table, which closed whatever the unit lost meanwhile. Which clock is asked is the
//! caller's business; it must run during sleep, or a machine that slept would count too little.

mod challenge;
mod holder;
mod lengths;
mod record;
mod steady;

pub use challenge::Challenge;
pub use holder::{Act, Heard, Memory, Standing};
pub use lengths::Lengths;
pub use record::{Earlier, Lease, NotRenewed, Seal};
pub use steady::{Reading, steady};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest error of the rate of a clock that is allowed for, in percent.
const RATE_ERROR: i32 = 5;

/// The shortest lease: three times the time in which the ledger's etcd elects a leader (1 s), and 2 s.
pub const SHORTEST: SignedDuration = SignedDuration::from_secs(5);

/// The longest: a unit that is lost is waited for that long.
pub const LONGEST: SignedDuration = SignedDuration::from_mins(5);

/// What a unit gets that asks for nothing else.
pub const DEFAULT: SignedDuration = SignedDuration::from_secs(10);

/// What a unit does that cannot renew its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnLoss {
    /// As its ledger deserves: see [`OnLoss::mode`].
    #[default]
    Auto,
    /// It stops writing.
    Fence,
    /// It goes on while its agent lives.
    KeepServing,
}

/// What applies to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Its databases refuse writes once the lease is over: its end proves that nobody writes there.
    Fence,
    /// Its agent lengthens the deadline by itself: the lease's end proves nothing.
    KeepServing,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where ownership is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LedgerKind {
    /// The hub's API server: lost with that one cluster.
    Kubernetes,
    /// An etcd stretched over several clusters: lost with a majority of them.
    Etcd,
}

impl OnLoss {
    /// What applies with this ledger: the loss of one hub must not stop every unit.
    pub fn mode(self, ledger: LedgerKind) -> Mode {
        match (self, ledger) {
            (Self::Fence, LedgerKind::Kubernetes | LedgerKind::Etcd) | (Self::Auto, LedgerKind::Etcd) => Mode::Fence,
            (Self::KeepServing, LedgerKind::Kubernetes | LedgerKind::Etcd) | (Self::Auto, LedgerKind::Kubernetes) => {
                Mode::KeepServing
            }
        }
    }
}

/// The numbers of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    length: SignedDuration,
}

/// A lease cannot have this length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lease of {length:#} is not between {SHORTEST:#} and {LONGEST:#}")]
pub struct BadLength {
    /// What was asked for.
    pub length: SignedDuration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { length: DEFAULT }
    }
}

impl Terms {
    /// A lease of this length.
    ///
    /// # Errors
    ///
    /// [`BadLength`] where it is shorter than [`SHORTEST`] or longer than [`LONGEST`].
    pub fn new(length: SignedDuration) -> Result<Self, BadLength> {
        if (SHORTEST..=LONGEST).contains(&length) {
            Ok(Self { length })
        } else {
            Err(BadLength { length })
        }
    }

    /// For how long a renewal holds: L.
    pub fn length(self) -> SignedDuration {
        self.length
    }

    /// How often it is renewed: every quarter of its length.
    pub fn renew_every(self) -> SignedDuration {
        self.length / 4
    }

    /// The time that a commit is allowed between its check and its end: δ, a tenth of the length, at most 1 s.
    pub fn margin(self) -> SignedDuration {
        (self.length / 10).min(SignedDuration::from_secs(1))
    }

    /// For how long after the reading of the database's clock that came before the renewal writes may pass: L - δ.
    pub fn window(self) -> SignedDuration {
        self.length - self.margin()
    }

    /// For how long a challenger must have seen no newer renewal: L (1 + ρ) / (1 - ρ), by its own clock, which may run
    /// fast, where the holder's runs slow.
    pub fn patience(self) -> SignedDuration {
        allow_for_rates(self.length)
    }
}

/// How long a fast clock must count, where a slow one counts `time`.
fn allow_for_rates(time: SignedDuration) -> SignedDuration {
    // One millisecond more than what the division leaves away.
    time * (100 + RATE_ERROR) / (100 - RATE_ERROR) + SignedDuration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenger_with_a_fast_clock_outwaits_a_holder_with_a_slow_one() {
        for seconds in 5..=300_i64 {
            let terms = Terms::new(SignedDuration::from_secs(seconds)).unwrap();
            // Of true time: the holder's clock runs at 95 %, the challenger's at 105 %.
            let window = terms.length().as_millis() as f64 / 0.95;
            let waited = terms.patience().as_millis() as f64 / 1.05;
            assert!(waited >= window, "{seconds} s: waited {waited} ms of {window} ms");
            assert!(terms.window() + terms.margin() == terms.length() && terms.margin() > SignedDuration::ZERO);
            assert!(terms.renew_every() * 3 < terms.window(), "two renewals may fail");
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_refused() {
        for (length, ok) in [
            (4, false),
            (5, true),
            (300, true),
            (301, false),
            (0, false),
            (-5, false),
        ] {
            assert_eq!(Terms::new(SignedDuration::from_secs(length)).is_ok(), ok, "{length} s");
        }
    }

    #[test]
    fn the_loss_of_one_hub_stops_no_unit_that_did_not_ask_for_it() {
        for (on_loss, ledger, want) in [
            (OnLoss::Auto, LedgerKind::Kubernetes, Mode::KeepServing),
            (OnLoss::Auto, LedgerKind::Etcd, Mode::Fence),
            (OnLoss::Fence, LedgerKind::Kubernetes, Mode::Fence),
            (OnLoss::KeepServing, LedgerKind::Etcd, Mode::KeepServing),
        ] {
            assert_eq!(on_loss.mode(ledger), want, "{on_loss:?} {ledger:?}");
        }
    }
}
