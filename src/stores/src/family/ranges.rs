//! Parts of the rows of slots: which rows of which tables are in one, by the order of the tables' primary keys.
//!
//! Where a part ends is found at the peer, by the index of the key. Both sides then take the rows up to there, so both must
//! put keys in the same order: by columns of the same types, and texts by the same collation. A table of which that is not known
//! is compared in one go.

use super::connect::Session;
use super::keys::{Column, Key, Stands, key};
use super::names::qualified;
use super::snapshot::Table;
use super::{MySqlFamily, checksum};
use crate::compared::{Begins, begins};
use crate::driver::{Part, Place};
use crate::error::Error;
use multiactive_core::slots::SlotSet;

/// The rows of a table that are compared.
pub(crate) struct Range<'a> {
    pub(crate) table: &'a Table<'a>,
    /// The condition that they meet, of `t`.
    pub(crate) within: String,
}

/// What is compared: all rows of the tables, or those of a part, and where it ends.
pub(crate) async fn of<'a>(
    db: &MySqlFamily,
    (here, there): (&mut Session<'_>, &mut Session<'_>),
    tables: &'a [Table<'a>],
    slots: &SlotSet,
    part: Option<&Part>,
) -> Result<(Vec<Range<'a>>, Option<Place>), Error> {
    let everything = |table| Range {
        table,
        within: checksum::EVERYTHING.to_owned(),
    };
    let Some(part) = part else {
        return Ok((tables.iter().map(everything).collect(), None));
    };
    let mut sorted: Vec<&Table<'_>> = tables.iter().collect();
    sorted.sort_by(|a, b| a.sharded.name.cmp(&b.sharded.name));
    let (mut ranges, mut left) = (Vec::new(), part.rows.max(1));
    let last = sorted.last().map(|table| &table.sharded.name);
    for table in sorted.iter().copied() {
        let name = &table.sharded.name;
        let (ours, theirs) = (key(db, here, name).await?, key(db, there, name).await?);
        let key = theirs.filter(|key| ours.as_ref() == Some(key));
        let order = key.as_ref().map(Key::order);
        let after = match begins(part.after.as_ref(), name, order.as_deref()) {
            Begins::Behind => continue,
            Begins::First => None,
            Begins::After(after) => {
                Some(after).filter(|after| key.as_ref().is_some_and(|key| key.0.len() == after.len()))
            }
        };
        let Some(key) = key else {
            ranges.push(everything(table));
            let whole = Place {
                table: name.clone(),
                ..Place::default()
            };
            return Ok((ranges, (last != Some(name)).then_some(whole)));
        };
        let begin = after.map_or(checksum::EVERYTHING.to_owned(), |after| {
            key.compared(Stands::Behind, after)
        });
        match rest(db, there, table, &key, (slots, &begin), left).await? {
            Rest::Until(last) => {
                let within = format!("{begin} AND {}", key.compared(Stands::UpTo, &last));
                ranges.push(Range { table, within });
                let place = Place {
                    table: name.clone(),
                    order: key.order(),
                    key: last,
                };
                return Ok((ranges, Some(place)));
            }
            Rest::All(rows) => left = left.saturating_sub(rows).max(1),
        }
        ranges.push(Range { table, within: begin });
    }
    Ok((ranges, None))
}

/// What is left of a table.
enum Rest {
    /// So many rows that a part ends behind this key.
    Until(Vec<String>),
    /// So many rows.
    All(u64),
}

/// What there is in the snapshot of `there` behind `begin`.
async fn rest(
    db: &MySqlFamily,
    there: &mut Session<'_>,
    Table { sharded, .. }: &Table<'_>,
    key: &Key,
    (slots, begin): (&SlotSet, &str),
    left: u64,
) -> Result<Rest, Error> {
    // The rows lie in the order of this index: nothing finds them sooner.
    let rows = format!(
        "FROM {} t FORCE INDEX (PRIMARY) WHERE {begin} AND {}",
        qualified(&sharded.name, &db.access.database),
        checksum::is_one_of(&checksum::slot_of(db, "t", sharded), slots),
    );
    let sql = format!(
        "SELECT JSON_ARRAY({}) {rows} ORDER BY {} LIMIT 1 OFFSET {}",
        key.each(Column::text),
        key.each(Column::of),
        left.saturating_sub(1)
    );
    let found: Vec<String> = there.rows("looking where a part ends", &sql, ()).await?;
    if let Some(text) = found.first() {
        let last = serde_json::from_str(text).map_err(|_| Error::Malformed {
            what: "key",
            value: text.clone(),
        })?;
        return Ok(Rest::Until(last));
    }
    let sql = format!("SELECT COUNT(*) {rows}");
    Ok(Rest::All(there.row("counting rows", &sql, ()).await?))
}
