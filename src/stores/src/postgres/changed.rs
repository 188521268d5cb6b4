//! Comparing only what changed since rows were found equal, by the transactions that wrote them.
//!
//! Each row carries the transaction that wrote it (`xmin`). Before rows are compared, both databases note the oldest transaction that
//! still runs there: a horizon. A row that was written before its horizon was there when the rows were compared, and is as it was then.
//! So of rows that are older at both sides only the keys are hashed, which finds those that are missing at one of them; of rows that
//! are younger at one side or the other all columns are, at both. Whatever changes a row makes it younger: writes past the fence and
//! past the links too.
//!
//! A horizon counts only in the server that took it, while numbers of transactions have not come around, and for tables that are the
//! same: what else may show other rows, or show rows otherwise, is their shape. Where there is none, all rows are compared.

use super::connect::Session;
use super::install::slot_of;
use super::names::{self, fnv, ident, qualified};
use super::ranges::Range;
use super::reseed::Table;
use super::{Postgres, checksum, copy, peer};
use crate::driver::{Checksums, Horizon, Peer};
use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use std::collections::BTreeSet;
use tokio_postgres::types::ToSql;

/// How many rows of a range may have changed: of more, all are compared.
const MOST: usize = 50_000;

/// Whether horizons can be taken: not by an agent of before, and not without the role that may read rows.
const MAY_TAKE: &str = "
    SELECT coalesce(has_function_privilege(to_regprocedure('multiactive.take_horizon(text)'), 'EXECUTE')
                    AND has_function_privilege(to_regprocedure('multiactive.timeline()'), 'EXECUTE')
                    AND has_table_privilege(to_regclass('multiactive.horizon'), 'SELECT'), false)";

/// In one word: the tables with their partitions and heirs, each as it was named, attached and keyed last, with its columns; and the
/// words of all enums and the parts of composite types, which rows show and do not hold. Each by what the catalog says of it now, and
/// by which transaction it says so, for it may have said something else in between. Null where rows do not say when they were written,
/// or show names of other things.
const SHAPE: &str = "
    WITH RECURSIVE tree (relid, attached) AS (
        SELECT to_regclass(n)::oid, '' FROM unnest($1::text[]) n
        UNION SELECT i.inhrelid, i.xmin::text FROM pg_inherits i JOIN tree t ON i.inhparent = t.relid)
    SELECT CASE WHEN s.sound AND k.sound THEN hashtextextended(concat_ws(';', s.tables, e.words, k.parts), 0)::text END
    FROM (SELECT string_agg(concat_ws('/', t.relid, t.attached, c.xmin, c.relkind, i.indkey, a.attnum, a.attname, a.atttypid, a.attgenerated, a.xmin),
                            ',' ORDER BY t.relid, t.attached, a.attnum) AS tables,
                 bool_and(coalesce(m.amname = 'heap' OR c.relkind = 'p', false) AND i.indkey IS NOT NULL
                          AND coalesce(b.typname, y.typname) !~ '^_?reg') AS sound,
                 array_agg(y.oid) || array_agg(y.typelem) || array_agg(y.typbasetype) AS types
          FROM tree t JOIN pg_class c ON c.oid = t.relid LEFT JOIN pg_am m ON m.oid = c.relam
          LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = y.typbasetype) s,
         (SELECT string_agg(concat_ws('/', oid, enumlabel, xmin), ',' ORDER BY oid) AS words FROM pg_enum) e,
         LATERAL (SELECT string_agg(concat_ws('/', a.attrelid, a.attnum, a.attname, a.atttypid, a.xmin), ',' ORDER BY a.attrelid, a.attnum) AS parts,
                         coalesce(bool_and(y.typname !~ '^_?reg'), true) AS sound
                  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type y ON y.oid = a.atttypid
                  WHERE c.relkind = 'c' OR (c.reltype <> 0 AND c.reltype = ANY (s.types))) k";

/// A horizon that counts: in this server, and a billion transactions later at most, of the two that come around.
macro_rules! counts {
    ($before:literal, $behind:literal) => {
        concat!(
            $before,
            " h.server = multiactive.timeline()
              AND pg_snapshot_xmax(pg_current_snapshot())::text::numeric - h.oldest::text::numeric BETWEEN 0 AND 1000000000 ",
            $behind
        )
    };
}

/// What was found equal with $1, of these slots all.
const EQUAL: &str = counts!(
    "SELECT h.oldest::xid::text, e.there, e.shape, e.shape_there, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
     FROM multiactive.found_equal e JOIN multiactive.horizon h ON h.id = e.here
     WHERE e.owner = $1 AND e.slots @> $2::text::int4multirange AND",
    "ORDER BY e.at DESC"
);

