//! Which rows of slots that differ do, of two snapshots that are compared: a few of them, as examples.
//!
//! The rows of a slot may be many. So they are summed in groups, by a hash of their keys, first, and only those of some groups
//! that differ are read.

use super::MySqlFamily;
use super::checksum::{self, Column};
use super::connect::Session;
use super::names::{ident, literal, qualified};
use super::ranges::Range;
use super::snapshot::{self, Table};
use crate::compared::{Difference, Rows, differences, unlike};
use crate::driver::TableSpec;
use crate::error::Error;
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::BTreeMap;

/// How many groups there are.
const GROUPS: u32 = 4096;

/// How many rows are told of each table, at most.
const TOLD: usize = 10;

/// Some of the rows of these slots that differ between here and there, of what was compared.
pub(crate) async fn examples(
    db: &MySqlFamily,
    (here, there): (&mut Session<'_>, &mut Session<'_>),
    Range { table, within }: &Range<'_>,
    slots: &SlotSet,
) -> Result<Vec<Difference>, Error> {
    let Table { sharded, columns, .. } = table;
    let key = snapshot::key(db, here, sharded).await?;
    let rows = rows(db, sharded, columns, &key, within);
    let (ours, theirs) = tokio::try_join!(groups(here, &rows, slots), groups(there, &rows, slots))?;
    let some: Vec<u32> = unlike(&ours, &theirs).map(|(group, ..)| *group).take(TOLD).collect();
    let (ours, theirs) = tokio::try_join!(keys(here, &rows, slots, &some), keys(there, &rows, slots, &some))?;
    Ok(differences(&sharded.name, &ours, &theirs).take(TOLD).collect())
}

/// All rows of a table within a condition: slot, key in words, hash, and group.
pub(crate) fn rows(db: &MySqlFamily, sharded: &TableSpec, columns: &[Column], key: &[String], within: &str) -> String {
    format!(
        "(SELECT r.*, {} AS sheaf
          FROM (SELECT {} AS slot, {} AS words, {} AS hash FROM {} t WHERE {within}) r)",
        group("r.words"),
        checksum::slot_of(db, "t", sharded),
        words(columns, key),
        checksum::hash(db, "t", sharded, columns),
        qualified(&sharded.name, &db.access.database),
    )
}

/// The group of a row whose key is this in words.
pub(crate) fn group(words: &str) -> String {
    format!("CRC32({words}) & {}", GROUPS - 1)
}

/// The key of the row `t` in words: `column=value, …`.
pub(crate) fn words(columns: &[Column], key: &[String]) -> String {
    let words = key.iter().enumerate().map(|(number, column)| {
        let comma = if number == 0 { "" } else { ", " };
        let text = columns.iter().find(|known| known.name == *column);
        let text = text.map_or(format!("CONVERT(t.{} USING utf8mb4)", ident(column)), |known| {
            known.text("t")
        });
        format!("{}, {text}", literal(&format!("{comma}{column}=")))
    });
    format!("CONCAT({})", words.collect::<Vec<_>>().join(", "))
}

/// The sum of each group.
pub(crate) async fn groups(
    session: &mut Session<'_>,
    rows: &str,
    of: &SlotSet,
) -> Result<BTreeMap<u32, (u64, String)>, Error> {
    let sql = format!(
        "SELECT r.sheaf, COUNT(*), CAST(SUM(r.hash) AS CHAR) FROM {rows} r WHERE {} GROUP BY r.sheaf",
        checksum::is_one_of("r.slot", of)
    );
    let found: Vec<(u32, u64, String)> = session.rows("looking for rows that differ", &sql, ()).await?;
    Ok(found
        .into_iter()
        .map(|(sheaf, rows, sum)| (sheaf, (rows, sum)))
        .collect())
}

/// The rows of some groups.
async fn keys(session: &mut Session<'_>, rows: &str, of: &SlotSet, groups: &[u32]) -> Result<Rows<u64>, Error> {
    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
    let sql = format!(
        "SELECT r.words, r.slot, r.hash FROM {rows} r WHERE {} AND r.sheaf IN ({})",
        checksum::is_one_of("r.slot", of),
        if groups.is_empty() {
            "NULL".to_owned()
        } else {
            groups.join(", ")
        }
    );
    let found: Vec<(String, Slot, u64)> = session.rows("reading rows that differ", &sql, ()).await?;
    Ok(found
        .into_iter()
        .map(|(words, slot, hash)| (words, (slot, hash)))
        .collect())
}
