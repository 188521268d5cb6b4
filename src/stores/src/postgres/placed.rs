//! What must stay as `install` left it (triggers, functions, publication), and what it means where something did not.
//!
//! `install` notes how each thing is in the catalog. A look compares: whoever disables a trigger, drops a table and creates
//! it again, replaces a function of ours, or takes a table out of the publication changes one of them. The notes are facts
//! of the catalog and no statements, so that another version of the server reads the same.

use super::Postgres;
use super::connect::Session;
use super::names::{PUBLISHED, publication, qualified, short, table};
use crate::driver::{StoreSpec, TableFinding};
use crate::error::Error;
use multiactive_core::ids::UnitName;
use tokio_postgres::Row;

/// How the thing `p` is now; null where it is gone.
macro_rules! state {
    () => {
        "CASE p.kind
            WHEN 'trigger' THEN (
                SELECT concat_ws('|', t.tgenabled, t.tgtype, t.tgfoid::regproc, t.tgqual IS NULL, t.tgattr, t.tgnewtable,
                                 CASE WHEN t.tgdeferrable THEN CASE WHEN t.tginitdeferred THEN 'deferred' ELSE 'deferrable' END END)
                FROM pg_trigger t WHERE t.tgrelid = to_regclass(p.object) AND t.tgname = p.name)
            WHEN 'function' THEN (
                SELECT string_agg(concat_ws('|', f.prosecdef, f.provolatile, f.proisstrict, f.proconfig, f.prosrc), '|'
                                  ORDER BY f.pronargs, f.oid)
                FROM pg_proc f WHERE f.pronamespace = to_regnamespace('multiactive') AND f.proname = p.name)
            WHEN 'sequence' THEN (
                SELECT concat_ws('|', c.relkind, CASE WHEN s.leased AND pg_sequence_last_value(c.oid::regclass) IS NULL
                                                      THEN 'never set' END)
                FROM pg_class c, multiactive.store s WHERE c.oid = to_regclass(p.object))
            WHEN 'publication' THEN (
                SELECT concat_ws('|', q.pubinsert, q.pubupdate, q.pubdelete, q.pubtruncate)
                FROM pg_publication q WHERE q.pubname = p.name)
            WHEN 'published table' THEN (
                SELECT concat_ws('|', r.prqual IS NULL, r.prattrs IS NULL)
                FROM pg_publication_rel r JOIN pg_publication q ON q.oid = r.prpubid
                WHERE q.pubname = p.name AND r.prrelid = to_regclass(p.object))
         END"
    };
}

/// Everything that is not as it was left, as three lists: kind, what in words, and whether it is disabled, gone or changed.
const AMISS: &str = concat!(
    "SELECT coalesce(array_agg(kind), '{}'),
            coalesce(array_agg(CASE kind WHEN 'trigger' THEN format('trigger %s of table %s', name, object)
                                         WHEN 'function' THEN format('function multiactive.%s', name)
                                         WHEN 'sequence' THEN format('sequence %s', object)
                                         WHEN 'publication' THEN format('publication %s', name)
                                         ELSE format('table %s in publication %s', object, name) END), '{}'),
            coalesce(array_agg(CASE WHEN now IS NULL THEN 'gone' WHEN kind = 'trigger' AND now LIKE 'D%' THEN 'disabled'
                                    ELSE 'changed' END), '{}'),
            to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"')
     FROM (SELECT p.*, ",
    state!(),
    " AS now FROM multiactive.placed p ORDER BY p.kind DESC, p.object, p.name) x
     WHERE now IS DISTINCT FROM words"
);

/// Notes the things $1, $2, $3 as they are now.
const NOTE: &str = concat!(
    "INSERT INTO multiactive.placed (kind, object, name, words)
     SELECT p.kind, p.object, p.name, ",
    state!(),
    " FROM unnest($1::text[], $2::text[], $3::text[]) AS p(kind, object, name)"
);

/// What is not as it was left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Amiss {
    /// In words, one for each thing.
    pub(super) found: Vec<String>,
    /// Whether the fence was not whole; else only the publication was not.
    fence: bool,
    /// When this was looked at, by the server's clock.
    at: String,
}

