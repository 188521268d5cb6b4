//! Parts of the rows of slots: which rows of which tables are in one, by the order of the tables' primary keys.
//!
//! Where a part ends is found at the peer, by the index of the key. Both sides then take the rows up to there, so both must
//! put keys in the same order: by columns of the same types, and texts by the same collation. A table of which that is not known
//! is compared in one go.

use super::connect::Session;
use super::names::{ident, literal, qualified, table as names_of};
use super::snapshot::Table;
use super::{MySqlFamily, checksum};
use crate::compared::{Begins, begins};
use crate::driver::{Part, Place};
use crate::error::Error;
use crate::names::fnv;
use multiactive_core::slots::SlotSet;

/// The columns of a table's primary key: name, type, whole type, character set, collation, and whether all of it is in the key.
const KEY: &str = "
    SELECT c.COLUMN_NAME, LOWER(c.DATA_TYPE), LOWER(c.COLUMN_TYPE), IFNULL(c.CHARACTER_SET_NAME, ''), IFNULL(c.COLLATION_NAME, ''),
           s.SUB_PART IS NULL
    FROM information_schema.STATISTICS s
    JOIN information_schema.COLUMNS c
      ON c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME AND c.COLUMN_NAME = s.COLUMN_NAME
    WHERE s.TABLE_SCHEMA = ? AND s.TABLE_NAME = ? AND s.INDEX_NAME = 'PRIMARY' ORDER BY s.SEQ_IN_INDEX";

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

/// A primary key whose columns both sides can put in order.
#[derive(Debug, PartialEq, Eq)]
struct Key(Vec<Column>);

#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Kind,
}

/// How the values of a column are written and found again.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Texts by the bytes that they have in a character set.
    Text { set: String, collation: String },
    /// Bytes.
    Bytes,
    /// By what becomes this type.
    Cast(String),
}

/// The key of a table, where it is known how it is ordered.
async fn key(db: &MySqlFamily, session: &mut Session<'_>, table: &str) -> Result<Option<Key>, Error> {
    type Row = (String, String, String, String, String, bool);
    let names = names_of(table, &db.access.database);
    let rows: Vec<Row> = session.rows("reading a primary key", KEY, names).await?;
    let columns = rows.into_iter().map(|(name, kind, whole, set, collation, is_whole)| {
        let kind = Kind::of(&kind, &whole, set, collation).filter(|_| is_whole)?;
        Some(Column { name, kind })
    });
    let columns: Option<Vec<_>> = columns.collect();
    Ok(columns.filter(|columns| !columns.is_empty()).map(Key))
}

impl Kind {
    /// Of a type, such as `int` and `int(10) unsigned`; none where values are not found again by their text.
    fn of(name: &str, whole: &str, set: String, collation: String) -> Option<Self> {
        Some(match name {
            "char" | "varchar" => Self::Text { set, collation },
            "binary" | "varbinary" => Self::Bytes,
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" if whole.contains("unsigned") => {
                Self::Cast("UNSIGNED".to_owned())
            }
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Self::Cast("SIGNED".to_owned()),
            "decimal" => Self::Cast(format!("{})", whole.split_once(')')?.0)),
            "date" => Self::Cast("DATE".to_owned()),
            "datetime" | "timestamp" => Self::Cast("DATETIME(6)".to_owned()),
            "uuid" => Self::Cast("UUID".to_owned()),
            _ => return None,
        })
    }
}

/// How a row stands to a key.
#[derive(Clone, Copy)]
enum Stands {
    Behind,
    UpTo,
}

impl Column {
    fn of(&self) -> String {
        format!("t.{}", ident(&self.name))
    }

    /// The value in a row of `t`, as it is written.
    fn text(&self) -> String {
        match &self.kind {
            Kind::Text { .. } | Kind::Bytes => format!("HEX({})", self.of()),
            Kind::Cast(_) => format!("CONVERT({} USING utf8mb4)", self.of()),
        }
    }

