//! Checksums: for each slot the wrapping sum of a 64-bit hash of each row. A sum, so the order of rows does not
//! matter; the hash is seeded with the table's name, so equal rows of two tables differ. Columns are taken by name, in
//! order, so members may have added theirs in another order.

use super::Postgres;
use super::connect::Session;
use super::install::{key, slot_of};
use super::names::{self, fnv, ident, literal, qualified, table};
use crate::driver::{Checksums, KeyRange, TableSpec};
use crate::error::Error;
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;

const COLUMNS: &str = "
    SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
      AND NOT ($3 AND a.attgenerated <> '')
    ORDER BY a.attname COLLATE \"C\"";

pub(super) async fn checksum(
    pg: &Postgres,
    slots: &SlotSet,
    range: &KeyRange,
    timeout: Duration,
) -> Result<Checksums, Error> {
    let mut session = pg.server.session().await?;
    session.limit(timeout);
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}",
        timeout.as_millis().max(1)
    );
    session.batch("comparing rows", &begin).await?;
    let mut sums = nothing(slots);
    for sharded in &pg.spec.tables {
        let columns = columns(&session, sharded, false).await?;
        let within = of_keys(sharded, range);
        of_table(pg, &session, sharded, &columns, slots, &within, &mut sums).await?;
    }
    session.batch("comparing rows", "COMMIT").await?;
    session.keep();
    Ok(sums)
}

/// The sums of slots without rows.
pub(super) fn nothing(slots: &SlotSet) -> Checksums {
    Checksums {
        rows: 0,
        sums: slots.iter().map(|slot| (slot, 0)).collect(),
    }
}

/// The columns of a table, by name; with `written`, only those that can be written.
pub(super) async fn columns(session: &Session<'_>, sharded: &TableSpec, written: bool) -> Result<Vec<String>, Error> {
    let (schema, name) = table(&sharded.name);
    let rows = session
        .rows("reading the columns", COLUMNS, &[&schema, &name, &written])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The condition of all rows of a table.
pub(super) const EVERYTHING: &str = "TRUE";

/// The condition of the rows of `t` whose shard key is in a range.
fn of_keys(sharded: &TableSpec, KeyRange { from, to }: &KeyRange) -> String {
    let key = key("t", sharded);
    let bound = |sign: &str, text: &String| format!("{key} COLLATE \"C\" {sign} {}", literal(text));
    let (from, to) = (
        from.iter().map(|from| bound(">=", from)),
        to.iter().map(|to| bound("<", to)),
    );
    let both: Vec<_> = [EVERYTHING.to_owned()].into_iter().chain(from).chain(to).collect();
    both.join(" AND ")
}

/// Adds the rows of one table within this condition of `t`, of which these columns count, to the sums of `slots`.
pub(super) async fn of_table(
    pg: &Postgres,
    session: &Session<'_>,
    sharded: &TableSpec,
    columns: &[String],
    slots: &SlotSet,
    within: &str,
    sums: &mut Checksums,
) -> Result<(), Error> {
    let sql = sum(sharded, columns, &slot_of(&pg.spec, sharded, "t"), within);
    for row in session.rows("summing rows", &sql, &[&names::slots(slots)]).await? {
        add(sums, &row)?;
    }
    Ok(())
}

/// One pass over what is within the condition. The two halves of a hash are summed apart, in integers that cannot overflow.
fn sum(sharded: &TableSpec, columns: &[String], slot: &str, within: &str) -> String {
    let columns: Vec<_> = columns.iter().map(|column| format!("t.{}", ident(column))).collect();
    let seed = fnv(&qualified(&sharded.name)).cast_signed();
    format!(
        "SELECT slot, count(*), sum(hash >> 32)::text, sum(hash & 4294967295)::text
         FROM (SELECT {slot} AS slot,
                      hashtextextended(ROW({})::text, '{seed}'::bigint) AS hash
               FROM {} t WHERE {within}) AS hashed
         WHERE slot <@ $1::text::int4multirange GROUP BY slot",
        columns.join(", "),
        qualified(&sharded.name),
    )
}

pub(super) fn add(sums: &mut Checksums, row: &Row) -> Result<(), Error> {
    let number = |column| {
        let text: String = row.get(column);
        text.parse::<i128>().map_err(|_| Error::Malformed {
            what: "sum",
            value: text,
        })
    };
    let total = (number(2)? << 32) + number(3)?;
    // Wrapping to 64 bits is the sum's definition.
    let total = u64::try_from(total.rem_euclid(1 << 64)).unwrap_or_default();
    let slots: &mut BTreeMap<Slot, u64> = &mut sums.sums;
    if let Some(sum) = Slot::try_from(row.get::<_, i32>(0))
        .ok()
        .and_then(|slot| slots.get_mut(&slot))
    {
        *sum = sum.wrapping_add(total);
        sums.rows += u64::try_from(row.get::<_, i64>(1)).unwrap_or_default();
    }
    Ok(())
}