impl Amiss {
    /// From the first columns of [`AMISS`].
    fn of(row: &Row) -> Self {
        let (kinds, things, how): (Vec<String>, Vec<String>, Vec<String>) = (row.get(0), row.get(1), row.get(2));
        let found = things.iter().zip(&how).map(|(thing, how)| format!("{thing} was {how}"));
        Self {
            found: found.collect(),
            fence: kinds
                .iter()
                .any(|kind| ["trigger", "function", "sequence"].contains(&kind.as_str())),
            at: row.get(3),
        }
    }

    /// Nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What it means, for whoever must compare rows; `since` is when all was last seen in place.
    fn words(&self, unit: &UnitName, since: Option<&str>) -> String {
        let Self { found, fence, at } = self;
        let found = found.join(", ");
        let from = since.map_or_else(
            || "an unknown time (nobody had looked before)".to_owned(),
            |since| format!("some moment after {since}"),
        );
        let meaning = if *fence {
            format!(
                "from then on {unit}'s database may have taken writes for slots that {unit} does not own, or that were \
                 fenced, and links may have carried them everywhere"
            )
        } else {
            format!("from then on rows that {unit} wrote may not have been published")
        };
        format!(
            "{found}, from {from} until it was put back at {at}: {meaning}. It cannot be proven that none was written: \
             compare the rows with {unit}'s and repair"
        )
    }
}

/// All that is not as `install` left it; nothing, where no install has noted anything.
pub(super) async fn amiss(session: &Session<'_>) -> Result<Amiss, Error> {
    let row = session.row("looking at the fence's parts", AMISS, &[]).await?;
    Ok(Amiss::of(&row))
}

/// Refuses to go on where the fence or the publication is not whole.
pub(super) async fn demand(session: &Session<'_>) -> Result<(), Error> {
    let amiss = amiss(session).await?;
    if amiss.is_empty() {
        Ok(())
    } else {
        Err(Error::NotInPlace { found: amiss.found })
    }
}

/// Notes how everything of the store is now: it was just put in place.
pub(super) async fn note(session: &Session<'_>, spec: &StoreSpec) -> Result<(), Error> {
    let parts = parts(spec);
    let column = |of: fn(&Part) -> &str| parts.iter().map(of).collect::<Vec<_>>();
    let (kinds, objects, names) = (
        column(|part| part.0),
        column(|part| part.1.as_str()),
        column(|part| part.2.as_str()),
    );
    session
        .change("forgetting parts", "DELETE FROM multiactive.placed", &[])
        .await?;
    session
        .change("noting the fence's parts", NOTE, &[&kinds, &objects, &names])
        .await?;
    Ok(())
}

/// Notes that something was not in place: here, for every receiver (see `breach` in the schema), and, where this
/// member's rows may have been changed past the fence, for the links into it.
pub(super) async fn confess(pg: &Postgres, session: &Session<'_>, amiss: &Amiss) -> Result<(), Error> {
    let since = pg.in_place.lock().ok().and_then(|since| since.clone());
    let words = amiss.words(&pg.spec.unit, since.as_deref());
    tracing::error!(store = %pg.spec.store, unit = %pg.spec.unit, at = %pg.server.at, words, "put back in place");
    let sql = "INSERT INTO multiactive.breach (unit, at, fence, words) VALUES ($1, clock_timestamp(), $2, $3)";
    session
        .change("noting a breach", sql, &[&pg.spec.unit.as_str(), &amiss.fence, &words])
        .await?;
    if amiss.fence {
        let sql = "SELECT multiactive.add_gap(l.from_unit, $1) FROM multiactive.link l";
        session.rows("noting gaps of links", sql, &[&words]).await?;
    }
    Ok(())
}

/// Notes when all was in place.
pub(super) fn whole(pg: &Postgres, amiss: &Amiss) {
    if let Ok(mut since) = pg.in_place.lock() {
        *since = Some(amiss.at.clone());
    }
}

