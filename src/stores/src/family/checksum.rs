//! Checksums: for each slot the wrapping sum of a 64-bit hash of each row. A sum, so the order of rows does not matter; the hash
//! begins with the table's name, so equal rows of two tables differ. Columns are taken by name, in order, so members may have
//! added theirs in another order.

use super::MySqlFamily;
use super::connect::Session;
use super::install::slot_expression;
use super::names::{ident, literal, qualified, table};
use crate::driver::{Checksums, KeyRange, TableSpec};
use crate::error::Error;
use multiactive_core::slots::{Slot, SlotSet};
use std::time::Duration;

/// A column whose value is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Whether its value is no text.
    is_binary: bool,
    /// Whether it is written, and not computed.
    pub(crate) is_written: bool,
}

impl Column {
    /// Whether its value is no text.
    pub(crate) fn is_binary(&self) -> bool {
        self.is_binary
    }

    /// The value in a row of `t`, as text.
    pub(crate) fn text(&self, t: &str) -> String {
        let name = ident(&self.name);
        match self.is_binary {
            true => format!("HEX({t}.{name})"),
            false => format!("CONVERT({t}.{name} USING utf8mb4)"),
        }
    }
}

pub(crate) async fn checksum(
    db: &MySqlFamily,
    slots: &SlotSet,
    range: &KeyRange,
    timeout: Duration,
) -> Result<Checksums, Error> {
    let mut session = db.server.session().await?;
    super::snapshot::take(&mut session, timeout).await?;
    let mut sums = nothing(slots);
    for sharded in &db.spec.tables {
        let columns = columns(db, &mut session, sharded).await?;
        let within = of_keys(sharded, range);
        of_table(db, &mut session, (sharded, &columns), slots, &within, &mut sums).await?;
    }
    // Not kept: its statements have another limit of time.
    session.batch("comparing rows", "COMMIT").await?;
    Ok(sums)
}

/// The sums of slots without rows.
pub(crate) fn nothing(slots: &SlotSet) -> Checksums {
    Checksums {
        rows: 0,
        sums: slots.iter().map(|slot| (slot, 0)).collect(),
    }
}

/// The columns of a table, by name; none where there is no such table, or no right to read it.
pub(crate) async fn columns(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    sharded: &TableSpec,
) -> Result<Vec<Column>, Error> {
    let names = table(&sharded.name, &db.access.database);
    let found: Vec<(String, bool, bool)> = session
        .rows("reading the columns", db.server.dialect.columns, names)
        .await?;
    let column = |(name, is_binary, is_written)| Column {
        name,
        is_binary,
        is_written,
    };
    Ok(found.into_iter().map(column).collect())
}

/// The condition of all rows of a table.
pub(crate) const EVERYTHING: &str = "TRUE";

/// The condition of the rows of `t` whose shard key is in a range.
fn of_keys(sharded: &TableSpec, KeyRange { from, to }: &KeyRange) -> String {
    let key = key_of("t", sharded);
    let bound = |sign: &str, text: &String| format!("CAST({key} AS BINARY) {sign} CAST({} AS BINARY)", literal(text));
    let (from, to) = (
        from.iter().map(|from| bound(">=", from)),
        to.iter().map(|to| bound("<", to)),
    );
    let both: Vec<_> = [EVERYTHING.to_owned()].into_iter().chain(from).chain(to).collect();
    both.join(" AND ")
}

/// Adds the rows of one table within this condition of `t`, of which these columns count, to the sums of `slots`.
pub(crate) async fn of_table(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    (sharded, columns): (&TableSpec, &[Column]),
    slots: &SlotSet,
    within: &str,
    sums: &mut Checksums,
) -> Result<(), Error> {
    if slots.is_empty() {
        return Ok(());
    }
    let sql = sum(db, sharded, columns, slots, within);
    let rows: Vec<(Slot, u64, String, String)> = session.rows("summing rows", &sql, ()).await?;
    rows.into_iter().try_for_each(|row| add(sums, row))
}

/// A row of `t` as text that no other row has, table and all. Text as its bytes in UTF-8, whatever the column's; with its
/// length, so that no two rows read the same.
pub(crate) fn whole(t: &str, columns: &[Column]) -> String {
    let part = |column: &Column| {
        let name = ident(&column.name);
        let text = match column.is_binary {
            true => format!("HEX({t}.{name})"),
            false => format!("CAST(CONVERT({t}.{name} USING utf8mb4) AS BINARY)"),
        };
        format!("IFNULL(CONCAT(LENGTH({text}), ':', {text}), '-')")
    };
    format!("CONCAT({})", columns.iter().map(part).collect::<Vec<_>>().join(", "))
}

/// The hash of a row of `t`.
pub(crate) fn hash(db: &MySqlFamily, t: &str, sharded: &TableSpec, columns: &[Column]) -> String {
    let (begin, end) = db.server.dialect.digest;
    format!(
        "CAST(CONV(LEFT({begin}CONCAT({}, {}){end}, 16), 16, 10) AS UNSIGNED)",
        literal(&sharded.name),
        whole(t, columns)
    )
}

/// The slot of a row of `t`.
pub(crate) fn slot_of(db: &MySqlFamily, t: &str, sharded: &TableSpec) -> String {
    slot_expression(&db.spec.keyspace, &key_of(t, sharded))
}

/// The key of a row of `t`, as text in UTF-8: that of every row is the same where there is no shard key.
pub(crate) fn key_of(t: &str, sharded: &TableSpec) -> String {
    match &sharded.shard_key {
        Some(column) => format!("CONVERT({t}.{} USING utf8mb4)", ident(column)),
        None => "_utf8mb4 ''".to_owned(),
    }
}

/// Whether `slot`, an expression, is one of these.
pub(crate) fn is_one_of(slot: &str, slots: &SlotSet) -> String {
    let ranges = slots.ranges().iter();
    let ranges: Vec<_> = ranges
        .map(|(first, last)| format!("{slot} BETWEEN {first} AND {last}"))
        .collect();
    match ranges.is_empty() {
        true => "FALSE".to_owned(),
        false => format!("({})", ranges.join(" OR ")),
    }
}

/// One pass over what is within the condition. The two halves of a hash are summed apart, so that nothing overflows.
fn sum(db: &MySqlFamily, sharded: &TableSpec, columns: &[Column], slots: &SlotSet, within: &str) -> String {
    let name = qualified(&sharded.name, &db.access.database);
    format!(
        "SELECT h.slot, COUNT(*), CAST(SUM(h.hash >> 32) AS CHAR), CAST(SUM(h.hash & 4294967295) AS CHAR)
         FROM (SELECT {} AS slot, {} AS hash
               FROM {name} t WHERE {within}) h
         WHERE {} GROUP BY h.slot",
        slot_of(db, "t", sharded),
        hash(db, "t", sharded, columns),
        is_one_of("h.slot", slots),
    )
}

fn add(sums: &mut Checksums, (slot, rows, high, low): (Slot, u64, String, String)) -> Result<(), Error> {
    let number = |text: String| {
        text.parse::<u128>().map_err(|_| Error::Malformed {
            what: "sum",
            value: text,
        })
    };
    let total = (number(high)? << 32) + number(low)?;
    // Wrapping to 64 bits is the sum's definition.
    let total = u64::try_from(total & u128::from(u64::MAX)).unwrap_or_default();
    if let Some(sum) = sums.sums.get_mut(&slot) {
        *sum = sum.wrapping_add(total);
        sums.rows += rows;
    }
    Ok(())
}
