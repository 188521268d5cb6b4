//! Positions: a server's log as a list of logs, each with how far it has come. Pure.
//!
//! Each member writes a log of its own, and passes on those of the others under their names. MariaDB names one by a number, and
//! writes `number-server-position`; MySQL by the name of the server that wrote it, and writes sets of intervals, of which what
//! is whole from the beginning counts.

use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Progress;
use std::fmt;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Log {
    /// A domain of MariaDB.
    Domain(u32),
    /// A server of MySQL, by its UUID.
    Server(u128),
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Server(uuid) => {
                let text = format!("{uuid:032x}");
                for (number, part) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
                    let dash = if number == 0 { "" } else { "-" };
                    write!(f, "{dash}{}", text.get(part).unwrap_or_default())?;
                }
                Ok(())
            }
        }
    }
}

impl Log {
    /// From what the server writes.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed {
            what: "name of a log",
            value: text.to_owned(),
        };
        let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
        if text.contains('-') {
            let uuid = u128::from_str_radix(&hex, 16).map_err(|_| malformed())?;
            return (hex.len() == 32).then_some(Self::Server(uuid)).ok_or_else(malformed);
        }
        hex.parse().map(Self::Domain).map_err(|_| malformed())
    }
}

/// How far a log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gtid {
    pub(crate) log: Log,
    /// The server that wrote it, by its number; MySQL's log names it already.
    pub(crate) server: u32,
    pub(crate) seq: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, server, seq } = self;
        match log {
            Log::Domain(domain) => write!(f, "{domain}-{server}-{seq}"),
            Log::Server(_) => write!(f, "{log}:{seq}"),
        }
    }
}

impl Gtid {
    /// From what the server writes, or we do.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed {
            what: "position",
            value: text.to_owned(),
        };
        if let Some((log, seq)) = text.trim().split_once(':') {
            return Ok(Self {
                log: Log::parse(log)?,
                server: 0,
                seq: seq.parse().map_err(|_| malformed())?,
            });
        }
        let parts: Vec<_> = text.trim().split('-').collect();
        let [domain, server, seq] = parts[..] else {
            return Err(malformed());
        };
        Ok(Self {
            log: Log::Domain(domain.parse().map_err(|_| malformed())?),
            server: server.parse().map_err(|_| malformed())?,
            seq: seq.parse().map_err(|_| malformed())?,
        })
    }

    /// A list of them, of which no log comes twice; of a set of MySQL what is whole from the first transaction on.
    pub(crate) fn list(text: &str) -> Result<Vec<Self>, Error> {
        let each = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let each = each.map(|part| match part.split_once(':') {
            Some((log, intervals)) => Self::whole(log, intervals),
            None => Self::parse(part).map(Some),
        });
        let list: Vec<Option<Self>> = each.collect::<Result<_, _>>()?;
        Ok(list.into_iter().flatten().collect())
    }

    /// How far a log is whole. Intervals of transactions with a tag follow the others; we write none, and read none.
    fn whole(log: &str, intervals: &str) -> Result<Option<Self>, Error> {
        let log = Log::parse(log)?;
        let first = intervals.split(':').next().unwrap_or_default();
        let (from, to) = first.split_once('-').unwrap_or((first, first));
        let (Ok(1), Ok(seq)) = (from.parse::<u64>(), to.parse()) else {
            return Ok(None);
        };
        Ok(Some(Self { log, server: 0, seq }))
    }

    /// That of a log.
    pub(crate) fn of(list: &[Self], log: Log) -> Option<Self> {
        list.iter().find(|gtid| gtid.log == log).copied()
    }

    /// The beginning of a log.
    pub(crate) fn nothing(log: Log) -> Self {
        Self { log, server: 0, seq: 0 }
    }
}

/// The list, and where another one is further, that.
pub(crate) fn covering(mut list: Vec<Gtid>, logged: Vec<Gtid>) -> Vec<Gtid> {
    for at in logged {
        match list.iter_mut().find(|is| is.log == at.log) {
            Some(is) if is.seq < at.seq => *is = at,
            Some(_) => {}
            None => list.push(at),
        }
    }
    list
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
    fn positions_of_mariadb_are_read_as_the_server_writes_them_and_nothing_else_is_one() {
        let list = Gtid::list("11-1-5,\n12-2-18446744073709551615").unwrap();
        assert_eq!(Gtid::of(&list, Log::Domain(12)).unwrap().seq, u64::MAX);
        assert_eq!(Gtid::of(&list, Log::Domain(11)).unwrap().to_string(), "11-1-5");
        assert_eq!(Gtid::of(&list, Log::Domain(13)), None);
        assert_eq!(Gtid::list("").unwrap(), []);
        for text in ["", "12", "1-2", "1-2-x", "1-2-3-4", "0/F"] {
            assert!(Gtid::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_a_set_of_mysql_counts_what_is_whole_from_the_beginning() {
        let name = "2d98e5a1-ea6a-11f1-84ca-02fc00000001";
        let log = Log::parse(name).unwrap();
        assert_eq!(log.to_string(), name);
        for (set, want) in [
            (":1-7", Some(7)),
            (":1", Some(1)),
            (":1-7:9-12", Some(7)),
            (":2-7", None),
            (":1-3:tag:1-9", Some(3)),
            (":tag:1-9", None),
        ] {
            let list = Gtid::list(&format!("00000000-0000-0000-0000-000000000001:1-2,\n{name}{set}")).unwrap();
            assert_eq!(Gtid::of(&list, log).map(|at| at.seq), want, "{set}");
        }
        let at = format!("{name}:17");
        assert_eq!(Gtid::parse(&at).unwrap().to_string(), at);
        for text in [format!("{name}:"), format!("{name}:1-2"), "2d98e5a1-1:4".to_owned()] {
            assert!(Gtid::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_two_lists_the_further_one_counts() {
        let list = covering(
            Gtid::list("1-1-5,2-7-9").unwrap(),
            Gtid::list("1-9-4,2-7-99,4-4-4").unwrap(),
        );
        let text: Vec<_> = list.iter().map(Gtid::to_string).collect();
        assert_eq!(text, ["1-1-5", "2-7-99", "4-4-4"]);
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
