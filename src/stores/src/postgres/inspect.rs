//! What a server says of itself, and the settings without which it can be no member.

use super::connect::Session;
use super::{Postgres, lease, placed, settle, tables};
use crate::driver::Inspected;
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::hash::Function;
use multiactive_core::slots::Slot;

pub(super) async fn inspect(pg: &Postgres) -> Result<Inspected, Error> {
    settings(pg).await?;
    let (refused, mut warnings): (Vec<_>, Vec<_>) = tables::check(pg)
        .await?
        .into_iter()
        .partition(|finding| finding.refused);
    let session = pg.server.session().await?;
    let sql = "SELECT (pg_control_system()).system_identifier::text || '/' ||
                      to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                      current_setting('server_version'), s.seen_term, s.seen_epoch, s.incarnation::text,
                      coalesce(s.opened, true)
               FROM multiactive.store s";
    let row = session.row("reading the server's identity", sql, &[]).await?;
    let sql = "SELECT slot FROM multiactive.slot
               WHERE keyspace = $1 AND open AND server_start = pg_postmaster_start_time() ORDER BY slot";
    let open = session
        .rows("reading the open slots", sql, &[&pg.spec.keyspace.name.as_str()])
        .await?;
    let amiss = placed::amiss(&session).await?;
    if amiss.is_empty() {
        placed::whole(pg, &amiss);
    }
    // Where its parts are not whole it may not be there.
    let held = match amiss.is_empty() {
        true => lease::held(&session).await?,
        false => None,
    };
    warnings.extend(placed::breaches(pg, &session).await?);
    let conflicts = match pg.spec.is_shared() && amiss.is_empty() {
        true => match pg.counted.known() {
            Some(known) => Some(known),
            None => Some(settle::conflicts(&session).await?),
        },
        false => None,
    };
    if pg.counted.known().is_none() {
        pg.counted.note(conflicts);
    }
    session.keep();
    Ok(Inspected {
        server: row.get(0),
        incarnation: row.get(4),
        opened: row.get(5),
        version: row.get(1),
        seen: epoch(row.get(2), row.get(3)),
        open: open
            .iter()
            .filter_map(|row| Slot::try_from(row.get::<_, i32>(0)).ok())
            .collect(),
        lease: held,
        amiss: amiss.found,
        refused,
        warnings,
        conflicts,
    })
}

/// An epoch as the database keeps it; what is out of range was never written by us.
pub(super) fn epoch(term: i32, epoch: i64) -> Epoch {
    Epoch::new(
        u32::try_from(term).unwrap_or(u32::MAX),
        u64::try_from(epoch).unwrap_or(u64::MAX),
    )
}

/// An epoch's numbers as the database keeps them.
pub(super) fn numbers(epoch: Epoch) -> (i32, i64) {
    (
        i32::try_from(epoch.term).unwrap_or(i32::MAX),
        i64::try_from(epoch.epoch).unwrap_or(i64::MAX),
    )
}

/// The oldest release that may be a member.
const OLDEST: i32 = 16;

/// Refuses a server that cannot compute the keyspace's slots by a function of its own: one in PL/pgSQL would take a hundred times
/// as long for each row.
async fn function(pg: &Postgres, session: &Session<'_>, version: i32, told: String) -> Result<(), Error> {
    let Postgres { spec, server, .. } = pg;
    let function = spec.keyspace.function;
    let since = match function {
        Function::Crc32 => 18,
        Function::Md5 => {
            // A server whose TLS library is in FIPS mode has it, and refuses to compute it.
            session
                .row(
                    "computing an MD5, which the keyspace's function needs",
                    "SELECT md5('')",
                    &[],
                )
                .await?;
            OLDEST
        }
        Function::SingleWriter => OLDEST,
    };
    if version >= since {
        return Ok(());
    }
    Err(Error::FunctionMissing {
        store: spec.store.clone(),
        unit: spec.unit.clone(),
        keyspace: spec.keyspace.name.clone(),
        function,
        server: format!("PostgreSQL {told} at {}", server.at),
        since: format!("PostgreSQL {since}"),
    })
}

/// Refuses a server on which the fence or the links could not hold.
pub(super) async fn settings(pg: &Postgres) -> Result<(), Error> {
    let session = pg.server.session().await?;
    let sql = "SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'),
                      current_setting('max_prepared_transactions'), current_setting('server_encoding'),
                      current_setting('session_replication_role'), current_setting('server_version')";
    let row = session.row("reading the server's settings", sql, &[]).await?;
    let version: i32 = row.get(0);
    let wrong = |name, is, wanted, why| Err(Error::Setting { name, is, wanted, why });
    if version < OLDEST {
        return wrong(
            "server_version",
            row.get(5),
            "16 or newer",
            "links that send on nothing of what they received (origin = none) came with 16",
        );
    }
    function(pg, &session, version, row.get(5)).await?;
    session.keep();
    for (column, name, wanted, why) in [
        (1, "wal_level", "logical", "links are logical replication"),
        (
            2,
            "max_prepared_transactions",
            "0",
            "a prepared transaction outlives a fence and commits later",
        ),
        (
            3,
            "server_encoding",
            "UTF8",
            "slots are computed from the key's UTF-8 bytes",
        ),
        (
            4,
            "session_replication_role",
            "origin",
            "any other default switches the fence off",
        ),
    ] {
        let is: String = row.get(column);
        if is != wanted {
            return wrong(name, is, wanted, why);
        }
    }
    Ok(())
}
