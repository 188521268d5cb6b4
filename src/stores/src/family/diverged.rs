//! What a unit that was lost holds alone: the rows that its log changed behind what the new owners got of it.
//!
//! How far they got is in their own logs. Each key that our log has behind that is looked up here and there. A row that is the
//! same in both was received, or repeated; what differs is listed with both versions. A row that the new owner has changed
//! since is listed too: the write here was lost all the same.

use super::binlog::{self, Log};
use super::checksum::slot_of;
use super::connect::Session;
use super::gtid::Gtid;
use super::names::{ident, literal, qualified, table};
use super::reading::{Most, What};
use super::rows::{Part, signed, unsigned};
use super::{MySqlFamily, lost, peer, snapshot};
use crate::driver::{Diverged, Peer, TableSpec};
use crate::error::Error;
use crate::until::Until;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::slots::{Slot, SlotSet};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many keys are looked up at once.
const BATCH: usize = 100;

/// The columns of a table: name, whether it has no sign, whether it is an enum, whether it is no text, and its value as the log has it:
/// texts in their characters, bytes without the zeros at their end.
const COLUMNS: &str = "
    SELECT COLUMN_NAME, COLUMN_TYPE LIKE '%unsigned%', DATA_TYPE = 'enum', DATA_TYPE LIKE '%binary',
           CASE WHEN DATA_TYPE = 'binary' THEN CONCAT('CAST(? AS BINARY(', CHARACTER_MAXIMUM_LENGTH, '))')
                WHEN DATA_TYPE = 'uuid' THEN 'CAST(CAST(? AS BINARY(16)) AS UUID)'
                WHEN CHARACTER_SET_NAME IS NULL OR DATA_TYPE = 'enum' THEN '?'
                ELSE CONCAT('CONVERT(CAST(? AS BINARY) USING ', CHARACTER_SET_NAME, ') COLLATE ', COLLATION_NAME) END
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";

/// How many rows are told.
const TOLD: u32 = 20;

pub(crate) async fn diverged(
    db: &MySqlFamily,
    op: &OperationUid,
    owners: &[(Peer, SlotSet)],
    timeout: Duration,
) -> Result<Diverged, Error> {
    let mut session = db.server.session().await?;
    let sql = "SELECT owner FROM multiactive.listed WHERE op = ?";
    let listed: Vec<String> = session.rows("looking at what was listed", sql, (op.as_str(),)).await?;
    session.keep();
    for (owner, slots) in owners.iter().filter(|(owner, _)| !listed.contains(&owner.unit.0)) {
        let until = Until::new(&db.server.at, "listing what differs", timeout);
        list(db, op, owner, slots, &until).await?;
    }
    summary(db, op).await
}

async fn summary(db: &MySqlFamily, op: &OperationUid) -> Result<Diverged, Error> {
    let mut session = db.server.session().await?;
    let sql = "SELECT COUNT(*), TIMESTAMPDIFF(SECOND, MIN(committed), MAX(committed)) FROM multiactive.divergence WHERE op = ?";
    let row = session.row("summing up what was listed", sql, (op.as_str(),)).await?;
    let (rows, span): (u64, Option<i64>) = row;
    let sql = "SELECT unlisted FROM multiactive.listed WHERE op = ? AND unlisted IS NOT NULL ORDER BY owner";
    let unlisted = session.rows("summing up what was listed", sql, (op.as_str(),)).await?;
    let sql = "SELECT tab, name FROM multiactive.divergence WHERE op = ? ORDER BY committed, tab, name LIMIT ?";
    let first = session
        .rows("reading what was listed", sql, (op.as_str(), TOLD))
        .await?;
    let rejoined = lost::is_rejoined(&mut session, &db.spec.unit, op).await?;
    session.keep();
    Ok(Diverged {
        rows,
        span: span.map(|span| Duration::from_secs(u64::try_from(span).unwrap_or_default())),
        first,
        unlisted,
        rejoined,
    })
}

