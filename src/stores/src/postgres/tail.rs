//! Taking over from a survivor what it has received more of a lost unit.
//!
//! Both are cut off from the lost unit, and nobody has its slots open: so the rows of these slots stand still at both, and are the
//! lost unit's log as far as each has it. Those that differ are copied from a snapshot of the survivor's, in the transaction that
//! says how far the log is here now. It holds the cut: an operation that goes on without the tail waits for it or comes first, and
//! a unit that is joined again is not overwritten by what comes too late.

use super::connect::Session;
use super::copy::{as_a_link, differ, keep_closed, replace};
use super::inspect::{epoch as pair, numbers};
use super::names::qualified;
use super::reseed::{demand_rights, open_here, refused, tables};
use super::source::{Until, prepare_snapshot, take_snapshot};
use super::{Postgres, names, peer, source};
use crate::driver::{Peer, Tail, TailTaken};
use crate::error::Error;
use std::time::Duration;

/// How far unit $1 is applied, or was repaired, where it is cut.
const REACHED: &str = "SELECT coalesce(greatest(applied, repaired), '0/0')::text, term, epoch
                       FROM multiactive.cut WHERE from_unit = $1 AND stands";

/// The slots of $2 that are open.
const OPEN: &str = "SELECT coalesce(range_agg(int4range(slot, slot, '[]')) FILTER (WHERE open), '{}')::text
                    FROM multiactive.slot WHERE keyspace = $1 AND slot <@ $2::text::int4multirange";

pub(super) async fn take_tail(pg: &Postgres, tail: &Tail, from: &Peer, timeout: Duration) -> Result<TailTaken, Error> {
    let until = Until::new(&pg.server.at, "copying rows", timeout);
    let server = peer::server(pg, from);
    let mut there = server.session().await?;
    there.limit(until.left()?);
    source::demand_rights(pg, &there, from).await?;
    let mut session = pg.server.session().await?;
    session.limit(until.left()?);
    demand_rights(&session, from).await?;
    // What there is only there would be lost without a word.
    let tables = tables(pg, &session, &there).await?;
    if let Some(table) = tables.iter().find(|table| !table.missing.is_empty()) {
        let (name, missing) = (&table.sharded.name, table.missing.join(", "));
        let why = format!("table {name} has column {missing} there, and not here: add it here too");
        return Err(refused(from, why));
    }
    no_others(pg, &there, from).await?;
    as_a_link(pg, &session).await?;
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL session_replication_role = replica",
        until.left()?.as_millis().max(1)
    );
    session.batch("beginning a copy", &begin).await?;
    let here = hold_cut(pg, &session, tail, from).await?;
    prepare_snapshot(pg, &there, &until).await?;
    take_snapshot(&there).await?;
    let theirs = offered(pg, &there, tail, from).await?;
    if super::wait::lsn(&theirs)? <= super::wait::lsn(&here)? {
        return Ok(TailTaken::default());
    }
    let mut taken = TailTaken {
        upto: Some(theirs.clone()),
        ..TailTaken::default()
    };
    for table in &tables {
        session.limit(until.left()?);
        there.limit(until.left()?);
        let slots = differ(pg, (&session, &there), table, &tail.slots).await?;
        if slots.is_empty() {
            continue;
        }
        let (written, removed) = replace(pg, (&session, &there), table, &slots).await?;
        taken.written += written;
        taken.removed += removed;
        taken.slots = taken.slots.union(&slots);
    }
    let sql = "UPDATE multiactive.cut SET repaired = $2::text::pg_lsn WHERE from_unit = $1";
    session
        .change("noting what was taken over", sql, &[&tail.lost.as_str(), &theirs])
        .await?;
    session.batch("ending a copy", "COMMIT").await?;
    tracing::warn!(at = %pg.server.at, from = %from.unit, lost = %tail.lost, slots = %taken.slots, written = taken.written,
                   removed = taken.removed, upto = theirs, "what it had received more was taken over");
    Ok(taken)
}

/// Holds the cut and the slots as they are until the end of the transaction; how far the lost unit's log is here.
async fn hold_cut(pg: &Postgres, session: &Session<'_>, tail: &Tail, from: &Peer) -> Result<String, Error> {
    let sql = format!("{REACHED} FOR UPDATE");
    let rows = session.rows("looking at a cut", &sql, &[&tail.lost.as_str()]).await?;
    let Some(row) = rows.first() else {
        return Err(Error::NotCut {
            from: tail.lost.clone(),
        });
    };
    let held = pair(row.get(1), row.get(2));
    if held > tail.epoch {
        let asked = tail.epoch;
        return Err(Error::Overtaken { held, asked });
    }
    let (term, number) = numbers(tail.epoch);
    let sql = "SELECT FROM multiactive.reached WHERE op = $1 AND (term, epoch) >= ($2, $3)";
    let reached = session
        .rows("looking for what is reached", sql, &[&tail.op.as_str(), &term, &number])
        .await?;
    if !reached.is_empty() {
        let why = format!("operation {} goes on without its rows", tail.op);
        return Err(refused(from, why));
    }
    keep_closed(pg, session, &tail.slots).await?;
    let open = open_here(pg, session).await?.intersection(&tail.slots);
    match open.is_empty() {
        true => Ok(row.get(0)),
        false => Err(refused(from, format!("slots {open} are open here"))),
    }
}

/// Refuses where the survivor shares tables that are not shared here.
async fn no_others(pg: &Postgres, there: &Session<'_>, from: &Peer) -> Result<(), Error> {
    let sql = r#"SELECT min(t.name) FROM (
                     SELECT schemaname, format('"%s"."%s"', replace(schemaname::text, '"', '""'),
                                               replace(tablename::text, '"', '""')) AS name
                     FROM pg_publication_tables WHERE pubname = $1) t
                 WHERE t.schemaname <> 'multiactive' AND t.name <> ALL ($2::text[])"#;
    let known: Vec<_> = pg.spec.tables.iter().map(|table| qualified(&table.name)).collect();
    let publication = names::publication(&pg.spec);
    let row = there
        .row("looking at the peer's tables", sql, &[&publication, &known])
        .await?;
    match row.get::<_, Option<String>>(0) {
        Some(table) => Err(refused(
            from,
            format!("table {table} is in the store there, and not here"),
        )),
        None => Ok(()),
    }
}

/// How far the survivor has the lost unit's log, in this session's snapshot.
async fn offered(pg: &Postgres, there: &Session<'_>, tail: &Tail, from: &Peer) -> Result<String, Error> {
    let rows = there
        .rows("looking at the peer's cut", REACHED, &[&tail.lost.as_str()])
        .await?;
    let Some(row) = rows.first() else {
        return Err(refused(from, format!("{} is not cut off there", tail.lost)));
    };
    let (keyspace, slots) = (pg.spec.keyspace.name.as_str(), names::slots(&tail.slots));
    let open = there
        .row("looking at the peer's slots", OPEN, &[&keyspace, &slots])
        .await?;
    let open = names::parse_slots(open.get(0))?;
    match open.is_empty() {
        true => Ok(row.get(0)),
        false => Err(refused(from, format!("slots {open} are open there"))),
    }
}
