//! What a unit that was lost holds alone: the rows that its log changed behind what the new owners got of it.
//!
//! The slot of each link out of here keeps the log that the peer did not confirm. So that log, and nothing else, says what the
//! peer may lack: it is read without being used up. Each key in it is then looked up here and there. A row that is the same
//! in both was received, or repeated; what differs is listed with both versions. A row that the new owner has changed since
//! is listed too: the write here was lost all the same.

use super::connect::Session;
use super::install::slot_of;
use super::names::{self, ident, publication, qualified, table};
use super::pgoutput::{Changed, Damaged, Decoder};
use super::{Postgres, peer};
use crate::driver::{Diverged, Peer, TableSpec};
use crate::error::Error;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::slots::SlotSet;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many changes of the log are read at most: more do not fit into memory, and no person reads them.
const CHANGES: i32 = 1_000_000;

/// How many keys are looked up at once.
const BATCH: usize = 500;

/// How many rows are told.
const TOLD: i64 = 20;

/// What the log keeps back for a slot. PostgreSQL reads it from its beginning each time.
const PEEK: &str = "
    SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1', 'publication_names', $3,
                                                         'origin', 'none')";

const SUMMARY: &str = "
    SELECT (SELECT count(*) FROM multiactive.divergence WHERE op = $1),
           (SELECT extract(epoch FROM max(committed) - min(committed))::float8 FROM multiactive.divergence WHERE op = $1),
           ARRAY(SELECT unlisted FROM multiactive.listed WHERE op = $1 AND unlisted IS NOT NULL ORDER BY owner),
           EXISTS (SELECT FROM multiactive.rejoined WHERE op = $1)";

type Key = BTreeMap<String, String>;

pub(super) async fn diverged(
    pg: &Postgres,
    op: &OperationUid,
    owners: &[(Peer, SlotSet)],
    timeout: Duration,
) -> Result<Diverged, Error> {
    let session = pg.server.session().await?;
    let sql = "SELECT owner FROM multiactive.listed WHERE op = $1";
    let listed = session.rows("looking at what was listed", sql, &[&op.as_str()]).await?;
    let listed: Vec<UnitName> = listed.iter().map(|row| UnitName(row.get(0))).collect();
    session.keep();
    for (owner, slots) in owners.iter().filter(|(owner, _)| !listed.contains(&owner.unit)) {
        list(pg, op, owner, slots, timeout).await?;
    }
    summary(pg, op).await
}

async fn summary(pg: &Postgres, op: &OperationUid) -> Result<Diverged, Error> {
    let session = pg.server.session().await?;
    let row = session
        .row("summing up what was listed", SUMMARY, &[&op.as_str()])
        .await?;
    let sql = "SELECT tab, key::text FROM multiactive.divergence WHERE op = $1 ORDER BY committed, tab, key LIMIT $2";
    let first = session
        .rows("reading what was listed", sql, &[&op.as_str(), &TOLD])
        .await?;
    session.keep();
    let span: Option<f64> = row.get(1);
    Ok(Diverged {
        rows: u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
        span: span.and_then(|span| Duration::try_from_secs_f64(span).ok()),
        first: first.iter().map(|row| (row.get(0), row.get(1))).collect(),
        unlisted: row.get(2),
        rejoined: row.get(3),
    })
}

/// Lists what one owner did not get.
async fn list(pg: &Postgres, op: &OperationUid, owner: &Peer, slots: &SlotSet, timeout: Duration) -> Result<(), Error> {
    let mut session = pg.server.session().await?;
    session.limit(timeout);
    let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", timeout.as_millis().max(1));
    session.batch("listing what differs", &begin).await?;
    let name = names::link(&pg.spec, &pg.spec.unit, &owner.unit);
    let unlisted = match held_back(pg, &session, &name).await? {
        Held::Gone(why) => Some(format!("what {} did not get of it cannot be listed: {why}", owner.unit)),
        Held::Back(changed) => {
            let there = peer::server(pg, owner);
            let there = there.session().await?;
            let mut by_table: BTreeMap<(&str, &str), BTreeMap<&Key, i64>> = BTreeMap::new();
            for change in &changed {
                let keys = by_table.entry((&change.schema, &change.table)).or_default();
                keys.insert(&change.key, change.committed);
            }
            for sharded in &pg.spec.tables {
                let changed = by_table.remove(&table(&sharded.name)).unwrap_or_default();
                let columns = primary_key(&session, sharded).await?;
                let key = |whole: &Key| -> Key {
                    let columns = columns.iter();
                    columns
                        .filter_map(|column| Some((column.clone(), whole.get(column)?.clone())))
                        .collect()
                };
                let keys: BTreeMap<Key, i64> = changed.into_iter().map(|(whole, at)| (key(whole), at)).collect();
                let keys: Vec<(&Key, i64)> = keys.iter().map(|(key, at)| (key, *at)).collect();
                for batch in keys.chunks(BATCH) {
                    note(pg, (&session, &there), op, (owner, slots), sharded, batch).await?;
                }
            }
            None
        }
    };
    let sql = "INSERT INTO multiactive.listed (op, owner, unlisted) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    session
        .change(
            "listing what differs",
            sql,
            &[&op.as_str(), &owner.unit.as_str(), &unlisted],
        )
        .await?;
    session.batch("listing what differs", "COMMIT").await?;
    session.keep();
    Ok(())
}

