//! Key extraction and keyspaces: every byte comes from outside.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // Helpers of tests are tests too.

use multiactive_core::hash::Function;
use multiactive_core::key::{ExtractError, Given, KeyError, KeyExtractor, KeySource, MAX_KEY, Place};
use multiactive_core::keyspace::{Keyspace, KeyspaceError};
use multiactive_core::path::decode;

fn path(pattern: &str) -> KeySource {
    KeySource::Path {
        pattern: pattern.to_owned(),
    }
}

fn header(name: &str) -> KeySource {
    KeySource::Header { name: name.to_owned() }
}

/// The key by an order's path, then by the header `x-user-id`.
fn extract(path_of_request: &str, value: Given<'_>) -> Result<Option<String>, ExtractError> {
    let sources = [path("^/orders/[0-9]+-([^/]*)$"), header("X-User-Id")];
    let extractor = KeyExtractor::new(&sources).unwrap();
    let decoded = decode(path_of_request).unwrap();
    let key = extractor.extract(&decoded, |name| match name {
        "x-user-id" => value,
        _ => Given::Absent,
    });
    key.map(|key| key.map(str::to_owned))
}

#[test]
fn the_first_source_that_is_present_wins() {
    use Given::{Absent, Ambiguous, Once};
    let rows = [
        ("/orders/12-alice", Absent, Some("alice")),
        ("/orders/12-alice", Once(b"bob"), Some("alice")),
        ("/orders/12-alice", Ambiguous, Some("alice")),
        ("/orders", Once(b"bob"), Some("bob")),
        ("/orders", Absent, None),
        ("/orders/12-b%C3%A9a%20x", Absent, Some("béa x")),
        // A pattern sees what the service sees, however it is written.
        ("/%6frders/%31%32-a+b%3fc,d", Once(b"bob"), Some("a+b?c,d")),
    ];
    for (path, value, want) in rows {
        let got = extract(path, value).unwrap();
        assert_eq!(got.as_deref(), want, "{path} {value:?}");
    }
}

#[test]
fn a_key_that_is_there_and_unusable_is_an_error_and_never_missing() {
    let long = "k".repeat(MAX_KEY + 1);
    let longest = "k".repeat(MAX_KEY);
    use Given::{Absent, Ambiguous, Once};
    let (in_path, in_header) = (Place::Path, Place::Header);
    let huge = format!("/orders/1-{}", "k".repeat(1 << 20));
    let encoded = format!("/orders/1-{}", "%6B".repeat(MAX_KEY));
    let encoded_long = format!("/orders/1-{}", "%6B".repeat(MAX_KEY + 1));
    let rows = [
        ("/", Once(longest.as_bytes()), Ok(longest.as_str())),
        (
            "/",
            Once(long.as_bytes()),
            Err(ExtractError::KeyTooLong { place: in_header }),
        ),
        (
            "/",
            Once(b"".as_slice()),
            Err(ExtractError::EmptyKey { place: in_header }),
        ),
        ("/", Once(b"a\xff"), Err(ExtractError::InvalidUtf8 { place: in_header })),
        ("/", Ambiguous, Err(ExtractError::AmbiguousKey)),
        ("/", Once(b"alice,bob"), Err(ExtractError::AmbiguousKey)),
        ("/", Once(b"alice, "), Err(ExtractError::AmbiguousKey)),
        (
            "/orders/1-",
            Once(b"bob"),
            Err(ExtractError::EmptyKey { place: in_path }),
        ),
        (&huge, Once(b"bob"), Err(ExtractError::KeyTooLong { place: in_path })),
        (&encoded, Absent, Ok(longest.as_str())),
        (&encoded_long, Absent, Err(ExtractError::KeyTooLong { place: in_path })),
    ];
    for (path, value, want) in rows {
        let got = extract(path, value).map(Option::unwrap);
        let shown = path.chars().take(30).collect::<String>();
        assert_eq!(got, want.map(str::to_owned), "{shown}");
    }
}

#[test]
fn a_group_that_takes_no_part_in_the_match_leaves_the_key_to_the_next_source() {
    let extractor = KeyExtractor::new(&[path("^/orders(?:/([a-z]+))?$"), header("user")]).unwrap();
    let key = extractor.extract("/orders", |_| Given::Once(b"bob")).unwrap();
    assert_eq!(key, Some("bob"));
}

