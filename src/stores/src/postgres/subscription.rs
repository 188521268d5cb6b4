//! How a subscription is, as its own server tells it, and what that says about the link.

use super::Postgres;
use super::connect::Session;
use super::names::{publication, qualified};
use crate::driver::{Link, LinkState};
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

/// $1 the name, $2 the publication, $3 the sharded tables.
const LOOK: &str = "
    SELECT s.subenabled, s.subconninfo, s.subslotname::text,
           s.suborigin = 'none' AND s.subsynccommit = 'on' AND NOT s.subdisableonerr,
           s.subpublications = ARRAY[$2],
           NOT EXISTS (SELECT FROM unnest($3::text[]) n
                       WHERE to_regclass(n)::oid NOT IN (SELECT r.srrelid FROM pg_subscription_rel r WHERE r.srsubid = s.oid)),
           w.pid IS NOT NULL AND (w.last_msg_receipt_time IS NOT NULL
               OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = w.pid AND a.wait_event = 'LogicalApplyMain')),
           coalesce(e.apply_error_count, 0),
           concat_ws(', ', CASE WHEN e.confl_insert_exists > 0 THEN 'a row to insert exists' END,
                           CASE WHEN e.confl_update_exists > 0 THEN 'an updated key exists' END,
                           CASE WHEN e.confl_multiple_unique_conflicts > 0 THEN 'several unique keys exist' END),
           l.name IS NOT NULL, l.gap
    FROM pg_subscription s
    JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
    LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.worker_type = 'apply'
    LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid
    LEFT JOIN multiactive.link l ON l.name = s.subname::text
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
    /// Whether we remember that it was made.
    pub(super) noted: bool,
    pub(super) gap: Option<String>,
}

pub(super) async fn look(pg: &Postgres, session: &Session<'_>, name: &str) -> Result<Option<Known>, Error> {
    let mut tables: Vec<_> = pg.spec.tables.iter().map(|table| qualified(&table.name)).collect();
    tables.push("multiactive.marker".to_owned());
    let rows = session
        .rows("looking at a link", LOOK, &[&name, &publication(&pg.spec), &tables])
        .await?;
    Ok(rows.first().map(|row| Known {
        enabled: row.get(0),
        conninfo: row.get(1),
        slot: row.get(2),
        options_fit: row.get(3),
        publication_fits: row.get(4),
        tables_fit: row.get(5),
        streams: row.get(6),
        errors: row.get(7),
        conflicts: row.get(8),
        noted: row.get(9),
        gap: row.get(10),
    }))
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
    /// Whether it was compared with what it should be: only `link` can, it knows the peer's address.
    compared: bool,
    why: Option<String>,
}

impl Watch {
    /// Notes that the link is as it should be, as far as this process knows.
    pub(super) fn compared(&self, name: &str) {
        if let Ok(mut links) = self.0.lock() {
            links.entry(name.to_owned()).or_default().compared = true;
        }
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
        watched.why = why.or(watched.why.take());
    }
    link(state(known, watched), known.gap.clone())
}

fn state(known: &Known, watched: &Watched) -> LinkState {
    if !known.enabled {
        return LinkState::Broken("the subscription is disabled".to_owned());
    }
    if let Some(why) = watched.why.as_ref().filter(|_| !known.streams) {
        return LinkState::Broken(why.clone());
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
        return LinkState::Starting("it is not known to be as it should be".to_owned());
    }
    match watched.silent {
        None => LinkState::Running,
        Some(since) if since.elapsed() > PATIENCE => {
            LinkState::Broken(format!("it has not streamed for {:.0?}", since.elapsed()))
        }
        Some(_) => LinkState::Starting("it connects".to_owned()),
    }
}
