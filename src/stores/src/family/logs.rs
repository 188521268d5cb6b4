//! What a server says of the logs that it has: its own, and how far each one has come.

use super::connect::Session;
use super::gtid::{Gtid, Log, covering};
use crate::error::Error;

/// The columns in which a server says it, of one moment: see `Dialect::logs`.
pub(crate) type Columns = (String, u32, String, String);

/// The logs of a server.
pub(crate) struct Logs {
    /// The name of its own.
    pub(crate) own: Log,
    server: u32,
    /// All of them, as far as they stand in its log.
    pub(crate) all: Vec<Gtid>,
}

impl Logs {
    pub(crate) fn parse((own, server, owned, logged): Columns) -> Result<Self, Error> {
        let own = Log::parse(&own)?;
        let mut committing = being_committed(&owned)?;
        // Those of others have a number before they stand in the log.
        committing.retain(|at| at.log == own);
        Ok(Self {
            own,
            server,
            all: covering(Gtid::list(&logged)?, committing),
        })
    }

    pub(crate) async fn read(session: &mut Session<'_>) -> Result<Self, Error> {
        let sql = format!("SELECT {}", session.dialect().logs);
        Self::parse(session.row("reading how far logs have come", &sql, ()).await?)
    }

    /// How far its own has come.
    pub(crate) fn written(&self) -> Gtid {
        let nothing = Gtid {
            server: self.server,
            ..Gtid::nothing(self.own)
        };
        Gtid::of(&self.all, self.own).unwrap_or(nothing)
    }
}

/// Transactions that stand in the log, and whose rows may be seen, before the server counts them: `log:number#session:…`. Of
/// each log the last one: those before it do so too.
fn being_committed(owned: &str) -> Result<Vec<Gtid>, Error> {
    let mut list = Vec::new();
    for part in owned.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (log, numbers) = part.split_once(':').unwrap_or((part, ""));
        let numbers = numbers.split(':').filter_map(|number| number.split('#').next());
        let last = numbers.filter_map(|number| number.parse().ok()).max();
        let log = Log::parse(log)?;
        list.extend(last.map(|seq| Gtid { log, server: 0, seq }));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_committed_counts() {
        let name = "2d98e5a1-ea6a-11f1-84ca-02fc00000001";
        for (owned, logged, want) in [
            (String::new(), format!("{name}:1-7"), 7),
            (format!("{name}:8#22:9#31"), format!("{name}:1-7"), 9),
            (
                format!("{name}:1#22,00000000-0000-0000-0000-000000000001:9#3"),
                String::new(),
                1,
            ),
            (String::new(), String::new(), 0),
        ] {
            let logs = Logs::parse((name.to_owned(), 0, owned.clone(), logged)).unwrap();
            assert_eq!(logs.written().seq, want, "{owned}");
            assert!(logs.all.len() <= 1, "{owned}");
        }
        let logs = Logs::parse(("3".to_owned(), 9, String::new(), "3-9-4,2-1-8".to_owned())).unwrap();
        assert_eq!(logs.written().to_string(), "3-9-4");
    }
}
