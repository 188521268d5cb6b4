//! Where a server's log stood: what was committed by then and seen by everybody, in words that are kept.
//!
//! Numbers alone would not do: a log that begins anew uses them again. So the last transaction that the server had written itself
//! is looked at, and told from any other that has its number one day: by when it was written, and where in its file.

use super::binlog;
use super::connect::{Server, Session};
use super::dialect::Kind;
use super::gtid::{Gtid, Log};
use super::logs::Logs;
use crate::error::Error;
use crate::until::Until;
use crate::{mariadb, mysql};
use std::fmt;

/// Where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    /// The number of the last transaction of its own.
    pub(crate) last: u64,
    /// What tells that one from others.
    pub(crate) mark: String,
    /// How far all logs had come in it, as the server writes that.
    pub(crate) logs: String,
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.last, self.mark, self.logs)
    }
}

impl Stand {
    /// From what was kept.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ').map(str::to_owned);
        Some(Self {
            last: parts.next()?.parse().ok()?,
            mark: parts.next()?,
            logs: parts.next()?,
        })
    }
}

/// Where a server's log stands now; `None` where it has written nothing itself yet, or does not let us read it. The session is in
/// no transaction then, and not to be kept.
pub(crate) async fn take(server: &Server, session: &mut Session<'_>, until: &Until) -> Result<Option<Stand>, Error> {
    let kind = session.kind();
    let logs = match kind {
        Kind::MariaDb => mariadb::log::committed(session, until).await?,
        Kind::MySql => mysql::log::committed(session).await?,
    };
    let own = Logs::read(session).await?.own;
    let Some(last) = Gtid::of(&Gtid::list(&logs)?, own).filter(|at| at.seq > 0) else {
        return Ok(None);
    };
    let from = behind(kind, last, &logs)?;
    let mark = binlog::mark(server, kind, last, &from, until).await?;
    Ok(mark.map(|mark| Stand {
        last: last.seq,
        mark,
        logs,
    }))
}

/// Where its log is read from, so that the transaction at which it stood comes once more; `own`: the name of its own.
pub(crate) fn from(kind: Kind, own: Log, stand: &Stand) -> Result<String, Error> {
    let list = Gtid::list(&stand.logs)?;
    let last = Gtid::of(&list, own).unwrap_or(Gtid::nothing(own));
    let last = Gtid {
        seq: stand.last,
        ..last
    };
    behind(kind, last, &stand.logs)
}

fn behind(kind: Kind, last: Gtid, logs: &str) -> Result<String, Error> {
    Ok(match kind {
        Kind::MariaDb => mariadb::log::before(last, &Gtid::list(logs)?),
        Kind::MySql => mysql::log::before(last, logs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again() {
        let stand = Stand {
            last: 7,
            mark: "00ff".to_owned(),
            logs: "1-1-7,2-2-9".to_owned(),
        };
        assert_eq!(Stand::parse(&stand.to_string()), Some(stand.clone()));
        for text in ["", "7", "7 00ff", "x 00ff 1-1-7"] {
            assert_eq!(Stand::parse(text), None, "{text}");
        }
        let own = Log::Domain(1);
        assert_eq!(from(Kind::MariaDb, own, &stand).unwrap(), "2-2-9,1-1-6");
        let first = Stand { last: 1, ..stand };
        assert_eq!(from(Kind::MariaDb, own, &first).unwrap(), "2-2-9");
    }

    #[test]
    fn of_mysql_all_intervals_of_others_stay_and_its_own_end_before_the_last() {
        let (own, other) = (
            "2d98e5a1-ea6a-11f1-84ca-02fc00000001",
            "00000000-0000-0000-0000-000000000001",
        );
        let name = Log::parse(own).unwrap();
        for (last, logs, want) in [
            (
                7,
                format!("{other}:1-3:5,{own}:1-7"),
                format!("{other}:1-3:5,{own}:1-6"),
            ),
            (7, format!("{own}:1-7:9"), format!("{own}:1-6")),
            (1, format!("{own}:1"), String::new()),
            (2, format!("{own}:1-2"), format!("{own}:1-1")),
        ] {
            let stand = Stand {
                last,
                mark: String::new(),
                logs: logs.clone(),
            };
            assert_eq!(from(Kind::MySql, name, &stand).unwrap(), want, "{logs}");
            assert_eq!(mysql::log::has_gaps(&logs, name), logs.ends_with(":9"), "{logs}");
        }
    }
}
