//! The published vectors: what Python's zlib says, our hash says too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

use multiactive_core::hash::Function;
use serde::Deserialize;
use std::collections::BTreeSet;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    key: String,
    function: String,
    slots: u32,
    slot: u16,
}

#[test]
fn every_published_vector_gives_its_slot() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../vectors/crc32.json")).unwrap();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let sizes: BTreeSet<u32> = rows.iter().map(|row| row.slots).collect();
    assert_eq!(sizes, BTreeSet::from([1, 3, 16, 1000, 1024, 16_384]));
    for row in rows {
        assert_eq!(row.function, Function::Crc32.to_string());
        let slot = Function::Crc32.slot(row.key.as_bytes(), row.slots);
        assert_eq!(slot, row.slot, "{:?} of {} slots", row.key, row.slots);
    }
}

#[test]
fn the_published_check_value_holds() {
    // 3259397556, published as the CRC-32 of `MySQL`.
    for slots in [1_u32, 7, 1024, 16_384] {
        let want = u16::try_from(3_259_397_556 % slots).unwrap();
        assert_eq!(Function::Crc32.slot(b"MySQL", slots), want, "{slots} slots");
    }
}
