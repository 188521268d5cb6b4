//! What parses bytes from outside, each with the laws that must hold for any bytes. Shared by the fuzz targets and by
//! `tests/outside.rs`, which runs them over the seeds.

use multiactive_core::epoch::Epoch;
use multiactive_core::hash::Function;
use multiactive_core::ids::UnitName;
use multiactive_core::key::{Given, KeyExtractor, KeySource, MAX_KEY};
use multiactive_core::keyspace::Keyspace;
use multiactive_core::path::decode as decode_path;
use multiactive_core::slots::SlotSet;
use multiactive_core::span::{decode, encode};
use multiactive_core::wire::{AgentToRouter, RouterHello, RouterToAgent, read_line, write_line};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The texts of the RoutingTable: two bytes for the number of slots, then the text of spans, slots and an epoch. What
/// is taken is written back and read as the same.
pub fn span_text(bytes: &[u8]) {
    let [high, low, text @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let slots = u32::from(u16::from_be_bytes([*high, *low]));
    let units = ["east", "north", "south"].map(UnitName::from);
    if let Ok(spans) = decode(text, slots, &units) {
        let covered: u32 = spans.iter().map(|span| u32::from(span.last - span.first) + 1).sum();
        assert_eq!(covered, slots, "spans that are taken cover every slot");
        let again = encode(&spans, &units).expect("what was read can be written");
        assert_eq!(decode(&again, slots, &units), Ok(spans));
    }
    if let Ok(set) = text.parse::<SlotSet>() {
        assert_eq!(set.to_string().parse(), Ok(set));
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
    }
}

/// A request: a path, a line feed, the bytes of a header. A key is never empty nor too long, and has a slot.
pub fn key(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let path = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let header = parts.next().map_or(Given::Absent, Given::Once);
    let sources = [
        KeySource::Path {
            pattern: "^/orders/[0-9]+-([^/]*)$".to_owned(),
        },
        KeySource::Header {
            name: "x-user-id".to_owned(),
        },
    ];
    let extractor = KeyExtractor::new(&sources).expect("valid sources");
    let decoded = decode_path(&path);
    if let Ok(decoded) = &decoded {
        assert!(decoded.starts_with('/') && decoded.matches('/').count() == path.matches('/').count());
    }
    let key = decoded
        .iter()
        .find_map(|path| extractor.extract(path, |_| header).ok()?);
    if let Some(key) = key {
        assert!((1..=MAX_KEY).contains(&key.len()));
        let keyspace = Keyspace::new(1000, Function::Crc32, [("vip".to_owned(), 7)]).expect("a valid keyspace");
        assert!(u32::from(keyspace.slot_of(key)) < keyspace.slots());
    }
    // Patterns come from people who may write Keyspaces: none may panic.
    let _ = KeyExtractor::new(&[KeySource::Path { pattern: path }]);
}

/// A line between router and agent. What is taken is written back and read as the same.
pub fn wire(bytes: &[u8]) {
    fn line<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        if let Ok(message) = read_line::<T>(bytes)
            && let Ok(again) = write_line(&message)
        {
            let again = read_line::<T>(&again).expect("what was written can be read");
            assert_eq!(again, message);
        }
    }
    line::<RouterHello>(bytes);
    line::<RouterToAgent>(bytes);
    line::<AgentToRouter>(bytes);
}
