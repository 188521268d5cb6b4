//! How a subscription is, as its own server tells it, and what that says about the link.

use super::Postgres;
use super::connect::Session;
use super::names::{self, IN_ORDER, publication, qualified};
use crate::driver::{Lacking, Link, LinkState};
use crate::error::Error;
use multiactive_core::ids::UnitName;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a link may be without a stream before it counts as broken: several attempts of PostgreSQL's launcher, which
/// makes one every 5 s by default.
const PATIENCE: Duration = Duration::from_secs(12);

/// How long a worker must stream after a failure before that is forgotten: one that cannot apply what comes streams for
/// less than this.
const PEACE: Duration = Duration::from_secs(1);

/// For how long a worker may wait for a lock before its link counts as broken; it is told after a second.
const LOCKED: Duration = Duration::from_secs(10);

/// For how long nothing may come from a server that says something at least every 5 s (`wal_sender_timeout`: see `peer`).
const SILENT: Duration = Duration::from_secs(8);

/// $1 the name, $2 the publication, $3 the published tables but for those of $4, of which it must miss nothing.
const LOOK: &str = "
    SELECT s.subenabled, s.subconninfo, s.subslotname::text,
           s.suborigin = 'none' AND s.subsynccommit = 'on' AND NOT s.subdisableonerr,
           s.subpublications = ARRAY[$2],
           NOT EXISTS (SELECT FROM unnest($3::text[]) n
                       WHERE to_regclass(n)::oid NOT IN (SELECT r.srrelid FROM pg_subscription_rel r WHERE r.srsubid = s.oid)),
           w.pid IS NOT NULL AND (w.last_msg_receipt_time IS NOT NULL
               OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = w.pid AND a.wait_event = 'LogicalApplyMain')),
           coalesce(e.apply_error_count, 0),
           concat_ws(', ', CASE WHEN (j.counted ->> 'confl_insert_exists')::bigint > 0 THEN 'a row to insert exists' END,
                           CASE WHEN (j.counted ->> 'confl_update_exists')::bigint > 0 THEN 'an updated key exists' END,
                           CASE WHEN (j.counted ->> 'confl_multiple_unique_conflicts')::bigint > 0 THEN 'several unique keys exist' END),
           l.gap,
           (SELECT count(*) = cardinality($4::text[]) FROM pg_subscription_rel r
            WHERE r.srsubid = s.oid AND r.srrelid = ANY (SELECT to_regclass('multiactive.' || t) FROM unnest($4::text[]) t)),
           substring(a.application_name FROM '^awaits (.*)$'),
           coalesce(a.backend_start < clock_timestamp() - interval '15 seconds', false),
           k.seconds, k.words, w.pid, l.gap IS NOT NULL AND l.sound IS NOT NULL, l.lacking::text,
           -- Of a worker that waits for what comes: one that is busy with what came reads nothing meanwhile.
           -- One that has heard nothing yet says `-infinity`, which no release before 17 can subtract.
           CASE WHEN a.wait_event = 'LogicalApplyMain' AND isfinite(w.last_msg_receipt_time)
                THEN extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time)::float8 END,
           pg_replication_origin_progress('pg_' || s.oid, false)::text
    FROM pg_subscription s
    JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
    -- The worker that applies, as 16 knows it too: none that copies a table, and nobody's helper.
    LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL AND w.leader_pid IS NULL
    LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid
    -- Conflicts are counted from 18 on.
    LEFT JOIN LATERAL (SELECT to_jsonb(e) AS counted) j ON true
    LEFT JOIN multiactive.link l ON l.name = s.subname::text
    LEFT JOIN pg_stat_activity a ON a.pid = w.pid
    LEFT JOIN LATERAL (
        -- Looked at only while the worker, or one of its helpers, waits for a lock: that asks the whole lock table.
        SELECT extract(epoch FROM clock_timestamp() - t.waitstart)::float8 AS seconds,
               format('its worker waits for a lock%s since %s, held by %s', ' on ' || t.relation::regclass,
                      to_char(t.waitstart AT TIME ZONE 'UTC', 'HH24:MI:SS UTC'),
                      coalesce((SELECT string_agg(format('process %s of %s, %s, its transaction began at %s: %s', b.pid,
                                                         coalesce(b.usename::text, b.backend_type), coalesce(b.state, 'at work'),
                                                         to_char(b.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS UTC'),
                                                         left(b.query, 120)), '; ' ORDER BY b.pid)
                                FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(t.pid))),
                               'a session that is gone')) AS words
        FROM pg_locks t
        WHERE a.wait_event_type = 'Lock' AND NOT t.granted AND t.locktype <> 'applytransaction' AND t.waitstart < clock_timestamp() - interval '1 second'
          AND t.pid = ANY (SELECT x.pid FROM pg_stat_subscription x JOIN pg_stat_activity y ON y.pid = x.pid
                           WHERE x.subid = s.oid AND y.wait_event_type = 'Lock')
        ORDER BY t.waitstart LIMIT 1) k ON true
    WHERE s.subname = $1::text::name";