    /// The value that was written so.
    fn value(&self, text: &str) -> String {
        let digits = || text.chars().filter(char::is_ascii_hexdigit).collect::<String>();
        match &self.kind {
            Kind::Text { set, collation } => format!("_{set} X'{}' COLLATE {collation}", digits()),
            Kind::Bytes => format!("X'{}'", digits()),
            Kind::Cast(kind) => format!("CAST({} AS {kind})", literal(text)),
        }
    }
}

impl Key {
    /// By what it is ordered, in one word.
    fn order(&self) -> String {
        let column = |Column { name, kind }: &Column| match kind {
            Kind::Text { set, collation } => format!("{name}\0{set}\0{collation}\0"),
            Kind::Bytes => format!("{name}\0bytes\0"),
            Kind::Cast(kind) => format!("{name}\0{kind}\0"),
        };
        format!("{:016x}", fnv(&self.0.iter().map(column).collect::<String>()))
    }

    fn each(&self, of: impl Fn(&Column) -> String) -> String {
        self.0.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// The condition that the key of `t` stands so to this one: by its first column, or where that is equal by the second, and so
    /// on. By these words ranges of the whole index are found; rows of values that are compared with each other are no such words.
    fn compared(&self, stands: Stands, key: &[String]) -> String {
        let (strict, last) = match stands {
            Stands::Behind => (">", ">"),
            Stands::UpTo => ("<", "<="),
        };
        let pairs = self.0.iter().zip(key);
        let pairs: Vec<_> = pairs.map(|(column, text)| (column.of(), column.value(text))).collect();
        let by = |number: usize| {
            let sign = if number + 1 == pairs.len() { last } else { strict };
            let equal = pairs[..number].iter().map(|(of, value)| format!("{of} = {value}"));
            let (of, value) = &pairs[number];
            let all: Vec<_> = equal.chain([format!("{of} {sign} {value}")]).collect();
            all.join(" AND ")
        };
        let any: Vec<_> = (0..pairs.len()).map(by).collect();
        format!("({})", any.join(" OR "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, whole: &str) -> Option<Kind> {
        Kind::of(name, whole, "latin1".to_owned(), "latin1_bin".to_owned())
    }

    #[test]
    fn a_key_is_compared_column_by_column_in_words_of_its_types() {
        let column = |name: &str, of: &str, whole: &str| Column {
            name: name.to_owned(),
            kind: kind(of, whole).unwrap(),
        };
        let key = Key(vec![
            column("a`b", "varchar", "varchar(9)"),
            column("n", "bigint", "bigint(20) unsigned"),
            column("p", "decimal", "decimal(10,2) unsigned"),
        ]);
        // Whatever stands in a place that was read: no more than a value comes of it.
        let values = ["4A') OR ('", "7' OR '1", "1.50"].map(str::to_owned);
        let text = "_latin1 X'4A' COLLATE latin1_bin";
        let (number, price) = (r"CAST('7'' OR ''1' AS UNSIGNED)", "CAST('1.50' AS decimal(10,2))");
        let equal = format!("t.`a``b` = {text} AND t.`n` = {number}");
        assert_eq!(
            key.compared(Stands::Behind, &values),
            format!("(t.`a``b` > {text} OR t.`a``b` = {text} AND t.`n` > {number} OR {equal} AND t.`p` > {price})")
        );
        assert_eq!(
            key.compared(Stands::UpTo, &values),
            format!("(t.`a``b` < {text} OR t.`a``b` = {text} AND t.`n` < {number} OR {equal} AND t.`p` <= {price})")
        );
    }

    #[test]
    fn values_that_are_not_found_again_by_their_text_are_no_key() {
        for (name, whole) in [
            ("enum", "enum('a')"),
            ("float", "float"),
            ("double", "double"),
            ("bit", "bit(1)"),
        ] {
            assert_eq!(kind(name, whole), None, "{whole}");
        }
        for (name, whole, want) in [
            ("int", "int(11)", "SIGNED"),
            ("datetime", "datetime(3)", "DATETIME(6)"),
            ("timestamp", "timestamp", "DATETIME(6)"),
            ("uuid", "uuid", "UUID"),
        ] {
            assert_eq!(kind(name, whole), Some(Kind::Cast(want.to_owned())), "{whole}");
        }
    }
}
