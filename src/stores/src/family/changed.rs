//! Comparing only what changed since rows were found equal, by the logs of both servers.
//!
//! No row says when it was written, but each server's log has the key of every row that was, whoever wrote it: members log what
//! links bring, too. Before rows are compared, it is noted where both logs stand: a horizon. A row whose key is in neither log behind
//! that is as it was when the rows were compared. So of all rows only the keys are hashed, which finds those that are missing at one
//! side; of rows whose keys are in a log all columns are, at both.
//!
//! That holds while nobody writes past the log. Whoever does, a copy of rows or a person, says so first, for the fence refuses him else:
//! it counts how often (`multiactive.unlogged`), and he holds a lock until he has ended. With another count no horizon of before means
//! anything, and none is taken while the lock is held. Nor does one mean anything with another database, or tables that are not the same. Nor does one that a log does not reach any more, that is of a log that has begun anew, or behind
//! which there is anything but rows. Then all rows are compared.

use super::binlog::{self, Log};
use super::connect::{Server, Session};
use super::dialect::Kind;
use super::keys::{self, Key};
use super::links::parse_slots;
use super::logs::Logs;
use super::names::{fnv, table as names_of};
use super::ranges::Range;
use super::reading::{Changed, Most, Tables, What};
use super::rows::Part;
use super::snapshot::{self, Table};
use super::stand::{self, Stand};
use super::{MySqlFamily, peer};
use crate::driver::{Checksums, Horizon, Peer};
use crate::error::Error;
use crate::mysql;
use crate::names::definition;
use crate::until::Until;
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long it may take to note where both logs stand: each is read from the beginning of a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a log is read: where there is more, reading all rows takes no longer.
const MOST: Most = Most {
    keys: 50_000,
    bytes: 1 << 30,
};

/// How long a log is read at most.
const READING: Duration = Duration::from_secs(300);

/// How many keys are looked up at once.
const BATCH: usize = 200;

/// So many keys are looked up, however few rows there are.
const FEW: u64 = 1000;

/// How many findings are kept of each owner.
const KEPT: usize = 100;

/// Which database this is, and how often somebody began to write past its log. Nothing, where the log may have a table by another name.
const IDENTITY: &str = "
    SELECT CONCAT_WS('/', s.store, s.unit, s.incarnation, s.born, (SELECT SUM(u.number) FROM multiactive.unlogged u), @@version)
    FROM multiactive.store s
    WHERE @@global.lower_case_table_names = 0
      AND EXISTS (SELECT 1 FROM multiactive.placed p WHERE p.kind = 'routine' AND 'past_the_log' IN (p.object, p.name))";

/// A table in words: since when there is this one, and how its rows lie. Nothing for what is no table, and for one whose rows a foreign
/// key may change: of those the log says nothing.
const TABLE: &str = "
    SELECT CONCAT_WS('/', t.ENGINE, QUOTE(t.CREATE_TIME), QUOTE(t.TABLE_COLLATION), QUOTE(t.CREATE_OPTIONS))
    FROM information_schema.TABLES t
    WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ? AND t.TABLE_TYPE = 'BASE TABLE'
      AND NOT EXISTS (SELECT 1 FROM information_schema.REFERENTIAL_CONSTRAINTS f
                      WHERE f.CONSTRAINT_SCHEMA = t.TABLE_SCHEMA AND t.TABLE_NAME IN (f.TABLE_NAME, f.REFERENCED_TABLE_NAME)
                        AND (f.DELETE_RULE IN ('CASCADE', 'SET NULL') OR f.UPDATE_RULE IN ('CASCADE', 'SET NULL')))";
/// Its columns, with those of the key.
const COLUMNS: &str = "
    SELECT CONCAT_WS('/', c.ORDINAL_POSITION, c.COLUMN_NAME, c.COLUMN_TYPE, QUOTE(c.CHARACTER_SET_NAME), QUOTE(c.COLLATION_NAME),
                     c.IS_NULLABLE, c.EXTRA, QUOTE(c.GENERATION_EXPRESSION), QUOTE(s.SEQ_IN_INDEX), QUOTE(s.SUB_PART))
    FROM information_schema.COLUMNS c LEFT JOIN information_schema.STATISTICS s
      ON s.TABLE_SCHEMA = c.TABLE_SCHEMA AND s.TABLE_NAME = c.TABLE_NAME AND s.COLUMN_NAME = c.COLUMN_NAME AND s.INDEX_NAME = 'PRIMARY'
    WHERE c.TABLE_SCHEMA = ? AND c.TABLE_NAME = ? ORDER BY c.ORDINAL_POSITION";

