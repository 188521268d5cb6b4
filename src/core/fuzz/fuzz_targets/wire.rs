//! Fuzzes `entries::wire`.
#![no_main]

#[path = "../entries.rs"]
#[allow(dead_code)] // Each target uses one entry.
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::wire(bytes));
