//! The row that says whose server this is, which start of it, and the newest epoch that was asked for.

use super::connect::Session;
use super::{MySqlFamily, lease};
use crate::error::Error;
use multiactive_core::epoch::Epoch;

/// Begins anew where this is another start of the server than the one that was last met, or a copy of it: no slot is open in
/// it, and no lease valid. Until then it is read-only by its configuration. Tells which start it is.
pub(crate) async fn begin(db: &MySqlFamily, session: &mut Session<'_>) -> Result<String, Error> {
    let start = db.server.dialect.start;
    if let (Some(begun), true) = session
        .row::<(Option<String>, bool)>("looking at the server's start", start, ())
        .await?
    {
        return Ok(begun);
    }
    lease::lock(session).await?;
    let (known, same): (Option<String>, bool) = session.row("looking at the server's start", start, ()).await?;
    let begun = match (known, same) {
        (Some(begun), true) => begun,
        (Some(_) | None, _) => {
            // In this order: once it counts as begun, everything is closed.
            lease::set(session, 0).await?;
            session
                .batch(
                    "closing all slots",
                    "UPDATE multiactive.slot SET open = FALSE WHERE open",
                )
                .await?;
            session
                .batch("beginning with a new server", db.server.dialect.begin)
                .await?;
            session.batch("closing the server", "SET GLOBAL read_only = 1").await?;
            let row = session.row(
                "looking at the server's start",
                "SELECT begun FROM multiactive.store",
                (),
            );
            let begun: String = row.await?;
            tracing::info!(at = %db.server.at, %begun, "another start of the server: all slots are closed");
            begun
        }
    };
    lease::unlock(session).await?;
    Ok(begun)
}

/// Locks the row until the transaction ends: who changes what slots are brought to does so one after the other.
pub(crate) async fn lock(session: &mut Session<'_>) -> Result<(), Error> {
    let sql = "SELECT one FROM multiactive.store FOR UPDATE";
    session.row::<bool>("locking the store", sql, ()).await.map(drop)
}

/// Raises the newest epoch that was asked for. A caller with a table of its own must hold the newest one.
pub(crate) async fn raise(session: &mut Session<'_>, asked: Epoch, must_be_newest: bool) -> Result<(), Error> {
    let mut held = seen(session).await?;
    if asked > held {
        let sql = "UPDATE multiactive.store SET seen_epoch = ?, seen_term = ? WHERE (seen_term, seen_epoch) < (?, ?)";
        let params = (asked.epoch, asked.term, asked.term, asked.epoch);
        session.change("raising the newest epoch", sql, params).await?;
        held = seen(session).await?;
    }
    if must_be_newest && asked < held {
        Err(Error::Overtaken { held, asked })
    } else {
        Ok(())
    }
}

/// The newest epoch that was asked for.
async fn seen(session: &mut Session<'_>) -> Result<Epoch, Error> {
    let sql = "SELECT seen_term, seen_epoch FROM multiactive.store";
    let (term, epoch) = session.row("reading the newest epoch", sql, ()).await?;
    Ok(Epoch::new(term, epoch))
}

/// All that `table` asks for is done here.
pub(crate) async fn brought(session: &mut Session<'_>, table: Epoch) -> Result<(), Error> {
    let sql = "UPDATE multiactive.store SET brought_epoch = ?, brought_term = ?
               WHERE brought_term IS NULL OR (brought_term, brought_epoch) < (?, ?)";
    let params = (table.epoch, table.term, table.term, table.epoch);
    session
        .change("noting the table that was applied", sql, params)
        .await
        .map(drop)
}
