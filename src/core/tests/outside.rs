//! Bytes from outside: the entries of the fuzz targets, over their seeds and over the bytes around them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

#[path = "../fuzz/entries.rs"]
mod entries;

use multiactive_core::wire::{AgentToRouter, LineError, MAX_LINE, RouterToAgent, read_line};
use std::path::Path;

/// Runs an entry over each seed, each beginning of it, and each seed with one byte changed.
fn over_seeds(name: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut seeds = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(file.unwrap().path()).unwrap();
        entry(&seed);
        for place in 0..seed.len().min(200) {
            entry(&seed[..place]);
            for byte in [0, b'0', b',', b'@', b'%', b'"', 0x7f, 0xff] {
                let mut changed = seed.clone();
                changed[place] = byte;
                entry(&changed);
            }
        }
        seeds += 1;
    }
    assert!(seeds >= 5, "{seeds} seeds of {name}");
}

#[test]
fn texts_of_the_table_never_panic() {
    over_seeds("span_text", entries::span_text);
}

#[test]
fn requests_never_panic() {
    over_seeds("key", entries::key);
}

#[test]
fn lines_never_panic() {
    over_seeds("wire", entries::wire);
}

#[test]
fn a_line_that_is_too_long_or_not_ours_is_refused() {
    let long = vec![b' '; MAX_LINE + 1];
    assert!(matches!(read_line::<RouterToAgent>(&long), Err(LineError::TooLong(_))));
    assert!(matches!(read_line::<AgentToRouter>(b"{}"), Err(LineError::Json(_))));
}

#[test]
fn the_seeds_of_lines_are_lines() {
    for (name, line) in [
        ("applied", include_bytes!("../fuzz/seeds/wire/applied").as_slice()),
        (
            "applied-by-keyspace",
            include_bytes!("../fuzz/seeds/wire/applied-by-keyspace"),
        ),
    ] {
        assert!(read_line::<AgentToRouter>(line).is_ok(), "{name}");
    }
    for (name, line) in [
        ("goodbye", include_bytes!("../fuzz/seeds/wire/goodbye").as_slice()),
        ("report", include_bytes!("../fuzz/seeds/wire/report")),
    ] {
        assert!(read_line::<RouterToAgent>(line).is_ok(), "{name}");
    }
}