/// A subscription that exists.
pub(super) struct Known {
    pub(super) enabled: bool,
    pub(super) conninfo: String,
    pub(super) slot: Option<String>,
    pub(super) options_fit: bool,
    pub(super) publication_fits: bool,
    pub(super) tables_fit: bool,
    /// Its worker is connected and applies what comes.
    pub(super) streams: bool,
    /// How often applying has failed, ever.
    pub(super) errors: i64,
    /// Which conflicts were counted, ever.
    pub(super) conflicts: String,
    pub(super) gap: Option<String>,
    /// Which rows are copied to end the gap.
    lacking: Option<Lacking>,
    /// Whether it receives openings, and what else it must miss nothing of.
    pub(super) receives_all: bool,
    /// What its worker waits for before it goes on, at an opening or where a table joined.
    pub(super) awaits: Option<Awaits>,
    /// Up to where what came was applied.
    applied: Option<String>,
    /// Whether its worker has run for a while: it meets again what it failed at before as soon as the peer has read its log
    /// up to there, which takes seconds where the peer is busy.
    settled: bool,
    /// Its worker's process: another one may have connected to another server.
    worker: Option<i32>,
    /// For how long its worker has waited for a lock, and whose.
    locked: Option<(Duration, String)>,
    /// For how long its worker, which waits for that, was told nothing.
    silent: Option<Duration>,
}

pub(super) async fn look(pg: &Postgres, session: &Session<'_>, name: &str) -> Result<Option<Known>, Error> {
    let mut tables: Vec<_> = pg.spec.tables.iter().map(|table| qualified(&table.name)).collect();
    tables.push("multiactive.marker".to_owned());
    let rows = session
        .rows(
            "looking at a link",
            LOOK,
            &[&name, &publication(&pg.spec), &tables, &IN_ORDER.as_slice()],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Known {
        enabled: row.get(0),
        conninfo: row.get(1),
        slot: row.get(2),
        options_fit: row.get(3),
        publication_fits: row.get(4),
        tables_fit: row.get(5),
        streams: row.get(6),
        errors: row.get(7),
        conflicts: row.get(8),
        gap: row.get(9),
        receives_all: row.get(10),
        awaits: row.get::<_, Option<&str>>(11).map(Awaits::parse),
        settled: row.get(12),
        worker: row.get(15),
        locked: locked(row),
        lacking: lacking(row)?,
        silent: row
            .get::<_, Option<f64>>(18)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        applied: row.get(19),
    }))
}

fn lacking(row: &tokio_postgres::Row) -> Result<Option<Lacking>, Error> {
    let (by_copy, of): (bool, Option<&str>) = (row.get::<_, Option<bool>>(16) == Some(true), row.get(17));
    let of = of.map(names::parse_slots).transpose()?;
    Ok(by_copy.then(|| of.map_or(Lacking::Unknown, Lacking::Of)))
}

fn locked(row: &tokio_postgres::Row) -> Option<(Duration, String)> {
    let seconds: Option<f64> = row.get(13);
    Some((
        Duration::try_from_secs_f64(seconds?).ok()?,
        row.get::<_, Option<String>>(14)?,
    ))
}

/// What earlier looks showed, in this process: PostgreSQL keeps no reason, and a worker that fails is back in between.
#[derive(Default)]
pub(super) struct Watch(Mutex<HashMap<String, Watched>>);

#[derive(Default)]
struct Watched {
    errors: Option<i64>,
    /// How often it failed since it last streamed in peace, and when last.
    failures: i64,
    failed: Option<Instant>,
    silent: Option<Instant>,
    /// Whether it was compared with what it should be since its worker began: only `link` can, it knows the peer's address.
    compared: bool,
    worker: Option<i32>,
    why: Option<String>,
    /// What its worker was seen to wait for, and up to where it had applied then: between two attempts there is no worker to ask.
    awaits: Option<(Awaits, Option<String>)>,
}

impl Watch {
    /// Notes that the link is as it should be, as far as this process knows.
    pub(super) fn compared(&self, name: &str) {
        if let Ok(mut links) = self.0.lock() {
            links.entry(name.to_owned()).or_default().compared = true;
        }
    }

    /// Whether it was, since its worker began.
    pub(super) fn is_compared(&self, name: &str) -> bool {
        self.0
            .lock()
            .is_ok_and(|links| links.get(name).is_some_and(|link| link.compared))
    }

    pub(super) fn forget(&self, name: &str) {
        if let Ok(mut links) = self.0.lock() {
            links.remove(name);
        }
    }
}

