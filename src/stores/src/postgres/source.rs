//! The peer's side of a copy of rows: what is read there, with the replication user's own eyes, and the moment at which its
//! rows and its log say the same.

use super::connect::{Server, Session};
use super::names::{parse_slots, qualified};
use super::{Postgres, fence, names};
use crate::driver::{Peer, StoreSpec};
use crate::error::Error;
pub(super) use crate::until::Until;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::UnitPosition;
use multiactive_core::slots::SlotSet;
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::Row;

/// Who may copy rows: `roles.sql` makes this role, `install` gives it its rights.
pub(super) const ROLE: &str = "multiactive_copy";

/// For how long writers may wait for us at first, and at most: less than PostgreSQL takes to look for a deadlock, so that of
/// two who wait for each other it is always us who gives up.
const SHORT: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(400);

/// For how long, in milliseconds, the peer's writers wait at most while a place in the log and a snapshot are taken.
const HELD: u32 = 2000;

/// Since which release a whole transaction may have a limit of time.
const TRANSACTION_TIMEOUT: u32 = 17;

/// Since which release a message in the log may be flushed with it.
const MESSAGE_FLUSHED: u32 = 17;

/// For how long the peer's writers may be kept waiting before we hold them: whoever does not get the locks in that time lets
/// them go on for longer than they waited, and tries again with more.
pub(super) struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(SHORT)
    }
}

impl Patience {
    /// Has `holder` take the locks of `hold`, for 2 s at most: the peer ends it by itself where we vanish while its writers wait.
    pub(super) async fn hold(&self, holder: &Session<'_>, hold: &str) -> Result<(), Error> {
        // Where a whole transaction has no limit, each statement of it has, and each time between two.
        let limit = match holder.is_since(TRANSACTION_TIMEOUT) {
            true => "transaction_timeout",
            false => "idle_in_transaction_session_timeout",
        };
        let hold = format!(
            "BEGIN; SET LOCAL {limit} = {HELD}; SET LOCAL lock_timeout = {0}; SET LOCAL statement_timeout = {0};
             {hold}; SET LOCAL statement_timeout = {HELD}",
            self.0.as_millis()
        );
        holder.batch("waiting for the peer's writers", &hold).await
    }

    /// After an attempt that failed, whose session is gone and holds nothing; an error where it is not that somebody still
    /// wrote.
    pub(super) async fn after(&mut self, error: Error, until: &Until) -> Result<(), Error> {
        if !fence::is_lost_wait(&error) {
            return Err(error);
        }
        until.left()?;
        sleep(self.0 * 4).await;
        self.0 = (self.0 * 2).min(LONGEST);
        Ok(())
    }
}

/// Begins a transaction whose first query takes its snapshot, whatever the session did before. The sharded tables are locked
/// first: a snapshot sees a table that is rewritten after it as empty. It may be open for long, and waits for the other side.
pub(super) async fn prepare_snapshot(pg: &Postgres, session: &Session<'_>, until: &Until) -> Result<(), Error> {
    let tables: Vec<_> = pg.spec.tables.iter().map(|table| qualified(&table.name)).collect();
    // To ask whether there is such a setting would take the snapshot.
    let unlimited = match session.is_since(TRANSACTION_TIMEOUT) {
        true => "SET LOCAL transaction_timeout = 0;",
        false => "",
    };
    let begin = format!(
        "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {};
         SET LOCAL idle_in_transaction_session_timeout = 0; {unlimited}
         LOCK TABLE {} IN ACCESS SHARE MODE",
        until.left()?.as_millis().max(1),
        tables.join(", ")
    );
    session.batch("locking tables to read them", &begin).await
}

/// Takes the snapshot.
pub(super) async fn take_snapshot(session: &Session<'_>) -> Result<(), Error> {
    session.batch("taking a snapshot", "SELECT 1").await
}

/// Slots that are open, and those that were closed behind $2; what was to be applied elsewhere before slots that were brought
/// here opened, as units and positions; the operations by which slots were taken from unit $4; what is amiss in the log of
/// this unit, $3, until a person has compared; the operations that brought slots to it.
const SEEN: &str = "
    SELECT coalesce(range_agg(int4range(slot, slot, '[]')) FILTER (WHERE s.open), '{}')::text,
           coalesce(range_agg(int4range(slot, slot, '[]')) FILTER (WHERE NOT s.open AND c.at > $2::text::pg_lsn), '{}')::text,
           (SELECT coalesce(array_agg(w.unit || ' ' || w.position), '{}')
            FROM (SELECT w.unit, max(w.position::pg_lsn)::text AS position
                  FROM multiactive.opening o, unnest(o.units, o.positions) AS w(unit, position)
                  WHERE o.unit = $3 GROUP BY w.unit) w),
           (SELECT coalesce(array_agg(l.op), '{}') FROM multiactive.lost l WHERE l.unit = $3 AND l.lost_unit = $4),
           (SELECT coalesce(array_agg(b.words ORDER BY b.at), '{}') FROM multiactive.breach b
            WHERE b.unit = $3 AND b.reborn IS NULL),
           (SELECT coalesce(array_agg(DISTINCT b.op), '{}')
            FROM (SELECT o.op FROM multiactive.opening o WHERE o.unit = $3
                  UNION ALL SELECT l.op FROM multiactive.lost l WHERE l.unit = $3) b)
    FROM multiactive.slot s LEFT JOIN multiactive.closed c USING (keyspace, slot) WHERE s.keyspace = $1";

