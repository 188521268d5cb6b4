//! The receiving side of a copy of rows: what differs is found by sums and copied, in one transaction.
//!
//! Rows come as a stream into a table that nobody else sees, so that none is held in memory; what differs is then replaced
//! by two statements. Rows that are equal stay as they are. What differs is deleted before anything is inserted, so that rows
//! may have exchanged values that must be unique.

use super::connect::Session;
use super::install::slot_of;
use super::names::{self, ident, literal, qualified, short};
use super::noted::begin;
use super::reseed::{Table, open_here};
use super::source::{Frozen, Until};
use super::{Postgres, checksum, links};
use crate::driver::{Peer, Reseeded};
use crate::error::Error;
use multiactive_core::slots::SlotSet;
use tokio_postgres::types::ToSql;

/// Where the peer's rows wait.
const COPIED: &str = "multiactive.copied";

/// What is copied, and from where.
pub(super) struct Job<'a> {
    pub(super) pg: &'a Postgres,
    pub(super) from: &'a Peer,
    /// The link's name.
    pub(super) name: &'a str,
    /// The peer, in its snapshot.
    pub(super) there: &'a Session<'a>,
    pub(super) frozen: &'a Frozen,
    pub(super) tables: &'a [Table<'a>],
    pub(super) until: &'a Until,
}

/// The link's own gap ends, or is that of the slots $2, in the words $3. A gap that only a person can judge stays.
const SETTLE: &str = "
    UPDATE multiactive.link SET anew = NULL,
        gap = CASE WHEN sound IS NULL THEN gap WHEN NOT isempty($2::text::int4multirange) THEN $3 END,
        lacking = CASE WHEN sound IS NOT NULL AND NOT isempty($2::text::int4multirange) THEN $2::text::int4multirange END,
        sound = CASE WHEN NOT isempty($2::text::int4multirange) THEN sound END
    WHERE name = $1";

/// What other links lack of the slots $2 is here now.
const SETTLE_OTHERS: &str = "
    UPDATE multiactive.link l
    SET lacking = nullif(n.lacking, '{}'), gap = CASE WHEN NOT isempty(n.lacking) THEN l.gap END,
        sound = CASE WHEN NOT isempty(n.lacking) THEN l.sound END
    FROM (SELECT name, lacking - $2::text::int4multirange AS lacking FROM multiactive.link
          WHERE name <> $1 AND gap IS NOT NULL AND sound IS NOT NULL AND lacking IS NOT NULL) n
    WHERE l.name = n.name";

/// What the peer itself says of its rows, $2, is its link's gap, unless it says so already.
const HEED: &str = "
    SELECT multiactive.add_gap(l.from_unit, b.words) FROM unnest($2::text[]) AS b(words), multiactive.link l
    WHERE l.name = $1 AND strpos(coalesce(l.gap, ''), b.words) = 0";

/// Copies what differs and says that the link begins behind it.
pub(super) async fn copy(job: &Job<'_>) -> Result<Reseeded, Error> {
    let Job {
        pg,
        from,
        name,
        frozen,
        until,
        ..
    } = job;
    let mut session = pg.server.session().await?;
    session.limit(until.left()?);
    as_a_link(pg, &session).await?;
    let begin_copy = format!(
        "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL session_replication_role = replica;
         SELECT pg_advisory_xact_lock(27969, 1004)",
        until.left()?.as_millis().max(1)
    );
    session.batch("beginning a copy", &begin_copy).await?;
    if links::exists(&session, name).await? {
        return Err(refused(job, "its link was made again meanwhile".to_owned()));
    }
    let mut reseeded = Reseeded {
        open: frozen.seen.open.clone(),
        cuts: frozen.applied.clone(),
        ..Reseeded::default()
    };
    let closed = frozen.seen.closed.difference(&open_here(pg, &session).await?);
    for table in job.tables {
        session.limit(until.left()?);
        let all = frozen.seen.open.union(&closed);
        let differ = differ(pg, (&session, job.there), table, &all).await?;
        reseeded.left = reseeded.left.union(&differ.intersection(&closed));
        let slots = differ.intersection(&frozen.seen.open);
        if slots.is_empty() {
            continue;
        }
        keep_closed(pg, &session, &slots).await?;
        let both = open_here(pg, &session).await?.intersection(&frozen.seen.open);
        if !both.is_empty() {
            return Err(refused(job, format!("slots {both} are open here and there")));
        }
        let (written, removed) = replace(pg, (&session, job.there), table, &slots).await?;
        reseeded.written += written;
        reseeded.removed += removed;
        reseeded.slots = reseeded.slots.union(&slots);
    }
    begin(&session, name, &frozen.place, false).await?;
    settle(job, &session, &reseeded).await?;
    session.batch("ending a copy", "COMMIT").await?;
    tracing::debug!(from = %from.unit, place = frozen.place, "rows are as at the peer");
    Ok(reseeded)
}

