//! The receiving side of a copy of rows: what differs is found by sums and copied, in one transaction.
//!
//! Rows come as a stream into a table that only our session sees, so that none is held in memory; what differs is then replaced
//! by two statements. Rows that are equal stay as they are. What differs is deleted before anything is inserted, so that rows
//! may have exchanged values that must be unique. In the end the sums must be equal: a trigger of the application's may have
//! changed what was written.

use super::applied::{self, Passed};
use super::checksum::{EVERYTHING, is_one_of, slot_of, whole};
use super::connect::{Session, refusal};
use super::gtid::{Gtid, Log};
use super::names::{ident, qualified, table as table_of};
use super::reseed::{Frozen, refused};
use super::snapshot::{self, Table};
use super::{MySqlFamily, cut, links, peer};
use crate::driver::{Peer, Reseeded};
use crate::error::Error;
use crate::until::Until;
use multiactive_core::promotion::UnitPosition;
use multiactive_core::slots::{Slot, SlotSet};

/// Where the peer's rows wait.
const COPIED: &str = "multiactive.copied";

/// Whoever writes past the log says so, and when he has committed.
pub(crate) const PAST_THE_LOG: &str = "CALL multiactive.past_the_log()";
pub(crate) const BACK_IN_THE_LOG: &str = "DO RELEASE_LOCK('multiactive.unlogged')";

/// What is copied, and from where.
pub(crate) struct Job<'a> {
    pub(crate) db: &'a MySqlFamily,
    pub(crate) from: &'a Peer,
    pub(crate) tables: &'a [Table<'a>],
    /// The session that holds the lock of copies.
    pub(crate) guard: u32,
    pub(crate) until: &'a Until,
}

/// Rows of our own schema that the link would have brought, each for the unit ?.
const OURS: [(&str, &str); 4] = [
    ("fenced", "op, unit, term, epoch, vector, at"),
    ("brought", "op, unit, vector, lost, at"),
    ("breach", "unit, at, words"),
    ("beat", "unit, at"),
];

/// Copies what differs, and says that the peer's log goes on behind it.
pub(crate) async fn copy(
    job: &Job<'_>,
    session: &mut Session<'_>,
    there: &mut Session<'_>,
    frozen: &Frozen,
) -> Result<Reseeded, Error> {
    let Job { db, from, until, .. } = job;
    let mut writer = writer(db, until).await?;
    let both = keep_closed(&mut writer, &frozen.open).await?;
    if !both.is_empty() {
        return Err(refused(from, format!("slots {both} are open here and there")));
    }
    let here = stands(session, from).await?;
    let closed = frozen.closed.iter().filter(|(_, closed)| *closed > here.sound);
    let closed: SlotSet = closed.map(|(slot, _)| *slot).collect();
    let closed = closed.difference(&peer::open(&mut writer).await?);
    let mut reseeded = Reseeded {
        open: frozen.open.clone(),
        cuts: cuts(session, &frozen.place).await?,
        ..Reseeded::default()
    };
    for table in job.tables {
        let all = frozen.open.union(&closed);
        let (ours, theirs) = snapshot::sums(db, (&mut writer, &mut *there), (table, EVERYTHING), &all, until).await?;
        let differ = ours.differing(&theirs);
        reseeded.left = reseeded.left.union(&differ.intersection(&closed));
        let slots = differ.intersection(&frozen.open);
        if slots.is_empty() {
            continue;
        }
        let (written, removed) = replace(job, &mut writer, there, table, &slots).await?;
        reseeded.written += written;
        reseeded.removed += removed;
        reseeded.slots = reseeded.slots.union(&slots);
    }
    for (table, columns) in OURS {
        let out = format!("SELECT {columns} FROM multiactive.{table} WHERE unit = ?");
        let into = format!("INSERT IGNORE INTO multiactive.{table} ({columns}) VALUES ");
        let params = (from.unit.as_str(),);
        there
            .pour(
                "copying what the log would have brought",
                &out,
                params,
                &mut writer,
                &into,
            )
            .await?;
    }
    links::lock(session).await?;
    if let Some(why) = cut::standing(session).await?.remove(&from.unit) {
        return Err(refused(from, why));
    }
    // Whoever was stuck for long may have lost it, and links may have gone on since.
    let sql = "SELECT IS_USED_LOCK('multiactive.copy') <=> ?";
    if !session.row::<bool>("ending a copy", sql, (job.guard,)).await? {
        return Err(refused(from, "it took too long to say that it goes on".to_owned()));
    }
    lose(session, from, here.sound).await?;
    let place = Gtid::of(&frozen.place, here.log);
    applied::change(db, session, None, Passed::Copied, |mut list| {
        list.retain(|at| at.log != here.log);
        list.extend(place);
        list
    })
    .await?;
    settle(job, &mut writer, frozen, &reseeded).await?;
    writer.batch("ending a copy", "COMMIT").await?;
    writer.batch("ending a copy", BACK_IN_THE_LOG).await?;
    links::unlock(session).await?;
    Ok(reseeded)
}

