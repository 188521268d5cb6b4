//! Positions: a server's log as a list of domains, each with how far it has come. Pure.

use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Progress;
use std::fmt;

/// How far a domain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gtid {
    pub(super) domain: u32,
    /// The server that wrote it.
    pub(super) server: u32,
    pub(super) seq: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, server, seq } = self;
        write!(f, "{domain}-{server}-{seq}")
    }
}

impl Gtid {
    /// From what the server writes.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let parts: Vec<_> = text.trim().split('-').collect();
        let malformed = || Error::Malformed {
            what: "position",
            value: text.to_owned(),
        };
        let [domain, server, seq] = parts[..] else {
            return Err(malformed());
        };
        Ok(Self {
            domain: domain.parse().map_err(|_| malformed())?,
            server: server.parse().map_err(|_| malformed())?,
            seq: seq.parse().map_err(|_| malformed())?,
        })
    }

    /// A list of them, of which no domain comes twice.
    pub(super) fn list(text: &str) -> Result<Vec<Self>, Error> {
        let each = text.split(',').filter(|part| !part.trim().is_empty());
        each.map(Self::parse).collect()
    }

    /// That of a domain.
    pub(super) fn of(list: &[Self], domain: u32) -> Option<Self> {
        list.iter().find(|gtid| gtid.domain == domain).copied()
    }
}

/// How far the log of a unit's database has come; `born` is since when that database goes on by itself. `None` for what is no
/// position.
pub fn progress(unit: &UnitName, born: Option<&str>, position: &str) -> Option<Progress> {
    let log = match born {
        Some(born) => format!("{unit}/{born}"),
        None => unit.to_string(),
    };
    let at = Gtid::parse(position).ok()?.seq;
    Some(Progress { log, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_the_server_writes_them_and_nothing_else_is_one() {
        let list = Gtid::list("11-1-5,\n12-2-18446744073709551615").unwrap();
        assert_eq!(Gtid::of(&list, 12).unwrap().seq, u64::MAX);
        assert_eq!(Gtid::of(&list, 11).unwrap().to_string(), "11-1-5");
        assert_eq!(Gtid::of(&list, 13), None);
        assert_eq!(Gtid::list("").unwrap(), []);
        for text in ["", "12", "1-2", "1-2-x", "1-2-3-4", "0/F"] {
            assert!(Gtid::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn positions_compare_as_numbers_within_one_history() {
        let of = |born, text| progress(&"east-1".into(), born, text).unwrap();
        for (one, other, want) in [
            (of(Some("a"), "1-1-9"), of(Some("a"), "1-1-10"), Some(false)),
            (of(Some("a"), "1-1-10"), of(Some("a"), "1-1-10"), Some(true)),
            (of(Some("a"), "1-1-10"), of(Some("b"), "1-1-10"), None),
        ] {
            assert_eq!(one.covers(&other), want, "{one:?} {other:?}");
        }
    }
}