async fn primary_key(session: &Session<'_>, sharded: &TableSpec) -> Result<Vec<String>, Error> {
    let sql = "SELECT a.attname::text FROM pg_index i
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
               WHERE i.indrelid = to_regclass($1) AND i.indisprimary";
    let rows = session
        .rows("reading the primary key", sql, &[&qualified(&sharded.name)])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What the log keeps back for a slot.
enum Held {
    Back(Vec<Changed>),
    /// It does not any more; why.
    Gone(String),
}

async fn held_back(pg: &Postgres, session: &Session<'_>, slot: &str) -> Result<Held, Error> {
    let sql = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1";
    let known = session.rows("looking at a slot", sql, &[&slot]).await?;
    match known.first().map(|row| row.get::<_, Option<bool>>(0)) {
        None => return Ok(Held::Gone("its slot is gone".to_owned())),
        Some(Some(true)) => return Ok(Held::Gone("the log was dropped, for it had become too long".to_owned())),
        Some(Some(false) | None) => {}
    }
    let rows = session
        .rows(
            "reading what the log keeps back",
            PEEK,
            &[&slot, &CHANGES, &publication(&pg.spec)],
        )
        .await?;
    if i32::try_from(rows.len()).is_ok_and(|rows| rows >= CHANGES) {
        return Ok(Held::Gone(format!("there are more than {CHANGES} changes")));
    }
    let mut decoder = Decoder::default();
    let mut changed = Vec::new();
    for row in rows {
        let message: &[u8] = row.get(0);
        match decoder.read(message) {
            Ok(rows) => changed.extend(rows),
            Err(Damaged) => return Ok(Held::Gone("a message of the log makes no sense".to_owned())),
        }
    }
    Ok(Held::Back(changed))
}

/// Both versions of these keys' rows, where they differ and the slot is the owner's.
async fn note(
    pg: &Postgres,
    (here, there): (&Session<'_>, &Session<'_>),
    op: &OperationUid,
    (owner, slots): (&Peer, &SlotSet),
    sharded: &TableSpec,
    keys: &[(&Key, i64)],
) -> Result<(), Error> {
    let Some((first, _)) = keys.first() else { return Ok(()) };
    let columns: Vec<&String> = first.keys().collect();
    let same: Vec<String> = columns
        .iter()
        .map(|column| format!("t.{0} = r.{0}", ident(column)))
        .collect();
    let (qualified, same) = (qualified(&sharded.name), same.join(" AND "));
    let text: Vec<String> = keys.iter().map(|(key, _)| serde_json::json!(key).to_string()).collect();
    let sql = format!(
        "SELECT k.number::integer, to_jsonb(t)::text FROM unnest($1::text[]) WITH ORDINALITY AS k(key, number)
         CROSS JOIN LATERAL jsonb_populate_record(NULL::{qualified}, k.key::jsonb) r JOIN {qualified} t ON {same}"
    );
    let rows = there.rows("reading the owner's rows", &sql, &[&text]).await?;
    let mut theirs: Vec<Option<String>> = vec![None; keys.len()];
    for row in rows {
        let number = usize::try_from(row.get::<_, i32>(0)).unwrap_or_default();
        if let Some(place) = number.checked_sub(1).and_then(|place| theirs.get_mut(place)) {
            *place = Some(row.get(1));
        }
    }
    let committed: Vec<i64> = keys.iter().map(|(_, committed)| *committed).collect();
    let sql = format!(
        "INSERT INTO multiactive.divergence (op, owner, tab, key, mine, theirs, committed)
         SELECT $1, $2, $3, k.key::jsonb, m.mine, k.theirs::jsonb,
                timestamptz '2000-01-01 00:00:00+00' + k.committed * interval '1 microsecond'
         FROM unnest($4::text[], $5::text[], $6::bigint[]) AS k(key, theirs, committed)
         LEFT JOIN LATERAL (SELECT to_jsonb(t) AS mine FROM {qualified} t,
                                   jsonb_populate_record(NULL::{qualified}, k.key::jsonb) r WHERE {same}) m ON true
         CROSS JOIN LATERAL jsonb_populate_record(NULL::{qualified}, coalesce(m.mine, k.theirs::jsonb, k.key::jsonb)) AS known
         WHERE m.mine IS DISTINCT FROM k.theirs::jsonb
           AND {slot} <@ $7::text::int4multirange
         ON CONFLICT (op, tab, key) DO NOTHING",
        slot = slot_of(&pg.spec, sharded, "known"),
    );
    here.change(
        "listing what differs",
        &sql,
        &[
            &op.as_str(),
            &owner.unit.as_str(),
            &sharded.name.as_str(),
            &text,
            &theirs,
            &committed,
            &names::slots(slots),
        ],
    )
    .await?;
    Ok(())
}
