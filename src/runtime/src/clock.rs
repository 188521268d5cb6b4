//! A clock for leases: monotonic, and it goes on while the machine sleeps.

use jiff::SignedDuration;
use nix::time::{ClockId, clock_gettime};

/// The time since this machine was started, sleep included (`CLOCK_BOOTTIME`). A machine without that clock has its
/// monotonic one, which stands still in sleep: [`None`] where it has neither.
pub fn boottime() -> Option<SignedDuration> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    let time = time.ok()?;
    Some(SignedDuration::new(time.tv_sec(), i32::try_from(time.tv_nsec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let first = boottime().unwrap();
        assert!(first > SignedDuration::ZERO && boottime().unwrap() >= first);
    }
}