/// A session in a transaction that writes rows as they are, out of the log.
async fn writer<'a>(db: &'a MySqlFamily, until: &Until) -> Result<Session<'a>, Error> {
    let mut writer = db.server.session().await?;
    writer.limit(until.left()?);
    let begin = format!(
        "SET SESSION {}, {} = 600, foreign_key_checks = 0, sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO'); \
         START TRANSACTION",
        (db.server.dialect.statement_limit)(until.left()?),
        db.server.dialect.idle
    );
    writer.batch("beginning a copy", &begin).await?;
    Ok(writer)
}

/// Where the link from a peer stands.
struct Stands {
    log: Log,
    /// Up to this number of the peer's log nothing is missing here.
    sound: u64,
}

async fn stands(session: &mut Session<'_>, from: &Peer) -> Result<Stands, Error> {
    let known = links::known(session).await?;
    let link = known.into_iter().find(|link| link.from == from.unit);
    let log = link
        .ok_or_else(|| refused(from, "its link was removed meanwhile".to_owned()))?
        .log;
    let applied = Gtid::of(&applied::read(session).await?, log).map_or(0, |at| at.seq);
    let sql = "SELECT sound FROM multiactive.link WHERE from_unit = ? AND gap IS NOT NULL";
    let sound: Vec<Option<u64>> = session.rows("looking at a gap", sql, (from.unit.as_str(),)).await?;
    let sound = sound.into_iter().flatten().next();
    Ok(Stands {
        log,
        sound: sound.map_or(applied, |sound| sound.min(applied)),
    })
}

/// How far the peer had applied the logs of those that are cut off here.
async fn cuts(session: &mut Session<'_>, place: &[Gtid]) -> Result<Vec<UnitPosition>, Error> {
    let (cuts, known) = (cut::standing(session).await?, links::known(session).await?);
    let known = known.into_iter().filter(|link| cuts.contains_key(&link.from));
    let at = |link: links::Known| {
        let at = Gtid::of(place, link.log)?;
        Some(UnitPosition {
            unit: link.from,
            position: at.to_string(),
        })
    };
    Ok(known.filter_map(at).collect())
}

/// Those of the slots that are open here; none opens before the end.
async fn keep_closed(writer: &mut Session<'_>, slots: &SlotSet) -> Result<SlotSet, Error> {
    let sql = format!(
        "SELECT s.slot, s.open FROM multiactive.slot s WHERE {} ORDER BY s.slot LOCK IN SHARE MODE",
        is_one_of("s.slot", slots)
    );
    let rows: Vec<(Slot, bool)> = writer.rows("holding slots", &sql, ()).await?;
    let open = rows.into_iter().filter(|(_, open)| *open);
    Ok(open.map(|(slot, _)| slot).collect())
}

/// What it means that rows could not be written.
fn unwritten(job: &Job<'_>, error: Error) -> Error {
    // 1142: a right to the table is missing.
    if refusal(&error) != Some(1142) {
        return error;
    }
    let why =
        "the agent's user may not write them: run the statements about the agent's user in roles.sql in this server";
    refused(job.from, why.to_owned())
}

/// Replaces the rows of these slots that differ, and sees to it that they are equal then; how many were written, and how many of
/// those that were removed the peer has not.
async fn replace(
    job: &Job<'_>,
    writer: &mut Session<'_>,
    there: &mut Session<'_>,
    table: &Table<'_>,
    slots: &SlotSet,
) -> Result<(u64, u64), Error> {
    writer.batch("copying rows", PAST_THE_LOG).await?;
    let done = replaced(job, writer, there, table, slots).await;
    let counts = done.map_err(|error| unwritten(job, error))?;
    let (ours, theirs) = snapshot::sums(job.db, (writer, there), (table, EVERYTHING), slots, job.until).await?;
    if ours.differing(&theirs).is_empty() {
        return Ok(counts);
    }
    let why = format!(
        "rows of {} are others here than were written: a trigger of the table, or the type of a column, changes them",
        table.sharded.name
    );
    Err(refused(job.from, why))
}

