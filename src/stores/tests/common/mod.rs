//! What tests of every engine use: grants, epochs, slots, keys, leases, and waiting for a condition.

use multiactive_core::epoch::Epoch;
use multiactive_core::hash::Function;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{StorePosition, UnitPosition};
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use multiactive_stores::driver::{FenceLimits, Grant, HeldLease, StoreLease};
use std::time::{Duration, Instant};

pub const SLOTS: u32 = 256;

/// How long anything may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(90);

/// Asks until the answer is yes, for at most [`LIMIT`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) => assert!(started.elapsed() < LIMIT, "waiting for {what}: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn epoch(number: u64) -> Epoch {
    Epoch::new(1, number)
}

pub fn op(name: &str) -> OperationUid {
    name.into()
}

pub fn all() -> SlotSet {
    SlotSet::range(0, (SLOTS - 1) as u16)
}

pub fn open(slots: SlotSet, at: u64) -> Grant {
    Grant {
        slots,
        open: true,
        epoch: epoch(at),
        brought_by: None,
    }
}

pub fn closed(slots: SlotSet, at: u64) -> Grant {
    Grant {
        open: false,
        ..open(slots, at)
    }
}

pub const LIMITS: FenceLimits = FenceLimits {
    deadline: Duration::from_secs(5),
    grace: Duration::from_millis(500),
};

/// Brings a new or restarted server to no table and extends its lease for half an hour.
pub async fn lease(driver: &impl Driver) {
    let seen = driver.inspect().await.unwrap().seen;
    driver.apply(seen, &[], LIMITS).await.unwrap();
    extend(driver, Duration::from_secs(1800)).await.expect("a lease");
}

/// Extends the lease from now on.
pub async fn extend(driver: &impl Driver, length: Duration) -> Option<HeldLease> {
    let lease = StoreLease {
        from: driver.clock().await.unwrap(),
        length,
        granted: Epoch::NEVER,
    };
    driver.extend(lease).await.unwrap()
}

/// Opens or closes all slots at a table's epoch.
pub async fn set_all(driver: &impl Driver, is_open: bool, at: u64) {
    let grant = if is_open { open(all(), at) } else { closed(all(), at) };
    driver.apply(epoch(at), &[grant], LIMITS).await.unwrap();
}

/// The function of the tests' keyspace: one that servers of the release have.
pub fn function() -> Function {
    match std::env::var("MULTIACTIVE_POSTGRES").as_deref() {
        Ok("16" | "17") => Function::Md5,
        Ok(_) | Err(_) => Function::Crc32,
    }
}

/// The slot of a key, by core's own function.
pub fn slot_of(key: &str) -> u16 {
    match key {
        "vip-1" => 7,
        key => function().slot(key.as_bytes(), SLOTS),
    }
}

/// A key of `slot`, one of many.
pub fn key_of(slot: u16, number: usize) -> String {
    let mut keys = (0..).map(|i| format!("u{number}-{i}"));
    keys.find(|key| slot_of(key) == slot).unwrap()
}

/// What has to be applied of the log of `unit`: all up to `position`, or nothing.
pub fn wanted_of<'a>(unit: &UnitName, position: impl Into<Option<&'a str>>) -> [StorePosition; 1] {
    let at = |position: &str| UnitPosition {
        unit: unit.clone(),
        position: position.to_owned(),
    };
    [StorePosition {
        store: "orders".into(),
        source: unit.clone(),
        vector: position.into().map(at).into_iter().collect(),
    }]
}
