//! Which rows of slots that differ do, of two snapshots that are compared: a few of them, as examples.
//!
//! The rows of a slot may be many. So they are summed in groups, by a hash of their keys, first, and only those of some groups
//! that differ are read.

use super::connect::Session;
use super::install::slot_of;
use super::names::{fnv, ident, literal, qualified, slots};
use super::reseed::Table;
use super::{Postgres, copy};
use crate::compared::{Difference, Side};
use crate::driver::TableSpec;
use crate::error::Error;
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;

/// How many groups there are.
const GROUPS: u32 = 4096;

/// How many rows are told of each table, at most.
const TOLD: usize = 10;

/// Some of the rows of these slots that differ between here and there.
pub(super) async fn examples(
    pg: &Postgres,
    here: &Session<'_>,
    there: &Session<'_>,
    tables: &[Table<'_>],
    slots: &SlotSet,
) -> Result<Vec<Difference>, Error> {
    let mut all = Vec::new();
    for Table { sharded, columns, .. } in tables {
        let key = copy::key(here, &qualified(&sharded.name)).await?;
        let rows = rows(pg, sharded, columns, &key);
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

/// Whatever is not the same here and there, in order, with what it is at each side.
fn unlike<'a, K: Ord, V: PartialEq>(
    ours: &'a BTreeMap<K, V>,
    theirs: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let keys: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
    let both = keys.into_iter().map(|key| (key, ours.get(key), theirs.get(key)));
    both.filter(|(_, here, there)| here != there)
}

/// Rows by their keys: slot and hash.
type Rows = BTreeMap<String, (Slot, i64)>;

fn differences<'a>(table: &'a str, ours: &'a Rows, theirs: &'a Rows) -> impl Iterator<Item = Difference> + 'a {
    unlike(ours, theirs).filter_map(move |(key, here, there)| {
        let ((slot, _), side) = match (here, there) {
            (Some(here), Some(_)) => (here, Side::Both),
            (Some(here), None) => (here, Side::Here),
            (None, Some(there)) => (there, Side::There),
            (None, None) => return None,
        };
        Some(Difference {
            table: table.to_owned(),
            key: key.clone(),
            slot: *slot,
            side,
        })
    })
}

/// All rows of a table: slot, key in words, hash, and group.
fn rows(pg: &Postgres, sharded: &TableSpec, columns: &[String], key: &[String]) -> String {
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
          FROM {} t)",
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
async fn keys(session: &Session<'_>, rows: &str, of: &SlotSet, groups: &[i32]) -> Result<Rows, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_differ_by_being_here_or_there_or_by_their_values() {
        let ours: Rows = [("id=1", 1), ("id=2", 1), ("id=4", 1)]
            .map(|(key, hash)| (key.to_owned(), (7, hash)))
            .into();
        let theirs: Rows = [("id=1", 1), ("id=2", 2), ("id=3", 1)]
            .map(|(key, hash)| (key.to_owned(), (7, hash)))
            .into();
        let told: Vec<_> = differences("orders", &ours, &theirs)
            .map(|found| (found.key, found.side))
            .collect();
        assert_eq!(
            told,
            [
                ("id=2".to_owned(), Side::Both),
                ("id=3".to_owned(), Side::There),
                ("id=4".to_owned(), Side::Here)
            ]
        );
    }
}
