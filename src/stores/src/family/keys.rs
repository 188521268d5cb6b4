//! Primary keys whose values are written as text, or as they stand in the log, and found again by statements.

use super::MySqlFamily;
use super::connect::Session;
use super::names::{ident, literal, table as names_of};
use super::rows::{Part, signed, unsigned};
use crate::error::Error;
use crate::names::fnv;

/// The columns of a table's primary key: name, type, whole type, character set, collation, and whether all of it is in the key.
const KEY: &str = "
    SELECT c.COLUMN_NAME, LOWER(c.DATA_TYPE), LOWER(c.COLUMN_TYPE), IFNULL(c.CHARACTER_SET_NAME, ''), IFNULL(c.COLLATION_NAME, ''),
           s.SUB_PART IS NULL
    FROM information_schema.STATISTICS s
    JOIN information_schema.COLUMNS c
      ON c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME AND c.COLUMN_NAME = s.COLUMN_NAME
    WHERE s.TABLE_SCHEMA = ? AND s.TABLE_NAME = ? AND s.INDEX_NAME = 'PRIMARY' ORDER BY s.SEQ_IN_INDEX";

/// A primary key whose columns both sides can put in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) Vec<Column>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    kind: Kind,
}

/// How the values of a column are written and found again.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Texts by the bytes that they have in a character set.
    Text { set: String, collation: String },
    /// Bytes; with a width, zeros at the end fill it, and are not in the log.
    Bytes { width: Option<usize> },
    /// By what becomes this type.
    Cast { into: String, logged: Option<Logged> },
}

/// How the log has a value that is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logged {
    Signed,
    Unsigned,
    Day,
    /// Its bytes in the order of its text, without zeros at their end.
    Uuid,
}

/// The key of a table, where it is known how it is ordered.
pub(crate) async fn key(db: &MySqlFamily, session: &mut Session<'_>, table: &str) -> Result<Option<Key>, Error> {
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
        let cast = |into: &str, logged| Self::Cast {
            into: into.to_owned(),
            logged,
        };
        Some(match name {
            "char" | "varchar" => Self::Text { set, collation },
            "varbinary" => Self::Bytes { width: None },
            "binary" => Self::Bytes {
                width: Some(whole.split_once('(')?.1.split_once(')')?.0.parse().ok()?),
            },
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" if whole.contains("unsigned") => {
                cast("UNSIGNED", Some(Logged::Unsigned))
            }
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => cast("SIGNED", Some(Logged::Signed)),
            "decimal" => cast(&format!("{})", whole.split_once(')')?.0), None),
            "date" => cast("DATE", Some(Logged::Day)),
            "datetime" | "timestamp" => cast("DATETIME(6)", None),
            "uuid" => cast("UUID", Some(Logged::Uuid)),
            _ => return None,
        })
    }
}

/// How a row stands to a key.
#[derive(Clone, Copy)]
pub(crate) enum Stands {
    Behind,
    UpTo,
}

impl Column {
    pub(crate) fn of(&self) -> String {
        format!("t.{}", ident(&self.name))
    }

    /// The value in a row of `t`, as it is written.
    pub(crate) fn text(&self) -> String {
        match &self.kind {
            Kind::Text { .. } | Kind::Bytes { .. } => format!("HEX({})", self.of()),
            Kind::Cast { .. } => format!("CONVERT({} USING utf8mb4)", self.of()),
        }
    }

    /// The value that was written so.
    fn value(&self, text: &str) -> String {
        let digits = || text.chars().filter(char::is_ascii_hexdigit).collect::<String>();
        match &self.kind {
            Kind::Text { set, collation } => format!("_{set} X'{}' COLLATE {collation}", digits()),
            Kind::Bytes { .. } => format!("X'{}'", digits()),
            Kind::Cast { into, .. } => format!("CAST({} AS {into})", literal(text)),
        }
    }

    /// What the log says of its value, as it would be written; `None` where that cannot be told.
    fn logged(&self, part: &Part) -> Option<String> {
        let hex = |bytes: &[u8], width: usize| {
            let zeros = std::iter::repeat_n(&0, width.saturating_sub(bytes.len()));
            bytes.iter().chain(zeros).map(|byte| format!("{byte:02X}")).collect()
        };
        match (&self.kind, part) {
            (Kind::Text { .. }, Part::Bytes(bytes)) => Some(hex(bytes, 0)),
            (Kind::Bytes { width }, Part::Bytes(bytes)) => Some(hex(bytes, width.unwrap_or_default())),
            (Kind::Cast { logged, .. }, part) => match (logged.as_ref()?, part) {
                (Logged::Unsigned, Part::Number(bytes)) => Some(unsigned(bytes).to_string()),
                (Logged::Signed, Part::Number(bytes)) => Some(signed(bytes).to_string()),
                // A day that is none is not found by its text.
                (Logged::Day, Part::Day(year, month @ 1.., day @ 1..)) => {
                    Some(format!("{year:04}-{month:02}-{day:02}"))
                }
                (Logged::Uuid, Part::Bytes(bytes)) if bytes.len() <= 16 => Some(hex(bytes, 16)),
                (Logged::Uuid, Part::Bytes(_) | Part::Number(_) | Part::Day(..))
                | (Logged::Signed | Logged::Unsigned, Part::Bytes(_) | Part::Day(..))
                | (Logged::Day, Part::Bytes(_) | Part::Number(_) | Part::Day(..)) => None,
            },
            (Kind::Text { .. } | Kind::Bytes { .. }, Part::Number(_) | Part::Day(..)) => None,
        }
    }

