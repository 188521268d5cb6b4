//! What a router adds to the hash when it looks a key up: one array index. Ratios in one run count, absolute figures do
//! not, so both are measured in turns and the best round of each is compared.
//!
//! `cargo bench --workspace --bench lookup` prints the ratio and fails above [`LIMIT`].

use multiactive_core::epoch::Epoch;
use multiactive_core::hash::Function;
use multiactive_core::keyspace::Keyspace;
use multiactive_core::lookup::Lookup;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::{Span, SpanState};
use multiactive_core::table::KeyspaceTable;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

const SLOTS: u32 = 16_384;
const KEYS: u64 = 1024;
const ROUNDS: usize = 400;
const LIMIT: f64 = 1.3;

/// A table of `spans` spans of equal length, each with an owner and an epoch of its own.
fn lookup(spans: u16) -> Lookup {
    let length = (SLOTS / u32::from(spans)) as u16;
    let mut table = KeyspaceTable::unowned("users".into(), SLOTS);
    table.spans.clear();
    for n in 0..spans {
        let first = n * length;
        table.spans.push(Span {
            first,
            last: if n + 1 == spans { 16_383 } else { first + length - 1 },
            owner: Some(format!("unit-{}", n % 100).into()),
            state: SpanState::Serving,
            epoch: Epoch::new(1, u64::from(n)),
        });
    }
    assert_eq!(table.slots_where(|_| true), SlotSet::range(0, 16_383));
    Lookup::new(&table)
}

/// Nanoseconds a key.
fn time(keys: &[String], work: impl Fn(&str) -> u64) -> f64 {
    let start = Instant::now();
    let mut sum = 0_u64;
    for key in keys {
        sum = sum.wrapping_add(work(black_box(key)));
    }
    black_box(sum);
    start.elapsed().as_secs_f64() * 1e9 / keys.len() as f64
}

fn main() -> ExitCode {
    let keyspace = match Keyspace::new(i64::from(SLOTS), Function::Crc32, []) {
        Ok(keyspace) => keyspace,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    // 17 bytes, as a user's id with a prefix has.
    let keys: Vec<String> = (0..KEYS).map(|n| format!("user-{:012}", n * 7_919)).collect();
    let mut passed = true;
    for (spans, gated) in [(16, true), (1_024, true), (16_384, false)] {
        let lookup = lookup(spans);
        let (mut hash, mut whole) = (f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            hash = hash.min(time(&keys, |key| u64::from(keyspace.slot_of(key))));
            let find = |key: &str| lookup.get(keyspace.slot_of(key)).map_or(0, |entry| entry.epoch.epoch);
            whole = whole.min(time(&keys, find));
        }
        let ratio = whole / hash;
        let limit = if gated {
            format!("limit {LIMIT}")
        } else {
            "no limit: a span for every slot".to_owned()
        };
        println!("{spans} spans: hash alone {hash:.1} ns, with lookup {whole:.1} ns, ratio {ratio:.2} ({limit})");
        passed &= !gated || ratio <= LIMIT;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
