//! Names and literals in SQL: what we call things on a server, and how text is quoted.

use crate::driver::StoreSpec;
use crate::error::Error;
pub(super) use crate::names::{fnv, short};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::{Slot, SlotSet};

/// An identifier, quoted.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal; our sessions keep `standard_conforming_strings` on.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table's schema and name; without a schema it is in `public`.
pub(super) fn table(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or(("public", name))
}

/// A table's name for statements.
pub(super) fn qualified(name: &str) -> String {
    let (schema, table) = table(name);
    format!("{}.{}", ident(schema), ident(table))
}

/// The publication of a store, the same name on every member.
pub(super) fn publication(spec: &StoreSpec) -> String {
    short("multiactive", &[&spec.namespace, spec.store.as_str()])
}

/// Our own tables that are published. Of the first a link may miss rows; of the others it must not, so a link that is older
/// than one of them is made again.
pub(super) const PUBLISHED: [&str; 7] = ["marker", "fenced", "opening", "breach", "joined", "lost", "mark"];

/// Those of which a link must miss nothing.
pub(super) const IN_ORDER: [&str; 6] = ["fenced", "opening", "breach", "joined", "lost", "mark"];

/// The subscription, and its slot on the publisher, of the link between two units.
pub(super) fn link(spec: &StoreSpec, from: &UnitName, to: &UnitName) -> String {
    let parts = [&spec.namespace, spec.store.as_str(), from.as_str(), to.as_str()];
    short("multiactive", &parts)
}

/// Slots as the text of an `int4multirange`.
pub(super) fn slots(slots: &SlotSet) -> String {
    let ranges = slots.ranges().iter().map(|(first, last)| format!("[{first},{last}]"));
    format!("{{{}}}", ranges.collect::<Vec<_>>().join(","))
}

/// Slots from the text of an `int4multirange` as the server writes it: `{[0,8),[9,10)}`.
pub(super) fn parse_slots(text: &str) -> Result<SlotSet, Error> {
    let malformed = || Error::Malformed {
        what: "set of slots",
        value: text.to_owned(),
    };
    let range = |part: &str| {
        let (first, end) = part.split_once(',').ok_or_else(malformed)?;
        let (first, end): (u32, u32) = (
            first.parse().map_err(|_| malformed())?,
            end.parse().map_err(|_| malformed())?,
        );
        let slot = |number: u32| Slot::try_from(number).map_err(|_| malformed());
        Ok((slot(first)?, slot(end.checked_sub(1).ok_or_else(malformed)?)?))
    };
    let inner = text.trim_start_matches(['{', '[']).trim_end_matches(['}', ')']);
    let parts = inner.split("),[").filter(|part| !part.is_empty());
    parts.map(range).collect()
}

/// A value in a connection string.
pub(super) fn conninfo_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_survive_the_servers_way_of_writing_them() {
        for (text, want) in [
            ("{}", ""),
            ("{[0,8)}", "0-7"),
            ("{[0,8),[9,10),[255,256)}", "0-7,9,255"),
        ] {
            assert_eq!(parse_slots(text).unwrap().to_string(), want);
        }
        for text in ["{[a,8)}", "{[0,0)}", "{[8,)}", "{[0,70000)}"] {
            assert!(parse_slots(text).is_err(), "{text}");
        }
        assert_eq!(slots(&[(0, 7), (9, 9)].into_iter().collect()), "{[0,7],[9,9]}");
        assert_eq!(slots(&SlotSet::default()), "{}");
    }

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(qualified("orders"), "\"public\".\"orders\"");
        assert_eq!(conninfo_value(r"a'b\c"), r"'a\'b\\c'");
    }
}