/// The link, from its subscription and from what was seen before; `why` is what was just learned about it.
pub(super) fn judge(pg: &Postgres, name: &str, from: &UnitName, known: Option<&Known>, why: Option<String>) -> Link {
    let link = |state, gap| Link {
        from: from.clone(),
        state,
        gap,
        lacking: known.and_then(|known| known.lacking.clone()),
    };
    let Some(known) = known else {
        let why = why.unwrap_or_else(|| "it does not exist".to_owned());
        return link(LinkState::Broken(why), None);
    };
    let Ok(mut links) = pg.watch.0.lock() else {
        return link(LinkState::Starting("not known".to_owned()), known.gap.clone());
    };
    let watched = links.entry(name.to_owned()).or_default();
    let failures = watched.errors.map_or(0, |before| (known.errors - before).max(0));
    watched.errors = Some(known.errors);
    if known.worker.is_some() && known.worker != watched.worker {
        watched.compared &= watched.worker.is_none();
        watched.worker = known.worker;
    }
    if failures > 0 {
        watched.failures += failures;
        watched.failed = Some(Instant::now());
    }
    if known.streams {
        (watched.silent, watched.why) = (None, None);
        if watched.failed.is_none_or(|at| at.elapsed() > PEACE) {
            (watched.failures, watched.failed) = (0, None);
        }
    } else {
        watched.silent.get_or_insert_with(Instant::now);
        watched.why = why.clone().or(watched.why.take());
    }
    let passed = |(_, applied): &mut (Awaits, _)| known.applied != *applied || (known.streams && known.settled);
    match &known.awaits {
        Some(awaits) => watched.awaits = Some((awaits.clone(), known.applied.clone())),
        None => drop(watched.awaits.take_if(passed)),
    }
    link(state(known, watched, why.as_deref()), known.gap.clone())
}

/// What a worker waits for. The schema's triggers put it in its application_name, which may cut off its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// `hold_back`: the writes of another unit up to a position.
    Writes { position: String, unit: String },
    /// `await_table`: that the link brings a table that joined at the other end.
    Table {
        number: i32,
        table: String,
        /// It is not in this database.
        missing: bool,
    },
    /// `quarantine`: that what an operation made differ is accepted, which took slots from this unit.
    Rejoin { op: String },
}

impl Awaits {
    fn parse(what: &str) -> Self {
        let joined = |rest: &str, missing| {
            let (number, table) = rest.split_once(' ')?;
            Some(Self::Table {
                number: number.parse().ok()?,
                table: table.to_owned(),
                missing,
            })
        };
        let table = match what.split_once(' ') {
            Some(("table", rest)) => joined(rest, false),
            Some(("missing", rest)) => joined(rest, true),
            Some(("rejoin", op)) => Some(Self::Rejoin { op: op.to_owned() }),
            Some(_) | None => None,
        };
        let (position, unit) = what.split_once(" of ").unwrap_or((what, "another unit"));
        table.unwrap_or_else(|| Self::Writes {
            position: position.to_owned(),
            unit: unit.to_owned(),
        })
    }

    /// How a link is whose worker waits for this; `why` it was not given just now.
    fn state(&self, why: Option<&str>) -> LinkState {
        let why = because(why);
        match self {
            // Whether its link may bring them is not known here: see `cut::told`.
            Self::Writes { position, unit } => LinkState::Lacks {
                of: UnitName(unit.clone()),
                upto: position.clone(),
            },
            Self::Rejoin { op } => LinkState::Quarantined(format!(
                "operation {op} took slots over there while this unit was lost: nothing of what is written there is applied \
                 before the rows are compared and what differs is accepted"
            )),
            Self::Table {
                table, missing: false, ..
            } => LinkState::Starting(format!(
                "table {table} joined the store there: it waits until it is added to this link{why}"
            )),
            Self::Table {
                table, missing: true, ..
            } => LinkState::Broken(format!(
                "table {table} joined the store there, and there is none in this database: create it here, as it is there; \
                 until then the link waits, and nothing is lost"
            )),
        }
    }
}

/// What was just learned, as the end of a sentence.
fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn state(known: &Known, watched: &Watched, why: Option<&str>) -> LinkState {
    if !known.enabled {
        return LinkState::Broken("the subscription is disabled".to_owned());
    }
    if let Some(why) = watched.why.as_ref().filter(|_| !known.streams) {
        return LinkState::Broken(why.clone());
    }
    if let Some(silent) = known.silent.filter(|silent| *silent > SILENT) {
        return LinkState::Broken(format!(
            "nothing has come from its server for {silent:.0?}: it stands still, or the network between the databases loses what it \
             sends"
        ));
    }
    if let Some((since, why)) = &known.locked {
        return match *since > LOCKED {
            true => LinkState::Broken(why.clone()),
            false => LinkState::Starting(why.clone()),
        };
    }
    if let Some((awaited, _)) = &watched.awaits {
        return awaited.state(why);
    }
    // A lost connection is counted as one failure; what cannot be applied fails again and again.
    if watched.failures > 1 {
        let conflicts = if known.conflicts.is_empty() {
            "see the server's log"
        } else {
            &known.conflicts
        };
        return LinkState::Broken(format!(
            "what comes cannot be applied, {} times by now: {conflicts}",
            known.errors
        ));
    }
    if !(watched.compared && known.options_fit && known.publication_fits && known.tables_fit) {
        return LinkState::Starting(format!("it is not known to be as it should be{}", because(why)));
    }
    match watched.silent {
        None => LinkState::Running,
        Some(since) if since.elapsed() > PATIENCE => {
            LinkState::Broken(format!("it has not streamed for {:.0?}", since.elapsed()))
        }
        Some(_) => LinkState::Starting("it connects".to_owned()),
    }
}