/// The horizon $1.
const THERE: &str = counts!(
    "SELECT h.oldest::xid::text FROM multiactive.horizon h WHERE h.id = $1 AND",
    ""
);

/// Since when rows count as changed, here and there.
pub(super) struct Since {
    here: String,
    there: String,
    /// When the rows were found equal, in words.
    pub(super) at: String,
}

/// Takes a horizon here and at a peer; `None` where one of the two cannot.
pub(super) async fn take(pg: &Postgres, from: &Peer) -> Result<Option<Horizon>, Error> {
    let there = peer::server(pg, from);
    let (ours, theirs) = (pg.server.session().await?, there.session().await?);
    let horizon = match (may_take(pg, &ours).await?, may_take(pg, &theirs).await?) {
        (Some(shape), Some(shape_there)) => {
            // First here: where the owner is restored from before this, what it wrote since its own horizon is younger here, too.
            let here = take_in(&ours, &from.unit).await?;
            let there = take_in(&theirs, &pg.spec.unit).await?;
            Some(Horizon {
                here: (here, shape),
                there: (there, shape_there),
            })
        }
        (None, _) | (_, None) => None,
    };
    ours.keep();
    theirs.keep();
    Ok(horizon)
}

/// The shape of the tables, where a horizon can be taken.
async fn may_take(pg: &Postgres, session: &Session<'_>) -> Result<Option<String>, Error> {
    let may = session.row("looking at our rights", MAY_TAKE, &[]).await?;
    match may.get::<_, bool>(0) {
        true => shape(pg, session).await,
        false => Ok(None),
    }
}

/// Takes one: its name.
async fn take_in(session: &Session<'_>, with: &UnitName) -> Result<String, Error> {
    let sql = "SELECT multiactive.take_horizon($1)";
    Ok(session.row("taking a horizon", sql, &[&with.as_str()]).await?.get(0))
}

async fn shape(pg: &Postgres, session: &Session<'_>) -> Result<Option<String>, Error> {
    let tables: Vec<_> = pg.spec.tables.iter().map(|table| qualified(&table.name)).collect();
    let row = session.row("looking at the tables", SHAPE, &[&tables]).await?;
    Ok(row.get(0))
}

/// Notes that these slots were equal in a comparison that began behind the horizon, or without one that they were not. What is known of
/// others stays.
pub(super) async fn remember(
    pg: &Postgres,
    from: &UnitName,
    slots: &SlotSet,
    horizon: Option<&Horizon>,
) -> Result<(), Error> {
    let session = pg.server.session().await?;
    let Some(horizon) = horizon else {
        let sql = "DELETE FROM multiactive.found_equal WHERE owner = $1 AND slots && $2::text::int4multirange";
        let params: [&(dyn ToSql + Sync); 2] = [&from.as_str(), &names::slots(slots)];
        session.change("forgetting what was found equal", sql, &params).await?;
        session.keep();
        return Ok(());
    };
    let (here, there) = (&horizon.here, &horizon.there);
    let sql =
        "WITH gone AS (DELETE FROM multiactive.found_equal e WHERE (e.owner = $1 AND e.slots <@ $2::text::int4multirange)
                                OR NOT EXISTS (SELECT FROM multiactive.horizon h WHERE h.id = e.here))
               INSERT INTO multiactive.found_equal (owner, slots, here, there, shape, shape_there)
               VALUES ($1, $2::text::int4multirange, $3, $4, $5, $6)";
    let params: [&(dyn ToSql + Sync); 6] = [
        &from.as_str(),
        &names::slots(slots),
        &here.0,
        &there.0,
        &here.1,
        &there.1,
    ];
    session.change("noting what was found equal", sql, &params).await?;
    session.keep();
    Ok(())
}

/// Since when rows of these slots count as changed, by these two snapshots; `None` where that is not known.
pub(super) async fn since(
    pg: &Postgres,
    (ours, theirs): (&Session<'_>, &Session<'_>),
    from: &UnitName,
    slots: &SlotSet,
) -> Result<Option<Since>, Error> {
    let found = ours
        .rows(
            "looking what was found equal",
            EQUAL,
            &[&from.as_str(), &names::slots(slots)],
        )
        .await?;
    let may = theirs.row("looking at our rights", MAY_TAKE, &[]).await?;
    if found.is_empty() || !may.get::<_, bool>(0) {
        return Ok(None);
    }
    let (Some(here), Some(there)) = (shape(pg, ours).await?, shape(pg, theirs).await?) else {
        return Ok(None);
    };
    for row in found {
        let (was, was_there): (String, String) = (row.get(2), row.get(3));
        if (&was, &was_there) != (&here, &there) {
            continue;
        }
        let id: String = row.get(1);
        if let Some(horizon) = theirs.rows("looking at a horizon", THERE, &[&id]).await?.first() {
            return Ok(Some(Since {
                here: row.get(0),
                there: horizon.get(0),
                at: row.get(4),
            }));
        }
    }
    Ok(None)
}

