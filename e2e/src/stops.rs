//! A unit that stops: when it took its last order, when its customers were refused first, and served by another one.

use crate::lost::{ended, first_at};
use crate::stage::LIMIT;
use anyhow::{Result, ensure};
use jiff::Timestamp;
use shop::load::{Load, Record};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// The latest moment before `until` at which an order of this unit was acknowledged.
pub fn last_acknowledged(record: &Record, unit: &str, until: Timestamp) -> Option<Timestamp> {
    let attempts = record.attempts.iter();
    let of_unit = attempts.filter(|attempt| attempt.order.as_ref().is_some_and(|order| order.unit == unit));
    of_unit.map(ended).filter(|ended| *ended < until).max()
}

/// Waits until an order of one of these users that was begun after `since` has failed; gives when it was begun.
///
/// # Errors
///
/// Where that does not happen in time.
pub async fn refuses(load: &Load, users: &[String], since: Timestamp) -> Result<Timestamp> {
    let deadline = Instant::now() + LIMIT;
    let mut tick = interval(Duration::from_millis(50));
    loop {
        let record = load.record().await;
        let refused = record
            .attempts
            .iter()
            .find(|attempt| attempt.began > since && attempt.order.is_none() && users.contains(&attempt.user));
        if let Some(attempt) = refused {
            return Ok(attempt.began);
        }
        ensure!(Instant::now() < deadline, "nobody was refused since {since}");
        tick.tick().await;
    }
}

/// Waits until a moment has come.
pub async fn until(moment: Timestamp) {
    let mut tick = interval(Duration::from_millis(50));
    while Timestamp::now() < moment {
        tick.tick().await;
    }
}

/// Waits until an order of one of these users was acknowledged by `unit`; gives when that was.
///
/// # Errors
///
/// Where that does not happen in time.
pub async fn serves(load: &Load, users: &[String], unit: &str) -> Result<Timestamp> {
    let deadline = Instant::now() + LIMIT;
    let mut tick = interval(Duration::from_millis(50));
    loop {
        if let Some(first) = first_at(&load.record().await, users, unit) {
            return Ok(first);
        }
        ensure!(Instant::now() < deadline, "{unit} serves none of them");
        tick.tick().await;
    }
}