/// Lists what one owner did not get.
async fn list(db: &MySqlFamily, op: &OperationUid, owner: &Peer, slots: &SlotSet, until: &Until) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    session.limit(until.left()?);
    let there = peer::server(db, owner);
    let mut there = there.foreign().await?;
    let own = super::position::written(&mut session).await?.log;
    let got = Gtid::of(&peer::written(&mut there).await?, own);
    let tables = binlog::tables(db, &mut session).await?;
    let log = binlog::read(&db.server, &mut session, &tables, (What::Own(got), Most::TOLD), until).await?;
    // The owner may take its time meanwhile.
    let sql = format!("SET SESSION {} = 600; START TRANSACTION", session.dialect().idle);
    session.batch("listing what differs", &sql).await?;
    let unlisted = match log {
        Log::Gone(why) => Some(format!("what {} did not get of it cannot be listed: {why}", owner.unit)),
        Log::Has(mut changed) => {
            for sharded in &db.spec.tables {
                let keys: Vec<_> = changed.remove(&sharded.name).unwrap_or_default().into_iter().collect();
                let finder = Finder::new(db, &mut session, &mut there, sharded).await?;
                for batch in keys.chunks(BATCH) {
                    session.limit(until.left()?);
                    note(&finder, (&mut session, &mut there), op, (owner, slots), batch).await?;
                }
            }
            None
        }
    };
    let sql = "INSERT IGNORE INTO multiactive.listed (op, owner, unlisted, at) VALUES (?, ?, ?, SYSDATE(6))";
    let params = (op.as_str(), owner.unit.as_str(), unlisted);
    session.change("listing what differs", sql, params).await?;
    session.batch("listing what differs", "COMMIT").await
}

/// How rows of a table are found by what the log says of their keys.
struct Finder<'a> {
    sharded: &'a TableSpec,
    /// What is asked of each row: its slot, its key and all of it as JSON.
    asks: String,
    /// The condition on each column of the key: what stands before its value, and behind it.
    same: Vec<(String, String, Kind)>,
}

/// What the server says of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    is_unsigned: bool,
    is_enum: bool,
}

impl<'a> Finder<'a> {
    async fn new(
        db: &MySqlFamily,
        here: &mut Session<'_>,
        there: &mut Session<'_>,
        sharded: &'a TableSpec,
    ) -> Result<Self, Error> {
        let (database, name) = table(&sharded.name, &db.access.database);
        let key = snapshot::key(db, here, sharded).await?;
        let (ours, theirs) = (
            super::checksum::columns(db, here, sharded).await?,
            super::checksum::columns(db, there, sharded).await?,
        );
        let both = ours.iter().filter(|column| theirs.contains(column));
        let json = both.map(|column| format!("{}, {}", literal(&column.name), column.text("t")));
        let json = json.collect::<Vec<_>>().join(", ");
        let kinds: Vec<(String, bool, bool, bool, String)> =
            here.rows("reading the columns", COLUMNS, (database, name)).await?;
        let bytes = |column: &String| {
            kinds
                .iter()
                .any(|(name, _, _, is_bytes, _)| name == column && *is_bytes)
        };
        let named = key.iter().map(|column| match bytes(column) {
            true => format!("{}, HEX(t.{})", literal(column), ident(column)),
            false => format!("{}, t.{}", literal(column), ident(column)),
        });
        let named = named.collect::<Vec<_>>().join(", ");
        let kinds: BTreeMap<_, _> = kinds
            .into_iter()
            .map(|(name, u, e, _, value)| (name, (u, e, value)))
            .collect();
        let same = key.iter().filter_map(|column| {
            let (is_unsigned, is_enum, value) = kinds.get(column)?.clone();
            let (column, (begin, end)) = (ident(column), value.split_once('?')?);
            let begin = match is_enum {
                true => format!("t.{column} + 0 = {begin}"),
                false => format!("t.{column} = {begin}"),
            };
            Some((begin, end.to_owned(), Kind { is_unsigned, is_enum }))
        });
        Ok(Self {
            sharded,
            asks: format!(
                "{}, JSON_OBJECT({named}), JSON_OBJECT({json}) FROM {} t",
                slot_of(db, "t", sharded),
                qualified(&sharded.name, &db.access.database)
            ),
            same: same.collect(),
        })
    }