/// Adds the rows of a range to the sums of both sides: those that changed at one of them with all their columns, the others by their
/// keys. How many changed; `None`, and nothing is added, where they are too many, or the keys are not the same.
pub(super) async fn of_range(
    pg: &Postgres,
    (ours, theirs): (&Session<'_>, &Session<'_>),
    range: &Range<'_>,
    slots: &SlotSet,
    since: &Since,
    (here, there): (&mut Checksums, &mut Checksums),
) -> Result<Option<u64>, Error> {
    let name = qualified(&range.table.sharded.name);
    let (mut key, mut theirs_key) = (copy::key(ours, &name).await?, copy::key(theirs, &name).await?);
    key.sort();
    theirs_key.sort();
    if key.is_empty() || key != theirs_key {
        return Ok(None);
    }
    let (some, others) = tokio::try_join!(
        young(pg, ours, range, &key, slots, &since.here),
        young(pg, theirs, range, &key, slots, &since.there),
    )?;
    if some.len() > MOST || others.len() > MOST {
        return Ok(None);
    }
    let changed: Vec<String> = some
        .into_iter()
        .chain(others)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let sql = sum(pg, range, &key);
    let params: [&(dyn ToSql + Sync); 2] = [&names::slots(slots), &changed];
    let (of_ours, of_theirs) = tokio::try_join!(
        ours.rows("summing rows", &sql, &params),
        theirs.rows("summing rows", &sql, &params),
    )?;
    for (sums, rows) in [(here, of_ours), (there, of_theirs)] {
        for row in &rows {
            checksum::add(sums, row)?;
        }
    }
    Ok(Some(u64::try_from(changed.len()).unwrap_or(u64::MAX)))
}

/// The keys of rows that are younger than a horizon, or of which it is not known; one more than may be at most.
async fn young(
    pg: &Postgres,
    session: &Session<'_>,
    Range { table, within }: &Range<'_>,
    key: &[String],
    slots: &SlotSet,
    horizon: &str,
) -> Result<Vec<String>, Error> {
    let Table { sharded, .. } = table;
    let sql = format!(
        "SELECT {} FROM {} t WHERE {within} AND (age(t.xmin) <= age($2::text::xid) OR age(t.xmin) = 2147483647) AND {} <@ $1::text::int4multirange LIMIT {}",
        words(key),
        qualified(&sharded.name),
        slot_of(&pg.spec, sharded, "t"),
        MOST + 1,
    );
    let rows = session
        .rows("looking for rows that changed", &sql, &[&names::slots(slots), &horizon])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A key of `t` as one text.
fn words(key: &[String]) -> String {
    let columns: Vec<_> = key.iter().map(|column| format!("t.{}", ident(column))).collect();
    format!("ROW({})::text", columns.join(", "))
}

/// As `checksum` sums rows, but that of those whose keys are not among $2 only the keys count.
fn sum(pg: &Postgres, Range { table, within }: &Range<'_>, key: &[String]) -> String {
    let Table { sharded, columns, .. } = table;
    let columns: Vec<_> = columns.iter().map(|column| format!("t.{}", ident(column))).collect();
    let seed = |of: &str| fnv(&format!("{}{of}", qualified(&sharded.name))).cast_signed();
    format!(
        "SELECT slot, count(*), sum(hash >> 32)::text, sum(hash & 4294967295)::text
         FROM (SELECT {} AS slot,
                      CASE WHEN c.key IS NULL THEN hashtextextended({words}, '{}'::bigint)
                           ELSE hashtextextended(ROW({})::text, '{}'::bigint) END AS hash
               FROM {} t LEFT JOIN unnest($2::text[]) AS c(key) ON c.key COLLATE \"C\" = {words} COLLATE \"C\"
               WHERE {within}) AS hashed
         WHERE slot <@ $1::text::int4multirange GROUP BY slot",
        slot_of(&pg.spec, sharded, "t"),
        seed(" by key"),
        columns.join(", "),
        seed(""),
        qualified(&sharded.name),
        words = words(key),
    )
}
