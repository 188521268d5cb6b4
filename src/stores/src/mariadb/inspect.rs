//! What a server says of itself, and the settings without which it can be no member.

use super::connect::Session;
use super::names::literal;
use super::{MariaDb, lease, placed, store, tables};
use crate::driver::Inspected;
use crate::error::Error;
use multiactive_core::epoch::Epoch;

/// Without it a lease has no end.
pub(super) const SCHEDULER: Setting = (
    "event_scheduler",
    "ON",
    "an event ends writers at the end of the write lease",
);

/// Why nothing may be left out of what links bring.
const FILTERS: &str = "what is left out counts as applied, and never comes";

/// A setting of the whole server: the name, what it must be, and why.
type Setting = (&'static str, &'static str, &'static str);

/// All of them.
const SETTINGS: [Setting; 21] = [
    ("log_bin", "ON", "links read the log"),
    ("binlog_format", "ROW", "links bring rows, which fire no trigger"),
    (
        "log_slave_updates",
        "ON",
        "what one link brings reaches a member whose own link is missing",
    ),
    ("gtid_strict_mode", "ON", "positions are compared as numbers"),
    (
        "gtid_ignore_duplicates",
        "ON",
        "a row comes by several ways, and counts once",
    ),
    (
        "sync_binlog",
        "1",
        "what is acknowledged must be in the log after a crash",
    ),
    (
        "innodb_flush_log_at_trx_commit",
        "1",
        "what is acknowledged must survive a crash",
    ),
    (
        "slave_run_triggers_for_rbr",
        "NO",
        "what links bring is not checked by the fence",
    ),
    ("slave_exec_mode", "STRICT", "rows that do not fit must stop a link"),
    ("slave_skip_errors", "OFF", "rows that do not fit must stop a link"),
    (
        "slave_parallel_threads",
        "0",
        "what a link brings of several logs must be applied in its order",
    ),
    ("replicate_do_db", "", FILTERS),
    ("replicate_ignore_db", "", FILTERS),
    ("replicate_do_table", "", FILTERS),
    ("replicate_ignore_table", "", FILTERS),
    ("replicate_wild_do_table", "", FILTERS),
    ("replicate_wild_ignore_table", "", FILTERS),
    (
        "innodb_rollback_on_timeout",
        "OFF",
        "a fence that waits for a row must stay in its transaction",
    ),
    SCHEDULER,
    (
        "log_bin_trust_function_creators",
        "ON",
        "without it only who has SUPER makes triggers",
    ),
    ("innodb_read_only", "OFF", "nothing could be written"),
];

pub(super) async fn inspect(db: &MariaDb) -> Result<Inspected, Error> {
    settings(db).await?;
    let (refused, mut warnings): (Vec<_>, Vec<_>) = tables::check(db)
        .await?
        .into_iter()
        .partition(|finding| finding.refused);
    let mut session = db.server.session().await?;
    // A start of the server that nobody has met yet gets its name here: the next look finds the same.
    let server = store::begin(db, &mut session).await?;
    let sql = "SELECT @@version, seen_term, seen_epoch, incarnation, opened FROM multiactive.store";
    let row = session.row("reading the server's identity", sql, ()).await?;
    let (version, term, epoch, incarnation, opened): (String, u32, u64, String, bool) = row;
    let sql = "SELECT slot FROM multiactive.slot WHERE open ORDER BY slot";
    let open: Vec<u16> = session.rows("reading the open slots", sql, ()).await?;
    let amiss = placed::amiss(&mut session).await?;
    // Where its parts are not whole it may not be there.
    let held = match amiss.is_empty() {
        true => lease::held(&mut session).await?,
        false => None,
    };
    warnings.extend(placed::breaches(db, &mut session).await?);
    session.keep();
    Ok(Inspected {
        server,
        incarnation,
        opened,
        version,
        seen: Epoch::new(term, epoch),
        open: open.into_iter().collect(),
        lease: held,
        amiss,
        refused,
        warnings,
    })
}

/// Refuses a server on which the fence or the links could not hold.
pub(super) async fn settings(db: &MariaDb) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    version(&mut session).await?;
    let names: Vec<_> = SETTINGS.iter().map(|(name, _, _)| literal(name)).collect();
    let sql = format!(
        "SELECT LOWER(VARIABLE_NAME), GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME IN ({})",
        names.join(", ")
    );
    let found: Vec<(String, String)> = session.rows("reading the server's settings", &sql, ()).await?;
    for (name, wanted, why) in SETTINGS {
        let is = found.iter().find(|(known, _)| known == name);
        let is = is.map_or("not known".to_owned(), |(_, is)| is.clone());
        if is != wanted {
            return Err(Error::Setting { name, is, wanted, why });
        }
    }
    let sql = "SELECT @@global.gtid_domain_id, v.GLOBAL_VALUE_ORIGIN, v.GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES v
               WHERE v.VARIABLE_NAME = 'READ_ONLY'";
    let row = session.row("reading the server's settings", sql, ()).await?;
    let (domain, origin, read_only): (u32, String, String) = row;
    if domain == 0 {
        return Err(Error::Setting {
            name: "gtid_domain_id",
            is: domain.to_string(),
            wanted: "a number that no other member has",
            why: "each member's log is a domain of its own",
        });
    }
    // Once somebody has set it, nothing tells how it is configured.
    if origin != "SQL" && read_only != "ON" {
        return Err(Error::Setting {
            name: "read_only",
            is: read_only,
            wanted: "ON in the server's configuration",
            why: "a server that starts must take no writes before it is brought to a table",
        });
    }
    let sql = "SELECT SLEEP(0.001) + (SYSDATE(6) > NOW(6))";
    if !session.row::<bool>("reading the server's settings", sql, ()).await? {
        return Err(Error::Setting {
            name: "sysdate_is_now",
            is: "ON".to_owned(),
            wanted: "OFF",
            why: "a write must see the clock as it is, not as it was when its statement began",
        });
    }
    session.keep();
    Ok(())
}

async fn version(session: &mut Session<'_>) -> Result<(), Error> {
    let is: String = session
        .row("reading the server's settings", "SELECT @@version", ())
        .await?;
    if is_known(&is) {
        return Ok(());
    }
    Err(Error::Setting {
        name: "version",
        is,
        wanted: "MariaDB 10.11 or newer",
        why: "older ones, and MySQL, were not tried",
    })
}

fn is_known(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let release = numbers.next().zip(numbers.next());
    version.contains("MariaDB") && release >= Some((10, 11))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, want) in [
            ("10.11.19-MariaDB-0+deb12u1-log", true),
            ("11.4.2-MariaDB", true),
            ("10.5.19-MariaDB", false),
            ("9.7.0", false),
            ("MariaDB", false),
        ] {
            assert_eq!(is_known(version), want, "{version}");
        }
    }
}