async fn replaced(
    job: &Job<'_>,
    writer: &mut Session<'_>,
    there: &mut Session<'_>,
    table: &Table<'_>,
    slots: &SlotSet,
) -> Result<(u64, u64), Error> {
    let Job { db, until, .. } = job;
    let Table { sharded, columns, .. } = table;
    let name = qualified(&sharded.name, &db.access.database);
    let written: Vec<_> = columns
        .iter()
        .filter(|column| column.is_written)
        .map(|column| ident(&column.name))
        .collect();
    let of = |alias: &str| {
        let each = written.iter().map(|column| format!("{alias}{column}"));
        each.collect::<Vec<_>>().join(", ")
    };
    let in_slots = |t: &str| is_one_of(&slot_of(db, t, sharded), slots);
    let key = snapshot::key(db, writer, sharded).await?;
    let same_key = key.iter().map(|column| format!("c.{0} = t.{0}", ident(column)));
    let same_key = same_key.collect::<Vec<_>>().join(" AND ");
    // No table without a primary key is in a store.
    let first = key.first().map(|column| ident(column)).unwrap_or_default();
    writer.limit(until.left()?);
    there.limit(until.left()?);
    // Statements that delete by a join want a database that they are in.
    let database = ident(table_of(&sharded.name, &db.access.database).0);
    let sql = format!("USE {database}; CREATE TEMPORARY TABLE {COPIED} LIKE {name}");
    writer.batch("copying rows", &sql).await?;
    let out = format!("SELECT {} FROM {name} t WHERE {}", of("t."), in_slots("t"));
    let into = format!("INSERT INTO {COPIED} ({}) VALUES ", of(""));
    there.pour("copying rows", &out, (), writer, &into).await?;
    let gone = format!(
        "SELECT COUNT(*) FROM {name} t LEFT JOIN {COPIED} c ON {same_key} WHERE {} AND c.{} IS NULL",
        in_slots("t"),
        first,
    );
    let removed: u64 = writer.row("looking for rows to remove", &gone, ()).await?;
    let delete = format!(
        "DELETE t FROM {name} t LEFT JOIN {COPIED} c ON {same_key} AND {} = {} WHERE {} AND c.{} IS NULL",
        whole("c", columns),
        whole("t", columns),
        in_slots("t"),
        first,
    );
    writer.change("removing rows that differ", &delete, ()).await?;
    // A row that is in the way though its slot is another one is an error.
    let insert = format!(
        "INSERT INTO {name} ({}) SELECT {} FROM {COPIED} c WHERE NOT EXISTS (SELECT 1 FROM {name} t WHERE {same_key} AND {})",
        of(""),
        of("c."),
        in_slots("t")
    );
    let written = writer.change("writing rows", &insert, ()).await?;
    let sql = format!("DROP TEMPORARY TABLE {COPIED}");
    writer.batch("copying rows", &sql).await?;
    Ok((written, removed))
}

/// Notes that rows may be missing from now on, up to where none is. A gap that stands stays.
async fn lose(session: &mut Session<'_>, from: &Peer, sound: u64) -> Result<(), Error> {
    let why = format!(
        "the rows of {from} are being copied, which has not come to its end: rows that {from} wrote before may be missing \
         here, until it has",
        from = from.unit
    );
    let sql = "UPDATE multiactive.link SET sound = ?, gap = ?, lacking = NULL WHERE from_unit = ? AND gap IS NULL";
    session
        .change("noting a gap", sql, (sound, why, from.unit.as_str()))
        .await
        .map(drop)
}

/// What all that means for the gaps of links, in the transaction of the rows.
async fn settle(job: &Job<'_>, writer: &mut Session<'_>, frozen: &Frozen, reseeded: &Reseeded) -> Result<(), Error> {
    let unit = job.from.unit.as_str();
    let (left, why) = match reseeded.left.is_empty() {
        true => (None, None),
        false => (
            Some(reseeded.left.to_string()),
            Some(format!(
                "{unit} had closed slots before its rows were copied, and what it wrote to them before may be missing here: \
                 they are complete once the rows are copied from who has them open now"
            )),
        ),
    };
    let sql = "UPDATE multiactive.link SET gap = ?, lacking = ?, sound = IF(? IS NULL, NULL, sound)
               WHERE from_unit = ? AND sound IS NOT NULL";
    let params = (why, &left, &left, unit);
    writer.change("settling a gap", sql, params).await?;
    let sql = "SELECT from_unit, lacking FROM multiactive.link
               WHERE from_unit <> ? AND gap IS NOT NULL AND sound IS NOT NULL AND lacking IS NOT NULL";
    let others: Vec<(String, String)> = writer.rows("looking at gaps", sql, (unit,)).await?;
    for (other, lacking) in others {
        let lacking = links::parse_slots(&lacking)?.difference(&reseeded.open);
        let lacking = (!lacking.is_empty()).then(|| lacking.to_string());
        let sql = "UPDATE multiactive.link SET gap = IF(? IS NULL, NULL, gap), sound = IF(? IS NULL, NULL, sound), lacking = ?
                   WHERE from_unit = ?";
        let params = (&lacking, &lacking, &lacking, other);
        writer.change("settling gaps", sql, params).await?;
    }
    for brought in &frozen.brought {
        let sql = "REPLACE INTO multiactive.passed (op, owner, surplus) VALUES (?, ?, FALSE)";
        let params = (brought.op.as_str(), unit);
        writer.change("noting what is here now", sql, params).await?;
    }
    Ok(())
}