    fn is_logged(&self) -> bool {
        match &self.kind {
            Kind::Text { .. } | Kind::Bytes { .. } => true,
            Kind::Cast { logged, .. } => logged.is_some(),
        }
    }
}

impl Key {
    /// By what it is ordered, in one word.
    pub(crate) fn order(&self) -> String {
        let column = |Column { name, kind }: &Column| match kind {
            Kind::Text { set, collation } => format!("{name}\0{set}\0{collation}\0"),
            Kind::Bytes { .. } => format!("{name}\0bytes\0"),
            Kind::Cast { into, .. } => format!("{name}\0{into}\0"),
        };
        format!("{:016x}", fnv(&self.0.iter().map(column).collect::<String>()))
    }

    pub(crate) fn each(&self, of: impl Fn(&Column) -> String) -> String {
        self.0.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// Whether rows are found again by what the log says of their keys.
    pub(crate) fn is_logged(&self) -> bool {
        self.0.iter().all(Column::is_logged)
    }

    /// The condition that the key of `t` is one of these, of the log; `None` where that cannot be told.
    pub(crate) fn is_one_of(&self, keys: &[Vec<Part>]) -> Option<String> {
        let same = |key: &Vec<Part>| {
            if key.len() != self.0.len() {
                return None;
            }
            let pairs = self.0.iter().zip(key);
            let each = pairs.map(|(column, part)| {
                let value = column.value(&column.logged(part)?);
                Some(format!("{} = {value}", column.of()))
            });
            Some(format!("({})", each.collect::<Option<Vec<_>>>()?.join(" AND ")))
        };
        let any: Vec<_> = keys.iter().map(same).collect::<Option<_>>()?;
        Some(match any.is_empty() {
            true => "FALSE".to_owned(),
            false => format!("({})", any.join(" OR ")),
        })
    }

    /// The condition that the key of `t` stands so to this one: by its first column, or where that is equal by the second, and so
    /// on. By these words ranges of the whole index are found; rows of values that are compared with each other are no such words.
    pub(crate) fn compared(&self, stands: Stands, key: &[String]) -> String {
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

    fn column(name: &str, of: &str, whole: &str) -> Column {
        Column {
            name: name.to_owned(),
            kind: kind(of, whole).unwrap(),
        }
    }

    #[test]
    fn a_key_is_compared_column_by_column_in_words_of_its_types() {
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
            ("int", "int unsigned", "UNSIGNED"),
            ("date", "date", "DATE"),
            ("datetime", "datetime(3)", "DATETIME(6)"),
            ("timestamp", "timestamp", "DATETIME(6)"),
            ("uuid", "uuid", "UUID"),
        ] {
            let is = kind(name, whole).unwrap();
            assert!(matches!(&is, Kind::Cast { into, .. } if into == want), "{is:?}");
        }
    }

    #[test]
    fn a_key_of_the_log_is_found_by_the_words_of_its_types_or_not_at_all() {
        let bytes = |bytes: &[u8]| Part::Bytes(bytes.to_vec());
        let number = |bytes: &[u8]| Part::Number(bytes.to_vec());
        for (of, whole, part, want) in [
            (
                "varchar",
                "varchar(9)",
                bytes(b"J"),
                Some("_latin1 X'4A' COLLATE latin1_bin"),
            ),
            ("varbinary", "varbinary(4)", bytes(&[7]), Some("X'07'")),
            // The log leaves out what fills it.
            ("binary", "binary(3)", bytes(&[7]), Some("X'070000'")),
            (
                "mediumint",
                "mediumint(9)",
                number(&[255, 255, 255]),
                Some("CAST('-1' AS SIGNED)"),
            ),
            (
                "tinyint",
                "tinyint(3) unsigned",
                number(&[255]),
                Some("CAST('255' AS UNSIGNED)"),
            ),
            (
                "date",
                "date",
                Part::Day(2026, 3, 9),
                Some("CAST('2026-03-09' AS DATE)"),
            ),
            ("date", "date", Part::Day(2026, 0, 9), None),
            (
                "uuid",
                "uuid",
                bytes(&[0x12; 15]),
                Some("CAST('12121212121212121212121212121200' AS UUID)"),
            ),
            ("int", "int(11)", bytes(b"1"), None),
            ("datetime", "datetime", number(&[1]), None),
        ] {
            let key = Key(vec![column("k", of, whole)]);
            let want = want.map(|value| format!("((t.`k` = {value}))"));
            assert_eq!(key.is_one_of(&[vec![part]]), want, "{whole}");
        }
        let key = Key(vec![column("k", "int", "int"), column("d", "date", "date")]);
        assert!(key.is_logged() && !Key(vec![column("k", "datetime", "datetime")]).is_logged());
        assert_eq!(key.is_one_of(&[]).as_deref(), Some("FALSE"));
        assert_eq!(
            key.is_one_of(&[vec![number(&[1])]]),
            None,
            "a part of the key is missing"
        );
    }
}
