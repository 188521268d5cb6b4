//! Checksums: for each slot the wrapping sum of a 64-bit hash of each row. A sum, so the order of rows does not
//! matter; the hash is seeded with the table's name, so equal rows of two tables differ. Columns are taken by name, in
//! order, so members may have added theirs in another order.

use super::Postgres;
use super::install::slot_function;
use super::names::{fnv, ident, qualified, table};
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
    let mut sums = Checksums {
        rows: 0,
        sums: slots.iter().map(|slot| (slot, 0)).collect(),
    };
    let ranges: Vec<_> = slots
        .ranges()
        .iter()
        .map(|(first, last)| format!("[{first},{last}]"))
        .collect();
    let ranges = format!("{{{}}}", ranges.join(","));
    for sharded in &pg.spec.tables {
        let (schema, name) = table(&sharded.name);
        let columns = session.rows("reading the columns", COLUMNS, &[&schema, &name]).await?;
        let sql = sum(sharded, &columns, &ident(&slot_function(&pg.spec.keyspace)));
        for row in session
            .rows("summing rows", &sql, &[&ranges, &range.from, &range.to])
            .await?
        {
            add(&mut sums, &row)?;
        }
    }
    session.batch("comparing rows", "COMMIT").await?;
    session.keep();
    Ok(sums)
}

/// One pass over the table. The two halves of a hash are summed apart, in integers that cannot overflow.
fn sum(sharded: &TableSpec, columns: &[Row], slot_function: &str) -> String {
    let columns: Vec<_> = columns.iter().map(|row| format!("t.{}", ident(row.get(0)))).collect();
    let seed = fnv(&qualified(&sharded.name)).cast_signed();
    let key = format!("t.{}::text", ident(&sharded.shard_key));
    format!(
        "SELECT slot, count(*), sum(hash >> 32)::text, sum(hash & 4294967295)::text
         FROM (SELECT multiactive.{slot_function}({key}) AS slot,
                      hashtextextended(ROW({})::text, '{seed}'::bigint) AS hash
               FROM {} t
               WHERE ($2::text IS NULL OR {key} COLLATE \"C\" >= $2)
                 AND ($3::text IS NULL OR {key} COLLATE \"C\" < $3)) AS hashed
         WHERE slot <@ $1::text::int4multirange GROUP BY slot",
        columns.join(", "),
        qualified(&sharded.name),
    )
}

fn add(sums: &mut Checksums, row: &Row) -> Result<(), Error> {
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