fn refused(job: &Job<'_>, why: String) -> Error {
    Error::NotCopied {
        from: job.from.unit.clone(),
        why,
    }
}

/// From now on no link out of here takes what this session writes. The origin stays: making it is not undone by a crash, and
/// there is one for each store, so that one copy runs at a time.
pub(super) async fn as_a_link(pg: &Postgres, session: &Session<'_>) -> Result<(), Error> {
    let origin = literal(&short(
        "multiactive_copy",
        &[&pg.spec.namespace, pg.spec.store.as_str()],
    ));
    let sql = format!(
        "SELECT pg_replication_origin_create({origin})
         WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = {origin});
         SELECT pg_replication_origin_session_setup({origin})"
    );
    session.batch("writing as a link does", &sql).await
}

/// The slots whose rows in one table differ.
pub(super) async fn differ(
    pg: &Postgres,
    (session, from): (&Session<'_>, &Session<'_>),
    table: &Table<'_>,
    slots: &SlotSet,
) -> Result<SlotSet, Error> {
    let (mut here, mut there) = (checksum::nothing(slots), checksum::nothing(slots));
    let within = checksum::EVERYTHING;
    let Table { sharded, columns, .. } = table;
    tokio::try_join!(
        checksum::of_table(pg, session, sharded, columns, slots, within, &mut here),
        checksum::of_table(pg, from, sharded, columns, slots, within, &mut there),
    )?;
    Ok(here.differing(&there))
}

/// Sees to it that none of these slots opens or closes here before the end.
pub(super) async fn keep_closed(pg: &Postgres, session: &Session<'_>, slots: &SlotSet) -> Result<(), Error> {
    let sql = "SELECT slot FROM multiactive.slot
               WHERE keyspace = $1 AND slot <@ $2::text::int4multirange ORDER BY slot FOR SHARE";
    let (keyspace, slots) = (pg.spec.keyspace.name.as_str(), &names::slots(slots));
    session.rows("holding slots", sql, &[&keyspace, slots]).await.map(drop)
}