/// Writers of every slot, whoever opens slots, and installs: none of them is in flight while this is held.
const HOLD: &str = "SELECT pg_advisory_xact_lock(27969, 1003); SELECT pg_advisory_xact_lock_shared(27969, 1000);
                    SELECT pg_advisory_xact_lock(27969, b) FROM generate_series(0, 63) b";

/// A place in the log, flushed up to it where $flush$ may say so; how far this server had applied the units $2 by then, whose links are $3; and the
/// heartbeat of this unit, $1, as it stood before that place.
const PLACE: &str = "
    SELECT pg_logical_emit_message(false, 'multiactive', ''$flush$)::text,
           ARRAY(SELECT coalesce(greatest(pg_replication_origin_progress('pg_' || s.oid, true), c.applied, c.repaired), '0/0')::text
                 FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS w(unit, link, number)
                 LEFT JOIN pg_subscription s ON s.subname = w.link::name
                      AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                 LEFT JOIN multiactive.cut c ON c.from_unit = w.unit AND c.stands ORDER BY w.number),
           m.op, m.term, m.epoch, m.at::text
    FROM (SELECT 1) one LEFT JOIN multiactive.marker m ON m.unit = $1";

/// What a peer says of its slots, and of what its log holds for us.
pub(super) struct Seen {
    pub(super) open: SlotSet,
    /// Closed since its log brought anything here.
    pub(super) closed: SlotSet,
    /// What has to be here before its rows: each a unit and a position in its log.
    pub(super) before: Vec<(String, String)>,
    /// The operations by which it took slots from this unit while that was lost.
    pub(super) bereaved: Vec<String>,
    /// Why its rows may be wrong, or some were not published, by its own word.
    pub(super) breaches: Vec<String>,
    /// The operations that brought slots to it: all that their former owners wrote is in its rows.
    pub(super) brought: Vec<String>,
}

/// The heartbeat of a unit, as its server writes it.
pub(super) struct Marker {
    pub(super) op: Option<String>,
    pub(super) term: Option<i32>,
    pub(super) epoch: Option<i64>,
    pub(super) at: String,
}

/// A moment of the peer.
pub(super) struct Frozen {
    /// The place in its log.
    pub(super) place: String,
    pub(super) seen: Seen,
    pub(super) marker: Option<Marker>,
    /// How far it has applied the logs of others.
    pub(super) applied: Vec<UnitPosition>,
}

/// All that the role may read. The sharded tables come first.
pub(super) fn tables(spec: &StoreSpec) -> Vec<String> {
    let sharded = spec.tables.iter().map(|table| qualified(&table.name));
    let ours =
        ["slot", "closed", "opening", "lost", "breach", "cut", "marker"].map(|table| format!("multiactive.{table}"));
    sharded.chain(ours).collect()
}

/// Refuses where the peer does not let us read its rows.
pub(super) async fn demand_rights(pg: &Postgres, there: &Session<'_>, from: &Peer) -> Result<(), Error> {
    let sql = "SELECT has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (
                   SELECT FROM unnest($1::text[]) t WHERE has_table_privilege(to_regclass(t), 'SELECT') IS NOT TRUE),
               ARRAY(SELECT t FROM unnest($2::text[]) t WHERE to_regclass(t) IS NULL)
               FROM pg_namespace n WHERE n.nspname = 'multiactive'";
    let sharded: Vec<_> = pg.spec.tables.iter().map(|table| qualified(&table.name)).collect();
    let (all, doing) = (tables(&pg.spec), "looking at our rights");
    let (allowed, missing) = match there.rows(doing, sql, &[&all, &sharded]).await {
        Ok(rows) => rows.first().map(|row| (row.get(0), row.get(1))).unwrap_or_default(),
        Err(error) if is_forbidden(&error) => (Some(false), Vec::new()),
        Err(error) => return Err(error),
    };
    let missing: Vec<String> = missing;
    let refused = |why| {
        Err(Error::NotCopied {
            from: from.unit.clone(),
            why,
        })
    };
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return refused(format!(
            "there is no table {missing} there: create it there, as it is here"
        ));
    }
    if allowed == Some(true) {
        return Ok(());
    }
    refused(format!(
        "its replication user {user} may not read them: run the statements about {ROLE} in roles.sql in {unit}'s \
         database (CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO {user}); the agent there grants that role what it needs \
         when it installs next, but for USAGE on other schemas than public",
        user = from.user,
        unit = from.unit
    ))
}

