//! How many rows a peer has in each slot: what tells in which parts they are compared. Of now, while everybody writes.

use super::names::qualified;
use super::{MySqlFamily, checksum, peer, snapshot};
use crate::compared::refused;
use crate::driver::Peer;
use crate::error::Error;
use multiactive_core::slots::Slot;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) async fn sizes(db: &MySqlFamily, from: &Peer, timeout: Duration) -> Result<BTreeMap<Slot, u64>, Error> {
    let there = peer::server(db, from);
    let (mut session, mut theirs) = (db.server.session().await?, there.foreign().await?);
    let tables = snapshot::tables(db, &mut session, &mut theirs)
        .await?
        .map_err(|why| refused(from, why))?;
    session.keep();
    snapshot::lasts(&mut theirs, timeout).await?;
    let mut sizes = BTreeMap::new();
    for table in &tables {
        let sql = format!(
            "SELECT {} AS slot, COUNT(*) FROM {} t GROUP BY slot",
            checksum::slot_of(db, "t", table.sharded),
            qualified(&table.sharded.name, &db.access.database)
        );
        let rows: Vec<(Slot, u64)> = theirs.rows("counting rows", &sql, ()).await?;
        for (slot, rows) in rows {
            *sizes.entry(slot).or_default() += rows;
        }
    }
    // Not kept: its statements have another limit of time.
    Ok(sizes)
}
