//! Names that every engine makes in the same way, and a keyspace as text.

use crate::driver::KeyspaceSpec;

/// A name that is legal for slots too (lower case, digits, `_`, at most 63 bytes), readable, and unique by a hash.
pub(crate) fn short(prefix: &str, parts: &[&str]) -> String {
    let legal = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '_'
        }
    };
    let readable: String = parts.join("_").chars().map(legal).take(36).collect();
    format!("{prefix}_{readable}_{:010x}", fnv(&parts.join("\0")) & 0xff_ffff_ffff)
}

/// FNV-1a, 64 bits: the same in every version of this program.
pub(crate) fn fnv(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A keyspace as text: what must not change once it is installed.
pub(crate) fn definition(keyspace: &KeyspaceSpec) -> String {
    let overrides: Vec<_> = keyspace
        .overrides
        .iter()
        .map(|(key, slot)| format!("{key:?}={slot}"))
        .collect();
    let KeyspaceSpec {
        name, slots, function, ..
    } = keyspace;
    format!(
        "{name}: {function} into {slots} slots, overrides [{}]",
        overrides.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_slots_and_differ_where_their_parts_differ() {
        let one = short("multiactive", &["shop", "orders", "east-1", "north-1"]);
        let long = "a-very-long-name-of-a-unit-that-would-not-fit-alone-in-a-name-of-postgresql";
        let other = short("multiactive", &["shop", "orders", long, "north-1"]);
        for name in [&one, &other] {
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.chars()
                    .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit()),
                "{name}"
            );
        }
        assert_ne!(
            short("x", &["a-b", "c"]),
            short("x", &["a", "b-c"]),
            "only the hash tells these apart"
        );
        assert_ne!(short("x", &["a.b"]), short("x", &["a-b"]));
    }
}
