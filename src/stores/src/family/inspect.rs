//! What a server says of itself, and the settings without which it can be no member.

use super::connect::Session;
use super::dialect::Kind;
use super::names::literal;
use super::{MySqlFamily, lease, placed, settle, store, tables};
use crate::driver::Inspected;
use crate::error::Error;
use crate::{mariadb, mysql};
use multiactive_core::epoch::Epoch;
use mysql_async::Row;

/// Without it a lease has no end.
pub(crate) const SCHEDULER: Setting = (
    "event_scheduler",
    "ON",
    "an event ends writers at the end of the write lease",
);

/// Why nothing may be left out of what links bring.
pub(crate) const FILTERS: &str = "what is left out counts as applied, and never comes";

/// A setting of the whole server: the name, what it must be, and why.
pub(crate) type Setting = (&'static str, &'static str, &'static str);

pub(crate) async fn inspect(db: &MySqlFamily) -> Result<Inspected, Error> {
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
    let conflicts = match db.spec.is_shared() && amiss.is_empty() {
        true => match db.counted.known() {
            Some(known) => Some(known),
            None => Some(settle::conflicts(&mut session).await?),
        },
        false => None,
    };
    if db.counted.known().is_none() {
        db.counted.note(conflicts);
    }
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
        conflicts,
    })
}

/// Refuses a server on which the fence or the links could not hold.
pub(crate) async fn settings(db: &MySqlFamily) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    version(&mut session).await?;
    let dialect = session.dialect();
    let names: Vec<_> = dialect.settings.iter().map(|(name, _, _)| literal(name)).collect();
    let sql = dialect.read_settings.replace("$names$", &names.join(", "));
    let found: Vec<(String, String)> = session.rows("reading the server's settings", &sql, ()).await?;
    for &(name, wanted, why) in dialect.settings {
        let (wanted, why) = match name.ends_with("_exec_mode") && db.spec.is_shared() {
            true => (
                "IDEMPOTENT",
                "several units write this store: rows that do not fit must not stop a link",
            ),
            false => (wanted, why),
        };
        let is = found.iter().find(|(known, _)| known == name);
        let is = is.map_or("not known".to_owned(), |(_, is)| is.clone());
        if is != wanted {
            return Err(Error::Setting { name, is, wanted, why });
        }
    }
    logs_all(&mut session).await?;
    match session.kind() {
        Kind::MariaDb => mariadb::has_a_log_of_its_own(&mut session).await?,
        Kind::MySql => {
            mysql::leaves_nothing_out(&mut session).await?;
            mysql::has_function(&mut session, db.spec.keyspace.function).await?;
        }
    }
    let (sql, by_hand) = dialect.read_only;
    let (origin, read_only): (String, String) = session.row("reading the server's settings", sql, ()).await?;
    // Once somebody has set it, nothing tells how it is configured.
    if origin != by_hand && read_only != "ON" {
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

/// Refuses a server whose log leaves databases out. No variable says that.
async fn logs_all(session: &mut Session<'_>) -> Result<(), Error> {
    let sql = match session.kind() {
        Kind::MariaDb => "SHOW MASTER STATUS",
        Kind::MySql => "SHOW BINARY LOG STATUS",
    };
    let rows: Vec<Row> = session.rows("reading the server's settings", sql, ()).await?;
    for (name, column) in [
        ("binlog_do_db", "Binlog_Do_DB"),
        ("binlog_ignore_db", "Binlog_Ignore_DB"),
    ] {
        let is = rows.first().and_then(|row| row.get_opt::<String, _>(column)?.ok());
        if let Some(is) = is.filter(|is| !is.is_empty()) {
            return Err(Error::Setting {
                name,
                is,
                wanted: "nothing",
                why: "what is left out of the log comes to no other member, and nobody notices",
            });
        }
    }
    Ok(())
}

async fn version(session: &mut Session<'_>) -> Result<(), Error> {
    let is: String = session
        .row("reading the server's settings", "SELECT @@version", ())
        .await?;
    let dialect = session.dialect();
    if (dialect.is_known)(&is) {
        return Ok(());
    }
    Err(Error::Setting {
        name: "version",
        is,
        wanted: dialect.known.0,
        why: dialect.known.1,
    })
}
