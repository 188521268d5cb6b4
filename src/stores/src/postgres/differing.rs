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
        let rows = rows(pg, sharded, columns, (&key, &words(&key)), within);
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

/// All rows of a table within a condition: slot, the key as it is `named`, hash, and group.
pub(super) fn rows(
    pg: &Postgres,
    sharded: &TableSpec,
    columns: &[String],
    (key, named): (&[String], &str),
    within: &str,
) -> String {
    format!(
        "(SELECT {} AS slot, {} AS key, {} AS hash, (hashtextextended(ROW({})::text, 0) & {})::int AS sheaf
          FROM {} t WHERE {within})",
        slot_of(&pg.spec, sharded, "t"),
        named,
        hash(sharded, columns),
        of(key),
        GROUPS - 1,
        qualified(&sharded.name),
    )
}

/// These columns of the row `t`.
fn of(columns: &[String]) -> String {
    let each = columns.iter().map(|column| format!("t.{}", ident(column)));
    each.collect::<Vec<_>>().join(", ")
}

/// The key of the row `t` in words: `column=value, …`.
fn words(key: &[String]) -> String {
    let each = key
        .iter()
        .map(|column| format!("{} || t.{}::text", literal(&format!("{column}=")), ident(column)));
    format!("concat_ws(', ', {})", each.collect::<Vec<_>>().join(", "))
}

/// The hash of these columns of the row `t`.
pub(super) fn hash(sharded: &TableSpec, columns: &[String]) -> String {
    let seed = fnv(&qualified(&sharded.name)).cast_signed();
    format!("hashtextextended(ROW({})::text, '{seed}'::bigint)", of(columns))
}

/// The sum of each group.
pub(super) async fn groups(
    session: &Session<'_>,
    rows: &str,
    of: &SlotSet,
) -> Result<BTreeMap<i32, (i64, String)>, Error> {
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
pub(super) async fn keys(session: &Session<'_>, rows: &str, of: &SlotSet, groups: &[i32]) -> Result<Rows<i64>, Error> {
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