/// What was found equal, the newest first.
const EQUAL: &str = "
    SELECT e.number, e.slots, e.here, e.there, e.shape, e.shape_there, DATE_FORMAT(e.at, '%Y-%m-%dT%H:%i:%sZ')
    FROM multiactive.found_equal e WHERE e.owner = ? ORDER BY e.number DESC";

/// Whether somebody writes past the log.
const UNLOGGED: &str = "SELECT IS_USED_LOCK('multiactive.unlogged') IS NOT NULL";

type Row = (u64, String, String, String, String, String, String);

/// The rows that changed since others were found equal.
pub(crate) struct Since {
    /// When that was, in words.
    pub(crate) at: String,
    /// Of each table whose rows are found again by the log: their keys.
    tables: BTreeMap<String, (Key, Vec<Vec<Part>>)>,
}

/// Notes where the logs stand here and at a peer; `None` where one of the two cannot tell.
pub(crate) async fn take(db: &MySqlFamily, from: &Peer) -> Result<Option<Horizon>, Error> {
    let until = Until::new(&db.server.at, "taking a horizon", PATIENCE);
    let there = peer::server(db, from);
    let (mut ours, mut theirs) = (db.server.session().await?, there.foreign().await?);
    let shapes = (shape(db, &mut ours).await?, shape(db, &mut theirs).await?);
    let (Some(shape), Some(shape_there)) = shapes else {
        return Ok(None);
    };
    // Behind the counts: who began since then is in none of them, and who did before holds the lock until he has committed.
    for session in [&mut ours, &mut theirs] {
        if session
            .row::<bool>("looking who writes past the log", UNLOGGED, ())
            .await?
        {
            return Ok(None);
        }
    }
    // First here: where the owner is restored from before this, what it wrote since its own horizon is in the log here, too.
    let Some(here) = stand::take(&db.server, &mut ours, &until).await? else {
        return Ok(None);
    };
    let there = stand::take(&there, &mut theirs, &until).await?;
    Ok(there.map(|there| Horizon {
        here: (here.to_string(), shape),
        there: (there.to_string(), shape_there),
    }))
}

