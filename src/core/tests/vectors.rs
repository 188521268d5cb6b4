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

fn rows(text: &str) -> Vec<Row> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_published_vector_gives_its_slot() {
    for (function, text) in [
        (Function::Crc32, include_str!("../vectors/crc32.json")),
        (Function::Md5, include_str!("../vectors/md5.json")),
    ] {
        let rows = rows(text);
        assert!(rows.len() >= 150, "{} rows", rows.len());
        let sizes: BTreeSet<u32> = rows.iter().map(|row| row.slots).collect();
        assert_eq!(sizes, BTreeSet::from([1, 3, 16, 1000, 1024, 16_384]));
        for row in rows {
            assert_eq!(row.function, function.to_string());
            let slot = function.slot(row.key.as_bytes(), row.slots);
            assert_eq!(slot, row.slot, "{:?} of {} slots by {function}", row.key, row.slots);
        }
    }
}

#[test]
fn the_published_check_values_hold() {
    // 3259397556, published as the CRC-32 of `MySQL`; f96b697d7cb7938d525a2f31aaf161d0, as the MD5 of `message digest`.
    for slots in [1_u32, 7, 1024, 16_384] {
        for (function, key, hash) in [
            (Function::Crc32, "MySQL", 3_259_397_556_u32),
            (Function::Md5, "message digest", 0xf96b_697d),
        ] {
            let want = u16::try_from(hash % slots).unwrap();
            assert_eq!(function.slot(key.as_bytes(), slots), want, "{function}, {slots} slots");
        }
    }
}