#[test]
fn sources_that_cannot_be_used_are_refused_with_what_is_wrong() {
    let groups = |pattern: &str, groups| KeyError::Groups {
        pattern: pattern.to_owned(),
        groups,
    };
    for (source, want) in [
        (path("^/orders$"), groups("^/orders$", 0)),
        (path("(a)(b)"), groups("(a)(b)", 2)),
        (header(""), KeyError::HeaderName(String::new())),
        (header("x user"), KeyError::HeaderName("x user".to_owned())),
        (header("x-üser"), KeyError::HeaderName("x-üser".to_owned())),
    ] {
        assert_eq!(
            KeyExtractor::new(std::slice::from_ref(&source)).err(),
            Some(want),
            "{source:?}"
        );
    }
    assert_eq!(KeyExtractor::new(&[]).err(), Some(KeyError::NoSource));
    for pattern in ["(", "(?=a)(b)", "((((a{1000}){1000}){1000}){1000})"] {
        let error = KeyExtractor::new(&[path(pattern)]).err();
        assert!(matches!(error, Some(KeyError::Pattern { .. })), "{pattern}: {error:?}");
    }
}

#[test]
fn exact_keys_win_over_the_function() {
    let vip = ["vip-1", "vip-2"].map(|key| (key.to_owned(), 7));
    let keyspace = Keyspace::new(1024, Function::Crc32, vip).unwrap();
    let plain = |key: &str| Function::Crc32.slot(key.as_bytes(), 1024);
    for (key, want) in [
        ("vip-1", 7),
        ("vip-2", 7),
        ("vip-10", plain("vip-10")),
        ("VIP-1", plain("VIP-1")),
    ] {
        assert_eq!(keyspace.slot_of(key), want, "{key}");
    }
}

#[test]
fn keyspaces_that_cannot_be_are_refused() {
    let key = || "vip".to_owned();
    let make = |slots, overrides: &[(String, i64)]| Keyspace::new(slots, Function::Crc32, overrides.to_vec());
    for slots in [i64::MIN, -1, 0, 16_385, i64::MAX] {
        assert_eq!(make(slots, &[]), Err(KeyspaceError::Slots(slots)));
    }
    for slot in [-1, 16, 65_536, i64::MAX] {
        let last = 15;
        assert_eq!(
            make(16, &[(key(), slot)]),
            Err(KeyspaceError::NoSuchSlot { key: key(), slot, last })
        );
    }
    let twice = KeyspaceError::Twice {
        key: key(),
        one: 1,
        other: 2,
    };
    assert_eq!(make(16, &[(key(), 1), (key(), 2)]), Err(twice));
    assert!(make(16, &[(key(), 1), (key(), 1)]).is_ok());
    assert_eq!(make(16, &[(String::new(), 1)]), Err(KeyspaceError::KeyLength(0)));
    assert_eq!(make(16, &[("k".repeat(1025), 1)]), Err(KeyspaceError::KeyLength(1025)));
}

#[test]
fn a_definition_tells_keyspaces_apart_that_send_a_key_to_another_slot() {
    let of = |overrides: &[(&str, i64)]| {
        let overrides = overrides.iter().map(|(key, slot)| ((*key).to_owned(), *slot));
        Keyspace::new(1024, Function::Crc32, overrides).unwrap().definition()
    };
    assert_eq!(of(&[]), "Crc32");
    let both = of(&[("a", 7), ("b", 8)]);
    // Tables hold it: another text for the same would hold up every deployment.
    assert_eq!(both, "Crc32+2:d9808120d1bf1fa7");
    assert_eq!(of(&[("b", 8), ("a", 7)]), both, "in any order");
    assert_eq!(of(&[("b", 8), ("a", 7), ("a", 7)]), both, "said twice");
    for other in [
        &[("a", 7)][..],
        &[("a", 8), ("b", 7)],
        &[("a", 7), ("b", 9)],
        &[("a", 7), ("c", 8)],
        &[("a", 7), ("b", 8), ("c", 8)],
        &[("ab", 7), ("b", 8)],
    ] {
        assert_ne!(of(other), both, "{other:?}");
    }
}
