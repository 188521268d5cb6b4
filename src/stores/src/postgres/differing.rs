//! Which rows of slots that differ do, of two snapshots that are compared: a few of them, as examples.
//!
//! The rows of a slot may be many. So they are summed in groups, by a hash of their keys, first, and only those of some groups
//! that differ are read.

use super::connect::Session;
use super::install::slot_of;
use super::names::{fnv, ident, literal, qualified, slots};
use super::ranges::Range;
use super::reseed::Table;
use super::{Postgres, copy};
use crate::compared::{Difference, Rows, differences, unlike};
use crate::driver::TableSpec;
use crate::error::Error;
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// How many groups there are.
const GROUPS: u32 = 4096;

/// How many rows are told of each table, at most.
const TOLD: usize = 10;

/// Some of the rows of these slots that differ between here and there, of what was compared.
pub(super) async fn examples(
    pg: &Postgres,
    here: &Session<'_>,
    there: &Session<'_>,
    ranges: &[Range<'_>],
    slots: &SlotSet,
) -> Result<Vec<Difference>, Error> {
    let mut all = Vec::new();
    for Range { table, within } in ranges {
        let Table { sharded, columns, .. } = table;
        let key = copy::key(here, &qualified(&sharded.name)).await?;
        let rows = rows(pg, sharded, columns, &key, within);
        let (ours, theirs) = tokio::try_join!(groups(here, &rows, slots), groups(there, &rows, slots))?;
        let some: Vec<i32> = unlike(&ours, &theirs).map(|(group, ..)| *group).take(TOLD).collect();
        if some.is_empty() {
            continue;
        }
        let (ours, theirs) = tokio::try_join!(keys(here, &rows, slots, &some), keys(there, &rows, slots, &some))?;
        all.extend(differences(&sharded.name, &ours, &theirs).take(TOLD));
    }
    Ok(all)
}

/// All rows of a table within a condition: slot, key in words, hash, and group.
fn rows(pg: &Postgres, sharded: &TableSpec, columns: &[String], key: &[String], within: &str) -> String {
    let of = |columns: &[String]| {
        let each = columns.iter().map(|column| format!("t.{}", ident(column)));
        each.collect::<Vec<_>>().join(", ")
    };
    let words: Vec<_> = key
        .iter()
        .map(|column| format!("{} || t.{}::text", literal(&format!("{column}=")), ident(column)))
        .collect();
    format!(
        "(SELECT {} AS slot, concat_ws(', ', {}) AS key,
                 hashtextextended(ROW({})::text, '{}'::bigint) AS hash,
                 (hashtextextended(ROW({})::text, 0) & {})::int AS sheaf
          FROM {} t WHERE {within})",
        slot_of(&pg.spec, sharded, "t"),
        words.join(", "),
        of(columns),
        fnv(&qualified(&sharded.name)).cast_signed(),
        of(key),
        GROUPS - 1,
        qualified(&sharded.name),
    )
}

/// The sum of each group.
async fn groups(session: &Session<'_>, rows: &str, of: &SlotSet) -> Result<BTreeMap<i32, (i64, String)>, Error> {
    let sql = format!(
        "SELECT sheaf, count(*), sum(hash::numeric)::text FROM {rows} r
         WHERE slot <@ $1::text::int4multirange GROUP BY sheaf"
    );
    let found = session
        .rows("looking for rows that differ", &sql, &[&slots(of)])
        .await?;
    Ok(found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// The rows of some groups.
async fn keys(session: &Session<'_>, rows: &str, of: &SlotSet, groups: &[i32]) -> Result<Rows<i64>, Error> {
    let sql = format!(
        "SELECT slot, key, hash FROM {rows} r
         WHERE slot <@ $1::text::int4multirange AND sheaf = ANY ($2)"
    );
    let found = session
        .rows("reading rows that differ", &sql, &[&slots(of), &groups])
        .await?;
    let row = |row: &Row| Some((row.get(1), (Slot::try_from(row.get::<_, i32>(0)).ok()?, row.get(2))));
    Ok(found.iter().filter_map(row).collect())
}