fn is_forbidden(error: &Error) -> bool {
    let Error::Query { source, .. } = error else {
        return false;
    };
    let source = source.downcast_ref::<tokio_postgres::Error>();
    source.and_then(tokio_postgres::Error::code) == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE)
}

/// What the peer says in this session's snapshot.
pub(super) async fn see(pg: &Postgres, there: &Session<'_>, from: &Peer, sound: Option<&str>) -> Result<Seen, Error> {
    let (keyspace, unit, own) = (
        pg.spec.keyspace.name.as_str(),
        from.unit.as_str(),
        pg.spec.unit.as_str(),
    );
    let row = there
        .row("looking at the peer's slots", SEEN, &[&keyspace, &sound, &unit, &own])
        .await?;
    let before: Vec<String> = row.get(2);
    let pair = |text: &String| {
        text.split_once(' ')
            .map(|(unit, position)| (unit.to_owned(), position.to_owned()))
    };
    Ok(Seen {
        open: parse_slots(row.get(0))?,
        closed: parse_slots(row.get(1))?,
        before: before.iter().filter_map(pair).collect(),
        bereaved: row.get(3),
        breaches: row.get(4),
        brought: row.get(5),
    })
}

/// Takes the snapshot of `snapshot`, and the place in the log at which it stands for all that is read from it. `cuts` are the
/// units of which it shall say how far they are applied there.
pub(super) async fn freeze(
    pg: &Postgres,
    there: &Server,
    snapshot: &Session<'_>,
    from: &Peer,
    cuts: &[UnitName],
    sound: Option<&str>,
    until: &Until,
) -> Result<Frozen, Error> {
    let mut patience = Patience::default();
    loop {
        match here_and_now(pg, there, snapshot, from, cuts, &patience, until).await {
            Ok(row) => {
                let seen = see(pg, snapshot, from, sound).await?;
                return Ok(frozen(&row, seen, cuts));
            }
            Err(error) => patience.after(error, until).await?,
        }
    }
}

/// The place in the log and the snapshot, while nobody writes; then they go on.
async fn here_and_now(
    pg: &Postgres,
    there: &Server,
    snapshot: &Session<'_>,
    from: &Peer,
    cuts: &[UnitName],
    patience: &Patience,
    until: &Until,
) -> Result<Row, Error> {
    let holder = there.session().await?;
    let flushes = holder.is_since(MESSAGE_FLUSHED);
    let place = PLACE.replace("$flush$", if flushes { ", true" } else { "" });
    holder.prepare("reading a place in the log", &place).await?;
    prepare_snapshot(pg, snapshot, until).await?;
    patience.hold(&holder, HOLD).await?;
    let links: Vec<_> = cuts.iter().map(|cut| names::link(&pg.spec, cut, &from.unit)).collect();
    let units: Vec<_> = cuts.iter().map(UnitName::as_str).collect();
    let row = holder
        .row(
            "reading a place in the log",
            &place,
            &[&from.unit.as_str(), &units, &links],
        )
        .await?;
    // A snapshot that comes too late is taken after the peer let its writers go on: then ending this transaction fails.
    take_snapshot(snapshot).await?;
    holder.batch("letting the peer's writers go on", "ROLLBACK").await?;
    if !flushes {
        // A commit is flushed, and all before it: else a crash of the peer could give out the place once more.
        let sql = "SELECT pg_logical_emit_message(true, 'multiactive', '')";
        holder.batch("flushing the log up to a place", sql).await?;
    }
    Ok(row)
}

fn frozen(row: &Row, seen: Seen, cuts: &[UnitName]) -> Frozen {
    let at: Option<String> = row.get(5);
    let marker = at.map(|at| Marker {
        op: row.get(2),
        term: row.get(3),
        epoch: row.get(4),
        at,
    });
    let applied: Vec<String> = row.get(1);
    let applied = cuts.iter().cloned().zip(applied);
    Frozen {
        place: row.get(0),
        seen,
        marker,
        applied: applied
            .filter(|(_, position)| position != "0/0")
            .map(|(unit, position)| UnitPosition { unit, position })
            .collect(),
    }
}