    /// The rows of these keys, by their places.
    async fn find(
        &self,
        session: &mut Session<'_>,
        keys: &[(Vec<Part>, u32)],
    ) -> Result<BTreeMap<usize, (Slot, String, String)>, Error> {
        let one = |(number, (key, _)): (usize, &(Vec<Part>, u32))| {
            let pairs = key.iter().zip(&self.same);
            let same = pairs.map(|(part, (begin, end, kind))| format!("{begin}{}{end}", value(part, kind)));
            let same: Vec<_> = same.collect();
            format!("SELECT {number}, {} WHERE {}", self.asks, same.join(" AND "))
        };
        let sql: Vec<_> = keys.iter().enumerate().map(one).collect();
        let rows: Vec<(usize, Slot, String, String)> = session
            .rows("reading rows by their keys", &sql.join(" UNION ALL "), ())
            .await?;
        let found = |(number, slot, name, row)| (number, (slot, name, row));
        Ok(rows.into_iter().map(found).collect())
    }
}

/// A value of the log in words: bytes as they are, whatever characters the session has.
fn value(part: &Part, kind: &Kind) -> String {
    match part {
        Part::Bytes(bytes) => format!(
            "X'{}'",
            bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>()
        ),
        Part::Day(year, month, day) => format!("'{year:04}-{month:02}-{day:02}'"),
        Part::Number(bytes) => match kind.is_unsigned || kind.is_enum {
            true => unsigned(bytes).to_string(),
            false => signed(bytes).to_string(),
        },
    }
}

/// Both versions of these keys' rows, where they differ and the slot is the owner's.
async fn note(
    finder: &Finder<'_>,
    (here, there): (&mut Session<'_>, &mut Session<'_>),
    op: &OperationUid,
    (owner, slots): (&Peer, &SlotSet),
    keys: &[(Vec<Part>, u32)],
) -> Result<(), Error> {
    let (mut mine, mut theirs) = (finder.find(here, keys).await?, finder.find(there, keys).await?);
    for (number, (_, committed)) in keys.iter().enumerate() {
        let (mine, theirs) = (mine.remove(&number), theirs.remove(&number));
        let Some((slot, name, _)) = mine.as_ref().or(theirs.as_ref()) else {
            continue;
        };
        let row = |version: &Option<(Slot, String, String)>| version.as_ref().map(|(_, _, row)| row.clone());
        if row(&mine) == row(&theirs) || !slots.contains(*slot) {
            continue;
        }
        let sql = "INSERT IGNORE INTO multiactive.divergence (op, tab, digest, name, owner, mine, theirs, committed)
                   VALUES (?, ?, LEFT($digest$, 32), ?, ?, ?, ?, FROM_UNIXTIME(?))";
        let (begin, end) = here.dialect().digest;
        let sql = sql.replace("$digest$", &format!("{begin}?{end}"));
        let unit: &UnitName = &owner.unit;
        let params = (
            op.as_str(),
            finder.sharded.name.as_str(),
            name,
            name,
            unit.as_str(),
            row(&mine),
            row(&theirs),
            *committed,
        );
        here.change("listing what differs", &sql, params).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_sign_that_the_table_says() {
        for (bytes, is_unsigned, want) in [
            (&[255_u8][..], false, "-1"),
            (&[255], true, "255"),
            (&[0, 0, 128], false, "-8388608"),
            (&[1, 0, 0, 0, 0, 0, 0, 128], false, "-9223372036854775807"),
            (&[1, 0, 0, 0, 0, 0, 0, 128], true, "9223372036854775809"),
        ] {
            let kind = Kind {
                is_unsigned,
                is_enum: false,
            };
            assert_eq!(value(&Part::Number(bytes.to_vec()), &kind), want, "{bytes:?}");
        }
    }
}