/// Which database and which tables a server has, in one word; `None` where its log does not tell what changes its rows, or its agent
/// does not count yet who writes past it.
async fn shape(db: &MySqlFamily, session: &mut Session<'_>) -> Result<Option<String>, Error> {
    const LOOKING: &str = "looking at the tables";
    let identity: String = match session.row(LOOKING, IDENTITY, ()).await {
        Ok(identity) => identity,
        Err(Error::NotInstalled { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let own = Logs::read(session).await?.own;
    let has_gaps = match session.kind() {
        Kind::MariaDb => false,
        Kind::MySql => mysql::log::has_gaps(&mysql::log::committed(session).await?, own),
    };
    if has_gaps {
        return Ok(None);
    }
    let mut words = vec![identity, own.to_string(), definition(&db.spec.keyspace)];
    for sharded in &db.spec.tables {
        words.push(format!("{sharded:?}"));
        let names = names_of(&sharded.name, &db.access.database);
        let is: Vec<String> = session.rows(LOOKING, TABLE, names).await?;
        let Some(is) = is.into_iter().next() else {
            return Ok(None);
        };
        words.push(is);
        let columns: Vec<String> = session.rows(LOOKING, COLUMNS, names).await?;
        words.extend(columns);
    }
    Ok(Some(format!("{:016x}", fnv(&words.join("\n")))))
}

/// Notes that these slots were equal in a comparison that began behind the horizon, or without one that they were not. What is known of
/// others stays.
pub(crate) async fn remember(
    db: &MySqlFamily,
    from: &UnitName,
    slots: &SlotSet,
    horizon: Option<&Horizon>,
) -> Result<(), Error> {
    const NOTING: &str = "noting what was found equal";
    let mut session = db.server.session().await?;
    session.batch(NOTING, "START TRANSACTION").await?;
    let found: Vec<Row> = session.rows(NOTING, EQUAL, (from.as_str(),)).await?;
    for (place, (number, of, ..)) in found.into_iter().enumerate() {
        let of = parse_slots(&of)?;
        let goes = match horizon {
            Some(_) => of.difference(slots).is_empty() || place >= KEPT,
            None => !of.intersection(slots).is_empty(),
        };
        if goes {
            let sql = "DELETE FROM multiactive.found_equal WHERE number = ?";
            session.change(NOTING, sql, (number,)).await?;
        }
    }
    if let Some(Horizon { here, there }) = horizon {
        let sql = "INSERT INTO multiactive.found_equal (owner, slots, here, there, shape, shape_there, at)
                   VALUES (?, ?, ?, ?, ?, ?, SYSDATE(6))";
        let params = (from.as_str(), slots.to_string(), &here.0, &there.0, &here.1, &there.1);
        session.change(NOTING, sql, params).await?;
    }
    session.batch(NOTING, "COMMIT").await?;
    session.keep();
    Ok(())
}

/// What changed of these slots since their rows were found equal, as these two snapshots know it; `None` where that is not known, or
/// too much.
pub(crate) async fn since(
    db: &MySqlFamily,
    (ours, theirs): (&mut Session<'_>, &mut Session<'_>),
    from: &Peer,
    slots: &SlotSet,
    until: &Until,
) -> Result<Option<Since>, Error> {
    let found: Vec<Row> = ours
        .rows("looking what was found equal", EQUAL, (from.unit.as_str(),))
        .await?;
    let all = |(_, of, ..): &Row| parse_slots(of).is_ok_and(|of| slots.difference(&of).is_empty());
    let found: Vec<_> = found.into_iter().filter(all).collect();
    if found.is_empty() {
        return Ok(None);
    }
    let (Some(shape), Some(shape_there)) = (shape(db, ours).await?, shape(db, theirs).await?) else {
        return Ok(None);
    };
    let same = |row: &Row| (&row.4, &row.5) == (&shape, &shape_there);
    let Some((_, _, here, there, .., at)) = found.into_iter().find(same) else {
        return Ok(None);
    };
    let (Some(here), Some(there)) = (Stand::parse(&here), Stand::parse(&there)) else {
        return Ok(None);
    };
    let mut tables = BTreeMap::new();
    for sharded in &db.spec.tables {
        let key = keys::key(db, ours, &sharded.name).await?;
        let there = keys::key(db, theirs, &sharded.name).await?;
        if let Some(key) = key.filter(|key| key.is_logged() && Some(key) == there.as_ref()) {
            tables.insert(sharded.name.clone(), (key, Vec::new()));
        }
    }
    let (asked, asked_there) = (asked(db, ours, &tables).await?, asked(db, theirs, &tables).await?);
    let server = peer::server(db, from);
    let (some, others) = tokio::try_join!(
        behind(&db.server, ours, &asked, &here, until),
        behind(&server, theirs, &asked_there, &there, until),
    )?;
    let (Some(some), Some(others)) = (some, others) else {
        return Ok(None);
    };
    for (name, (_, of)) in &mut tables {
        let each = [&some, &others].into_iter().filter_map(|changed| changed.get(name));
        let each: BTreeSet<_> = each.flat_map(BTreeMap::keys).cloned().collect();
        of.extend(each);
    }
    Ok(Some(Since { at, tables }))
}

/// The tables of which a server's log is asked for keys.
async fn asked(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    tables: &BTreeMap<String, (Key, Vec<Vec<Part>>)>,
) -> Result<Tables, Error> {
    let mut asked = binlog::tables(db, session).await?;
    asked.retain(|_, (declared, _)| tables.contains_key(declared));
    Ok(asked)
}

/// The keys in a server's log behind where it stood.
async fn behind(
    server: &Server,
    session: &mut Session<'_>,
    tables: &Tables,
    stand: &Stand,
    until: &Until,
) -> Result<Option<Changed>, Error> {
    let soon = Until::new(&server.at, "reading a log", READING.min(until.left()?));
    let read = match binlog::read(server, session, tables, (What::All(stand), MOST), &soon).await {
        Err(Error::TimedOut { .. }) if until.left().is_ok() => Log::Gone("reading it takes too long".to_owned()),
        read => read?,
    };
    match read {
        Log::Has(changed) => Ok(Some(changed)),
        Log::Gone(why) => {
            tracing::info!(
                at = server.at,
                why,
                "a log does not say what changed: all rows are compared"
            );
            Ok(None)
        }
    }
}

impl Since {
    /// The sums of a range here and there: of the rows that changed all columns count, of the others the keys. How many changed; all
    /// that there are, with all their columns, where it is not known which, or they are many.
    pub(crate) async fn sums(
        &self,
        db: &MySqlFamily,
        (ours, theirs): (&mut Session<'_>, &mut Session<'_>),
        Range { table, within }: &Range<'_>,
        slots: &SlotSet,
        until: &Until,
    ) -> Result<(Checksums, Checksums, u64), Error> {
        if let Some((key, changed)) = self.tables.get(&table.sharded.name) {
            let of_key = of_key(table, key);
            let rows = (&of_key, within.as_str());
            let (mut here, mut there) = snapshot::sums(db, (&mut *ours, &mut *theirs), rows, slots, until).await?;
            if of_key.columns.len() == key.0.len() && are_few(changed.len(), there.rows) {
                let mut rows = 0;
                for batch in changed.chunks(BATCH) {
                    let Some(is_one) = key.is_one_of(batch) else {
                        return all(db, (ours, theirs), (table, within), slots, until).await;
                    };
                    let within = format!("{within} AND {is_one}");
                    let some = (*table, within.as_str());
                    let sums = snapshot::sums(db, (&mut *ours, &mut *theirs), some, slots, until).await?;
                    rows += sums.0.rows.max(sums.1.rows);
                    add(&mut here, &sums.0);
                    add(&mut there, &sums.1);
                }
                return Ok((here, there, rows));
            }
        }
        all(db, (ours, theirs), (table, within), slots, until).await
    }
}

/// The sums of all rows of a range, and how many they are.
async fn all(
    db: &MySqlFamily,
    sessions: (&mut Session<'_>, &mut Session<'_>),
    (table, within): (&Table<'_>, &str),
    slots: &SlotSet,
    until: &Until,
) -> Result<(Checksums, Checksums, u64), Error> {
    let (here, there) = snapshot::sums(db, sessions, (table, within), slots, until).await?;
    let rows = there.rows;
    Ok((here, there, rows))
}

/// A table as if it had only the columns of its key.
fn of_key<'a>(table: &Table<'a>, key: &Key) -> Table<'a> {
    let is_key = |name: &String| key.0.iter().any(|column| column.name == *name);
    let columns = table.columns.iter().filter(|column| is_key(&column.name));
    Table {
        sharded: table.sharded,
        columns: columns.cloned().collect(),
        missing: Vec::new(),
    }
}

/// Whether so many keys are found sooner than all these rows are read.
fn are_few(keys: usize, rows: u64) -> bool {
    u64::try_from(keys).is_ok_and(|keys| keys <= FEW.max(rows / 3))
}

/// Adds sums to others of the same slots; rows that count there already are not counted again.
fn add(sums: &mut Checksums, others: &Checksums) {
    for (slot, other) in &others.sums {
        if let Some(sum) = sums.sums.get_mut(slot) {
            *sum = sum.wrapping_add(*other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_third_of_the_rows_keys_are_looked_up_and_of_more_all_rows_are_read() {
        for (keys, rows, want) in [
            (0, 0, true),
            (1000, 0, true),
            (1001, 0, false),
            (3334, 10_000, false),
            (3333, 10_000, true),
        ] {
            assert_eq!(are_few(keys, rows), want, "{keys} of {rows}");
        }
    }

    #[test]
    fn what_changed_counts_beside_the_keys_and_its_rows_once() {
        let sums = |rows, sums: &[_]| Checksums {
            rows,
            sums: sums.iter().copied().collect(),
        };
        let mut all = sums(9, &[(1, u64::MAX), (2, 5)]);
        add(&mut all, &sums(4, &[(1, 2), (3, 7)]));
        assert_eq!(all, sums(9, &[(1, 1), (2, 5)]));
    }
}
