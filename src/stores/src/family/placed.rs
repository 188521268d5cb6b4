//! What must stay as `install` left it (triggers, routines, the event of the deadline), and what it means where something did
//! not.

use super::connect::Session;
use super::names::{self, table};
use super::{MySqlFamily, links};
use crate::driver::TableFinding;
use crate::error::Error;

/// How the thing `p` is now; null where it is gone. `$(` and `$)` stand around what is hashed.
macro_rules! state {
    () => {
        "CASE p.kind
            WHEN 'trigger' THEN (
                SELECT $(CONCAT_WS('|', t.ACTION_TIMING, t.EVENT_MANIPULATION, t.EVENT_OBJECT_TABLE, t.DEFINER,
                                     t.ACTION_STATEMENT)$)
                FROM information_schema.TRIGGERS t WHERE t.TRIGGER_SCHEMA = p.object AND t.TRIGGER_NAME = p.name)
            WHEN 'routine' THEN (
                SELECT $(CONCAT_WS('|', r.ROUTINE_TYPE, r.DEFINER, r.SECURITY_TYPE, r.ROUTINE_DEFINITION)$)
                FROM information_schema.ROUTINES r WHERE r.ROUTINE_SCHEMA = p.object AND r.ROUTINE_NAME = p.name)
            WHEN 'event' THEN (
                SELECT CONCAT_WS('|', e.STATUS, e.INTERVAL_VALUE, e.INTERVAL_FIELD, $(e.EVENT_DEFINITION$), e.DEFINER)
                FROM information_schema.EVENTS e WHERE e.EVENT_SCHEMA = p.object AND e.EVENT_NAME = p.name)
            ELSE (
                SELECT s.TABLE_TYPE FROM information_schema.TABLES s
                WHERE s.TABLE_SCHEMA = p.object AND s.TABLE_NAME = p.name)
         END"
    };
}

/// Everything that is not as it was left: what, and whether it is gone, disabled or changed.
const AMISS: &str = concat!(
    "SELECT CONCAT(x.kind, ' ', x.object, '.', x.name, ' was ',
                   CASE WHEN x.now IS NULL THEN 'gone' WHEN x.now LIKE 'DISABLED%' THEN 'disabled' ELSE 'changed' END)
     FROM (SELECT p.*, ",
    state!(),
    " AS now FROM multiactive.placed p) x
     WHERE NOT (x.now <=> x.words) ORDER BY x.kind DESC, x.object, x.name"
);

/// Notes the thing ?, ?, ? as it is now; one that is not there is noted as such.
const NOTE: &str = concat!(
    "INSERT INTO multiactive.placed (kind, object, name, words)
     SELECT p.kind, p.object, p.name, IFNULL(",
    state!(),
    ", '') FROM (SELECT ? AS kind, ? AS object, ? AS name) p"
);

/// A statement in the words of the server's engine.
fn spelled(session: &Session<'_>, sql: &str) -> String {
    let (begin, end) = session.dialect().digest;
    sql.replace("$(", begin).replace("$)", end)
}

/// All that is not as `install` left it, in words; nothing, where no install has noted anything.
pub(crate) async fn amiss(session: &mut Session<'_>) -> Result<Vec<String>, Error> {
    let sql = spelled(session, AMISS);
    session.rows("looking at the fence's parts", &sql, ()).await
}

/// Refuses to go on where the fence is not whole.
pub(crate) async fn demand(session: &mut Session<'_>) -> Result<(), Error> {
    let found = amiss(session).await?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(Error::NotInPlace { found })
    }
}

/// Notes how everything of the store is now: it was just put in place.
pub(crate) async fn note(db: &MySqlFamily, session: &mut Session<'_>) -> Result<(), Error> {
    session
        .change("forgetting parts", "DELETE FROM multiactive.placed", ())
        .await?;
    let sql = spelled(session, NOTE);
    for part in parts(db) {
        session.change("noting the fence's parts", &sql, part).await?;
    }
    Ok(())
}

/// Kind, database and name of everything that must stay as it is.
fn parts(db: &MySqlFamily) -> Vec<(&'static str, String, String)> {
    let ours = |kind, name: &str| (kind, "multiactive".to_owned(), name.to_owned());
    let mut parts = vec![ours("routine", &super::install::slot_function(&db.spec.keyspace))];
    parts.extend(db.server.dialect.parts.iter().map(|(kind, name)| ours(kind, name)));
    for sharded in &db.spec.tables {
        let (database, name) = table(&sharded.name, &db.access.database);
        for event in ["INSERT", "UPDATE", "DELETE"] {
            parts.push(("trigger", database.to_owned(), names::guard(event, database, name)));
        }
    }
    parts
}

/// How many parts there are.
pub(crate) fn count(db: &MySqlFamily) -> u64 {
    u64::try_from(parts(db).len()).unwrap_or(u64::MAX)
}

/// Notes that something was not in place: for every receiver, in the log, and for the links into this member.
pub(crate) async fn confess(db: &MySqlFamily, session: &mut Session<'_>, amiss: &[String]) -> Result<(), Error> {
    let unit = &db.spec.unit;
    let words = format!(
        "{}, until it was put back: {unit}'s database may have taken writes for slots that {unit} does not own, or that were \
         fenced, and links may have carried them everywhere. It cannot be proven that none was written: compare the rows with \
         {unit}'s and repair",
        amiss.join(", ")
    );
    tracing::error!(store = %db.spec.store, %unit, at = %db.server.at, words, "put back in place");
    let mut logged = db.server.logged().await?;
    let sql = "INSERT INTO multiactive.breach (unit, at, words) VALUES (?, multiactive.clock(), ?)";
    logged.change("noting a breach", sql, (unit.as_str(), &words)).await?;
    logged.keep();
    links::add_gap(session, None, &words).await
}

/// What was put back here, until a person has dealt with it.
pub(crate) async fn breaches(db: &MySqlFamily, session: &mut Session<'_>) -> Result<Vec<TableFinding>, Error> {
    let sql = "SELECT words FROM multiactive.breach WHERE unit = ? ORDER BY at DESC LIMIT 3";
    let words: Vec<String> = session.rows("reading breaches", sql, (db.spec.unit.as_str(),)).await?;
    let finding = |words: String| TableFinding {
        table: "fence".to_owned(),
        refused: false,
        reason: "FenceRepaired",
        message: format!(
            "{words}; every other member's link from here has a gap until then. Once all are equal, in this server: SET \
             sql_log_bin = 0; DELETE FROM multiactive.breach"
        ),
    };
    Ok(words.into_iter().map(finding).collect())
}
