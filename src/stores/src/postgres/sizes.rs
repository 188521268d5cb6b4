//! How many rows a peer has in each slot: what tells in which parts they are compared. Of now, while everybody writes.

use super::connect::Session;
use super::install::slot_of;
use super::names::qualified;
use super::source::demand_rights;
use super::{Postgres, peer};
use crate::driver::Peer;
use crate::error::Error;
use multiactive_core::slots::Slot;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) async fn sizes(pg: &Postgres, from: &Peer, timeout: Duration) -> Result<BTreeMap<Slot, u64>, Error> {
    let there = peer::server(pg, from);
    let mut session = there.session().await?;
    demand_rights(pg, &session, from).await?;
    session.limit(timeout);
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {}",
        timeout.as_millis().max(1)
    );
    session.batch("counting rows", &begin).await?;
    let sizes = count(pg, &session).await?;
    session.batch("counting rows", "COMMIT").await?;
    session.keep();
    Ok(sizes)
}

async fn count(pg: &Postgres, session: &Session<'_>) -> Result<BTreeMap<Slot, u64>, Error> {
    let mut sizes = BTreeMap::new();
    for sharded in &pg.spec.tables {
        let sql = format!(
            "SELECT {} AS slot, count(*) FROM {} t GROUP BY slot",
            slot_of(&pg.spec, sharded, "t"),
            qualified(&sharded.name)
        );
        for row in session.rows("counting rows", &sql, &[]).await? {
            if let Ok(slot) = Slot::try_from(row.get::<_, i32>(0)) {
                *sizes.entry(slot).or_default() += u64::try_from(row.get::<_, i64>(1)).unwrap_or_default();
            }
        }
    }
    Ok(sizes)
}
