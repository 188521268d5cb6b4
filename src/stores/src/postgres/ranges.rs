//! Parts of the rows of slots: which rows of which tables are in one, by the order of the tables' primary keys.
//!
//! Where a part ends is found at the peer, by the index of the key. Both sides then take the rows up to there, so both must
//! put keys in the same order: by columns of the same types, and texts by the same collation in the same version, which their
//! indexes were made with. A table of which that is not known is compared in one go.

use super::connect::Session;
use super::install::slot_of;
use super::names::{self, fnv, ident, literal, qualified};
use super::reseed::Table;
use super::{Postgres, checksum};
use crate::compared::{Begins, begins};
use crate::driver::{Part, Place};
use crate::error::Error;
use multiactive_core::slots::SlotSet;

/// The columns of a table's primary key: name, type, and how texts are put in order; no type where values are not found again by
/// their text.
const KEY: &str = "
    SELECT a.attname::text,
           CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN (
                    'bool', 'bpchar', 'bytea', 'date', 'int2', 'int4', 'int8', 'numeric', 'text', 'timestamp', 'timestamptz', 'uuid',
                    'varchar')
                THEN t.typname::text END,
           CASE WHEN a.attcollation = 0 THEN ''
                WHEN c.collprovider = 'd' THEN concat_ws('/', d.j ->> 'datlocprovider', d.j ->> 'datcollate',
                     coalesce(d.j ->> 'datlocale', d.j ->> 'daticulocale'), d.j ->> 'daticurules', d.now)
                ELSE concat_ws('/', c.collprovider, c.collcollate, coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale'),
                     to_jsonb(c) ->> 'collicurules', c.collisdeterministic, pg_collation_actual_version(c.oid))
           END,
           coalesce(CASE WHEN a.attcollation = 0 THEN true
                         WHEN c.collprovider = 'd' THEN (d.j ->> 'datcollversion') IS NOT DISTINCT FROM d.now
                         ELSE c.collversion IS NOT DISTINCT FROM pg_collation_actual_version(c.oid) END, false)
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, number)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    CROSS JOIN (SELECT to_jsonb(d) AS j, pg_database_collation_actual_version(d.oid) AS now
                FROM pg_database d WHERE d.datname = current_database()) d
    WHERE i.indrelid = to_regclass($1) AND i.indisprimary AND k.number <= i.indnkeyatts ORDER BY k.number";

/// The rows of a table that are compared.
pub(super) struct Range<'a> {
    pub(super) table: &'a Table<'a>,
    /// The condition that they meet, of `t`.
    pub(super) within: String,
}

/// What is compared: all rows of the tables, or those of a part, and where it ends.
pub(super) async fn of<'a>(
    pg: &Postgres,
    (here, there): (&Session<'_>, &Session<'_>),
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
        let (ours, theirs) = (key(here, name).await?, key(there, name).await?);
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
        let begin = after.map_or(checksum::EVERYTHING.to_owned(), |after| key.compared(">", after));
        let found = rest(pg, there, table, &key, (slots, &begin), left).await?;
        match found {
            Rest::Until(last) => {
                let within = format!("{begin} AND {}", key.compared("<=", &last));
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
    pg: &Postgres,
    there: &Session<'_>,
    Table { sharded, .. }: &Table<'_>,
    key: &Key,
    (slots, begin): (&SlotSet, &str),
    left: u64,
) -> Result<Rest, Error> {
    let rows = format!(
        "FROM {} t WHERE {begin} AND {} <@ $1::text::int4multirange",
        qualified(&sharded.name),
        slot_of(&pg.spec, sharded, "t"),
    );
    let (texts, columns) = (
        key.each(|name| format!("t.{name}::text")),
        key.each(|name| format!("t.{name}")),
    );
    let sql = format!(
        "SELECT ARRAY[{texts}] {rows} ORDER BY {columns} LIMIT 1 OFFSET {}",
        left.saturating_sub(1)
    );
    let slots = names::slots(slots);
    let found = there.rows("looking where a part ends", &sql, &[&slots]).await?;
    if let Some(row) = found.first() {
        return Ok(Rest::Until(row.get(0)));
    }
    let sql = format!("SELECT count(*) {rows}");
    let count: i64 = there.row("counting rows", &sql, &[&slots]).await?.get(0);
    Ok(Rest::All(u64::try_from(count).unwrap_or_default()))
}

/// A primary key whose columns both sides can put in order.
#[derive(Debug, PartialEq, Eq)]
struct Key(Vec<Column>);

#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: String,
    kind: String,
    collation: String,
}

/// The key of a table, where it is known how it is ordered.
async fn key(session: &Session<'_>, table: &str) -> Result<Option<Key>, Error> {
    let rows = session.rows("reading a primary key", KEY, &[&qualified(table)]).await?;
    let columns = rows.iter().map(|row| {
        let is_sound: bool = row.get(3);
        let kind: Option<String> = row.get(1);
        Some(Column {
            name: row.get(0),
            kind: kind.filter(|_| is_sound)?,
            collation: row.get(2),
        })
    });
    let columns: Option<Vec<_>> = columns.collect();
    Ok(columns.filter(|columns| !columns.is_empty()).map(Key))
}

impl Key {
    /// By what it is ordered, in one word.
    fn order(&self) -> String {
        let column = |Column { name, kind, collation }: &Column| format!("{name}\0{kind}\0{collation}\0");
        format!("{:016x}", fnv(&self.0.iter().map(column).collect::<String>()))
    }

    fn each(&self, of: impl Fn(String) -> String) -> String {
        let columns = self.0.iter().map(|column| of(ident(&column.name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The condition that the key of `t` stands so to this one.
    fn compared(&self, sign: &str, key: &[String]) -> String {
        let values = self.0.iter().zip(key);
        let values = values.map(|(column, text)| format!("{}::pg_catalog.{}", literal(text), column.kind));
        let values: Vec<_> = values.collect();
        format!(
            "ROW({}) {sign} ROW({})",
            self.each(|name| format!("t.{name}")),
            values.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_column_by_column_whatever_it_is_called_and_holds() {
        let column = |name: &str, kind: &str| Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            collation: String::new(),
        };
        let key = Key(vec![column("a\"b", "text"), column("n", "int8")]);
        assert_eq!(
            key.compared(">", &["it's \\".to_owned(), "-7".to_owned()]),
            "ROW(t.\"a\"\"b\", t.\"n\") > ROW('it''s \\'::pg_catalog.text, '-7'::pg_catalog.int8)"
        );
        let other = Key(vec![column("a\"b", "text"), column("n", "int4")]);
        assert_ne!(key.order(), other.order());
    }
}