/// Replaces the rows of these slots that differ; how many were written, and how many of those that were removed the peer has
/// not.
pub(super) async fn replace(
    pg: &Postgres,
    (session, there): (&Session<'_>, &Session<'_>),
    table: &Table<'_>,
    slots: &SlotSet,
) -> Result<(u64, u64), Error> {
    let name = qualified(&table.sharded.name);
    let of = |alias: &str| {
        let columns = table.columns.iter().map(|column| format!("{alias}{}", ident(column)));
        columns.collect::<Vec<_>>().join(", ")
    };
    let in_slots = format!(
        "{} <@ {}::int4multirange",
        slot_of(&pg.spec, table.sharded, "t"),
        literal(&names::slots(slots))
    );
    let columns = of("");
    let sql = format!("CREATE UNLOGGED TABLE {COPIED} AS SELECT {columns} FROM {name} WITH NO DATA");
    session.batch("copying rows", &sql).await?;
    let into = format!("COPY {COPIED} ({columns}) FROM STDIN");
    let out = format!("COPY (SELECT {} FROM {name} t WHERE {in_slots}) TO STDOUT", of("t."));
    session.copy("copying rows", &into, there, &out).await?;
    session.batch("copying rows", &format!("ANALYZE {COPIED}")).await?;
    let key = key(session, &name).await?;
    let equal = |one: &str, other: &str| {
        let each = key
            .iter()
            .map(|column| format!("{one}.{0} = {other}.{0}", ident(column)));
        each.collect::<Vec<_>>().join(" AND ")
    };
    let keys: Vec<_> = key.iter().map(|column| format!("t.{}", ident(column))).collect();
    let delete = format!(
        "WITH gone AS (
             DELETE FROM {name} t WHERE {in_slots}
                AND NOT EXISTS (SELECT FROM {COPIED} c WHERE {} AND ROW({})::text = ROW({})::text)
             RETURNING {})
         SELECT count(*) FROM gone WHERE NOT EXISTS (SELECT FROM {COPIED} c WHERE {})",
        equal("c", "t"),
        of("c."),
        of("t."),
        keys.join(", "),
        equal("c", "gone"),
    );
    let removed: i64 = session.row("removing rows that differ", &delete, &[]).await?.get(0);
    // A row that is in the way though its slot is another one is an error.
    let insert = format!(
        "INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE
         SELECT {} FROM {COPIED} c WHERE NOT EXISTS (SELECT FROM {name} t WHERE {} AND {in_slots})",
        of("c."),
        equal("c", "t")
    );
    let written = session.change("writing rows", &insert, &[]).await?;
    session.batch("copying rows", &format!("DROP TABLE {COPIED}")).await?;
    Ok((written, u64::try_from(removed).unwrap_or_default()))
}

/// The columns of a table's primary key.
pub(super) async fn key(session: &Session<'_>, table: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT a.attname::text FROM pg_index i
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
               WHERE i.indrelid = to_regclass($1) AND i.indisprimary
               ORDER BY array_position(i.indkey::int2[], a.attnum)";
    let rows = session.rows("reading a primary key", sql, &[&table]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What all that means for the gaps of links, and the heartbeat that the link would have brought.
async fn settle(job: &Job<'_>, session: &Session<'_>, reseeded: &Reseeded) -> Result<(), Error> {
    let Job { from, name, frozen, .. } = job;
    let unit = from.unit.as_str();
    let why = format!(
        "{unit} had closed slots before its rows were copied, and what it wrote to them before may be missing here: they are \
         complete once the rows are copied from who has them open now"
    );
    let left = names::slots(&reseeded.left);
    session.change("settling a gap", SETTLE, &[name, &left, &why]).await?;
    let open = names::slots(&reseeded.open);
    session.change("settling gaps", SETTLE_OTHERS, &[name, &open]).await?;
    session
        .rows("noting a gap", HEED, &[name, &frozen.seen.breaches])
        .await?;
    let sql = "INSERT INTO multiactive.passed (op, owner) SELECT unnest($1::text[]), $2
               ON CONFLICT (op) DO UPDATE SET units = NULL, positions = NULL, surplus = false";
    session
        .change("noting what is here now", sql, &[&frozen.seen.brought, &unit])
        .await?;
    if let Some(marker) = &frozen.marker {
        let sql =
            "INSERT INTO multiactive.marker (unit, op, term, epoch, at) VALUES ($1, $2, $3, $4, $5::text::timestamptz)
                   ON CONFLICT (unit) DO UPDATE
                   SET op = excluded.op, term = excluded.term, epoch = excluded.epoch, at = excluded.at";
        let params: [&(dyn ToSql + Sync); 5] = [&unit, &marker.op, &marker.term, &marker.epoch, &marker.at];
        session.change("noting a heartbeat", sql, &params).await?;
    }
    Ok(())
}