/// What was put back here, until a person has dealt with it.
pub(super) async fn breaches(pg: &Postgres, session: &Session<'_>) -> Result<Vec<TableFinding>, Error> {
    let sql = "SELECT fence, words, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM multiactive.breach
               WHERE unit = $1 AND reborn IS NULL ORDER BY at DESC LIMIT 3";
    let rows = session.rows("reading breaches", sql, &[&pg.spec.unit.as_str()]).await?;
    let finding = |row: &Row| {
        let (fence, words): (bool, String) = (row.get(0), row.get(1));
        TableFinding {
            table: if fence { "fence" } else { "publication" }.to_owned(),
            refused: false,
            reason: if fence { "FenceRepaired" } else { "PublicationRepaired" },
            message: format!(
                "{words}; every other member's link from here has a gap until then. Once all are equal, in this database: \
                 DELETE FROM multiactive.breach"
            ),
        }
    };
    Ok(rows.iter().map(finding).collect())
}

/// Kind, object and name, as in `multiactive.placed`.
type Part = (&'static str, String, String);

/// Everything of a store that must stay as it is.
fn parts(spec: &StoreSpec) -> Vec<Part> {
    let ours = |name: &str| format!("multiactive.{name}");
    let mut parts: Vec<Part> = vec![
        ("trigger", ours("opening"), "hold_back".to_owned()),
        ("trigger", ours("breach"), "heed".to_owned()),
        ("trigger", ours("joined"), "await_table".to_owned()),
        ("trigger", ours("store"), "tell_birth".to_owned()),
        ("trigger", ours("writing"), "check_lease".to_owned()),
        ("trigger", ours("lost"), "quarantine".to_owned()),
        ("trigger", ours("mark"), "stop_at_place".to_owned()),
        ("trigger", ours("marker"), "take_marker".to_owned()),
        ("sequence", ours("lease"), String::new()),
        ("publication", String::new(), publication(spec)),
        ("function", String::new(), super::install::slot_function(&spec.keyspace)),
    ];
    for name in [
        "admit",
        "refuse_truncate",
        "hold_back",
        "heed",
        "add_gap",
        "await_table",
        "tell_birth",
        "introduction",
        "beat",
        "writes",
        "take_marker",
        "quarantine",
        "note_surplus",
        "mark_place",
        "take_horizon",
        "timeline",
        "stop_at_place",
        "enable",
        "in_lease",
        "arm",
        "check_lease",
        "extend",
        "expire",
        "begin_server",
        "clock",
        "held",
    ] {
        parts.push(("function", String::new(), name.to_owned()));
    }
    for name in PUBLISHED {
        parts.push(("published table", ours(name), publication(spec)));
    }
    for sharded in &spec.tables {
        let (schema, name) = table(&sharded.name);
        let object = qualified(&sharded.name);
        for trigger in [
            "~multiactive_guard",
            "~multiactive_inserts",
            "~multiactive_changes",
            "~multiactive_truncate",
        ] {
            parts.push(("trigger", object.clone(), trigger.to_owned()));
        }
        if spec.is_shared() {
            for trigger in ["~multiactive_clash_rows", "~multiactive_clash_keys"] {
                parts.push(("trigger", object.clone(), trigger.to_owned()));
            }
            parts.push(("function", String::new(), super::install::pass_function(sharded)));
        }
        for function in ["guard", "inserts"] {
            parts.push(("function", String::new(), short(function, &[schema, name])));
        }
        parts.push(("published table", object, publication(spec)));
    }
    parts
}

/// How many things are noted for a store.
pub(super) fn count(spec: &StoreSpec) -> i64 {
    i64::try_from(parts(spec).len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_amiss_says_what_may_have_happened() {
        for (fence, since, want) in [
            (
                true,
                Some("12:00"),
                "may have taken writes for slots that east-1 does not own",
            ),
            (true, None, "from an unknown time"),
            (
                false,
                Some("12:00"),
                "rows that east-1 wrote may not have been published",
            ),
        ] {
            let amiss = Amiss {
                found: vec!["trigger t of table orders was disabled".to_owned()],
                fence,
                at: "12:01".to_owned(),
            };
            let words = amiss.words(&"east-1".into(), since);
            assert!(
                words.contains(want) && words.starts_with("trigger t of table orders was disabled"),
                "{words}"
            );
            assert!(words.contains("cannot be proven"), "{words}");
        }
    }
}
