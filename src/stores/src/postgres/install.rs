//! Putting schema, fence and publication in place, and nothing where they are.
//!
//! A digest of every statement that would run is kept in the database. While it fits, and every part is as it was left, an
//! install is two queries. Where a part is not, it is put back, and that is noted for whoever holds these rows.

use super::connect::Session;
use super::names::{IN_ORDER, PUBLISHED, fnv, ident, literal, publication, qualified, short, table};
use super::placed::{self, Amiss};
use super::{Postgres, incarnation, inspect, links, source, tables};
use crate::driver::{KeyspaceSpec, StoreSpec, TableSpec};
use crate::error::Error;
use crate::findings::none_refused;
use crate::names::definition;
use multiactive_core::hash::Function;
use tokio_postgres::types::ToSql;

const SCHEMA: &str = concat!(
    include_str!("schema.sql"),
    include_str!("lease.sql"),
    include_str!("cut.sql"),
    include_str!("divergence.sql")
);
const KEYSPACE: &str = include_str!("keyspace.sql");
const GUARD: &str = include_str!("guard.sql");
const SHARED: &str = include_str!("shared.sql");
const PASS_OVER: &str = include_str!("pass_over.sql");
const AT_COMMIT: &str = include_str!("at_commit.sql");

/// Whether this very fence is installed, $1 its digest and $2 the number of its parts, and the publication $3 has no more
/// tables than it should have; and the role $5, where it exists, may read the tables $4. Whether each part is as it was left is a matter of `placed`.
const INSTALLED: &str = "
    SELECT s.digest = $1 AND (SELECT count(*) FROM multiactive.placed) = $2
       AND (SELECT count(*) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $3)
           <= (SELECT count(*) FROM multiactive.placed WHERE kind = 'published table')
       AND NOT EXISTS (SELECT FROM pg_roles r, unnest($4::text[]) t
                       WHERE r.rolname = $5 AND has_table_privilege(r.oid, to_regclass(t), 'SELECT') IS NOT TRUE)
    FROM multiactive.store s";

/// The name of the function that gives a keyspace's slots.
pub(super) fn slot_function(keyspace: &KeyspaceSpec) -> String {
    short("slot", &[keyspace.name.as_str()])
}

pub(super) async fn install(pg: &Postgres) -> Result<(), Error> {
    let spec = &pg.spec;
    let script = script(spec);
    let digest = format!("{:016x}", fnv(&format!("{SCHEMA}{script}")));
    inspect::settings(pg).await?;
    let session = pg.server.session().await?;
    if belongs(pg, &session).await? {
        let amiss = left_behind(&session).await?;
        if amiss.is_empty() && is_installed(spec, &session, &digest).await? {
            incarnation::introduce(&session, spec).await?;
            placed::whole(pg, &amiss);
            session.keep();
            return Ok(());
        }
    }
    session.keep();
    none_refused(tables::check(pg).await?)?;
    stop_receiving(pg).await?;
    let session = pg.server.session().await?;
    // The lock keeps two agents from installing at once; its key is no bucket of slots.
    session
        .batch(
            "installing the fence",
            "BEGIN; SELECT pg_advisory_xact_lock(27969, 1000)",
        )
        .await?;
    // Before anything is put back: what is not as the last install left it.
    let amiss = left_behind(&session).await?;
    session.batch("installing the schema", SCHEMA).await?;
    belongs(pg, &session).await?;
    let (owner, keyspace) = (owner(spec), &spec.keyspace);
    session
        .change(
            "naming the store",
            "INSERT INTO multiactive.store (store, unit, keyspace, definition) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            &[
                &owner,
                &spec.unit.as_str(),
                &keyspace.name.as_str(),
                &definition(keyspace),
            ],
        )
        .await?;
    session.batch("installing the fence", &script).await?;
    // Many of them run as their owner: nobody else puts one on a table of his own. Triggers that stand need no right.
    let nobody = "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA multiactive FROM PUBLIC";
    session.batch("installing the fence", nobody).await?;
    let_copy(spec, &session).await?;
    let joining = joining(spec, &session).await?;
    converge_publication(spec, &session).await?;
    session
        .batch(
            "noting whether slots were ever open",
            "UPDATE multiactive.store SET opened = EXISTS (SELECT FROM multiactive.slot WHERE term > 0 OR epoch > 0)
             WHERE opened IS NULL;
             UPDATE multiactive.store SET born = incarnation WHERE digest = ''",
        )
        .await?;
    for table in &joining {
        join(spec, &session, table).await?;
    }
    incarnation::introduce(&session, spec).await?;
    placed::note(&session, spec).await?;
    if !amiss.is_empty() {
        placed::confess(pg, &session, &amiss).await?;
    }
    session
        .change(
            "noting the fence",
            "UPDATE multiactive.store SET digest = $1",
            &[&digest],
        )
        .await?;
    session
        .batch("installing the fence", "COMMIT; ANALYZE multiactive.slot")
        .await?;
    session.keep();
    tracing::info!(store = %spec.store, unit = %spec.unit, at = %pg.server.at, "fence installed");
    Ok(())
}

/// What is not as an earlier install left it; nothing, where there was none, or one that noted nothing.
async fn left_behind(session: &Session<'_>) -> Result<Amiss, Error> {
    let sql = "SELECT to_regclass('multiactive.placed') IS NOT NULL";
    let there = session.row("looking for the fence", sql, &[]).await?;
    if there.get(0) {
        placed::amiss(session).await
    } else {
        Ok(Amiss::default())
    }
}

async fn is_installed(spec: &StoreSpec, session: &Session<'_>, digest: &str) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('multiactive.placed') IS NOT NULL";
    if !session.row("looking for the fence", sql, &[]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    let row = session
        .row(
            "looking for the fence",
            INSTALLED,
            &[
                &digest,
                &placed::count(spec),
                &publication(spec),
                &source::tables(spec),
                &source::ROLE,
            ],
        )
        .await?;
    Ok(row.get::<_, Option<bool>>(0) == Some(true))
}

/// Stops the links into a store whose schema is older than one of these tables: from the moment when the table is there
/// until the link knows it, a row that came would be skipped. Without the table it is an error, and comes again. Making the
/// links anew is a matter of `link`.
async fn stop_receiving(pg: &Postgres) -> Result<(), Error> {
    let spec = &pg.spec;
    let session = pg.server.session().await?;
    let sql = "SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
               WHERE d.datname = current_database() AND s.subname = ANY ($1::text[])
                 AND EXISTS (SELECT FROM unnest($2::text[]) t WHERE to_regclass('multiactive.' || t) IS NULL)";
    let names: Vec<_> = spec
        .peers
        .iter()
        .map(|peer| super::names::link(spec, peer, &spec.unit))
        .collect();
    for row in session
        .rows("looking for links that are older", sql, &[&names, &IN_ORDER.as_slice()])
        .await?
    {
        links::stop(&session, row.get(0)).await?;
    }
    session.keep();
    Ok(())
}

fn owner(spec: &StoreSpec) -> String {
    format!("{}/{}", spec.namespace, spec.store)
}

/// Whether the database is this member's; `false` where it is nobody's yet.
async fn belongs(pg: &Postgres, session: &Session<'_>) -> Result<bool, Error> {
    let spec = &pg.spec;
    let there = session
        .row(
            "looking for the schema",
            "SELECT to_regclass('multiactive.store') IS NOT NULL",
            &[],
        )
        .await?;
    if !there.get::<_, bool>(0) {
        return Ok(false);
    }
    let sql = "SELECT store, unit, definition FROM multiactive.store";
    let rows = session.rows("reading whose database it is", sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let (store, unit, installed): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    if store != owner(spec) || unit != spec.unit.as_str() {
        return Err(Error::DatabaseTaken { store, unit });
    }
    let declared = definition(&spec.keyspace);
    if installed != declared {
        return Err(Error::KeyspaceChanged { installed, declared });
    }
    Ok(true)
}

/// The statements for the keyspace and each table, after the schema.
fn script(spec: &StoreSpec) -> String {
    let keyspace = &spec.keyspace;
    let hash = match keyspace.function {
        Function::SingleWriter => "0".to_owned(),
        Function::Crc32 => format!("(crc32(convert_to(key, 'UTF8')) % {})::integer", keyspace.slots),
        Function::Md5 => format!(
            "(('x' || left(md5(convert_to(key, 'UTF8')), 8))::bit(32)::bigint % {})::integer",
            keyspace.slots
        ),
    };
    // One look into a constant object, however many overrides there are.
    let expression = if keyspace.overrides.is_empty() {
        hash
    } else {
        let object = serde_json::json!(keyspace.overrides).to_string();
        format!("coalesce(({}::jsonb ->> key)::integer, {hash})", literal(&object))
    };
    let filled = fill(KEYSPACE, spec)
        .replace("$slots$", &keyspace.slots.to_string())
        .replace("$expression$", &expression);
    let guards = spec.tables.iter().map(|table| guard(spec, table));
    let shared = match spec.is_shared() {
        true => spec
            .tables
            .iter()
            .map(pass_over)
            .fold(SHARED.to_owned(), |all, one| all + &one),
        false => String::new(),
    };
    format!("{filled}{}{AT_COMMIT}{shared}", guards.collect::<String>())
}

/// The name of the function that lets a link pass over rows of a table.
pub(super) fn pass_function(sharded: &TableSpec) -> String {
    let (schema, name) = table(&sharded.name);
    short("pass", &[schema, name])
}

fn pass_over(sharded: &TableSpec) -> String {
    PASS_OVER
        .replace("$table_text$", &literal(&qualified(&sharded.name)))
        .replace("$pass_name$", &literal(&pass_function(sharded)))
}

fn fill(template: &str, spec: &StoreSpec) -> String {
    template
        .replace("$slot_function$", &ident(&slot_function(&spec.keyspace)))
        .replace("$keyspace$", &literal(spec.keyspace.name.as_str()))
}

/// The key of a row of the trigger functions, as text: that of every row is the same where there is no shard key.
pub(super) fn key(row: &str, sharded: &TableSpec) -> String {
    match &sharded.shard_key {
        Some(column) => format!("{row}.{}::text", ident(column)),
        None => "''".to_owned(),
    }
}

/// The slot of a row of `alias`, as an expression.
pub(super) fn slot_of(spec: &StoreSpec, sharded: &TableSpec, alias: &str) -> String {
    format!(
        "multiactive.{}({})",
        ident(&slot_function(&spec.keyspace)),
        key(alias, sharded)
    )
}

fn guard(spec: &StoreSpec, sharded: &TableSpec) -> String {
    let (schema, name) = table(&sharded.name);
    fill(GUARD, spec)
        .replace("$guard$", &ident(&short("guard", &[schema, name])))
        .replace("$guard_inserts$", &ident(&short("inserts", &[schema, name])))
        .replace("$table$", &qualified(&sharded.name))
        .replace("$old_key$", &key("OLD", sharded))
        .replace("$new_key$", &key("NEW", sharded))
        .replace("$inserted_key$", &key("n", sharded))
}

/// Lets peers compare rows with those that are here, and copy them, where somebody has made the role that may (`roles.sql`).
async fn let_copy(spec: &StoreSpec, session: &Session<'_>) -> Result<(), Error> {
    let sql = "SELECT FROM pg_roles WHERE rolname = $1";
    if session
        .rows("looking for a role", sql, &[&source::ROLE])
        .await?
        .is_empty()
    {
        return Ok(());
    }
    let sql = format!(
        "GRANT USAGE ON SCHEMA multiactive TO {0}; GRANT SELECT ON {1}, multiactive.horizon TO {0};
         GRANT EXECUTE ON FUNCTION multiactive.mark_place(text, text), multiactive.take_horizon(text), multiactive.timeline(), multiactive.beat(),
                                   multiactive.{2}(text) TO {0}",
        source::ROLE,
        source::tables(spec).join(", "),
        ident(&slot_function(&spec.keyspace))
    );
    session.batch("letting peers copy rows", &sql).await
}

/// The sharded tables that the publication does not have yet.
async fn joining(spec: &StoreSpec, session: &Session<'_>) -> Result<Vec<String>, Error> {
    let tables: Vec<_> = spec.tables.iter().map(|table| qualified(&table.name)).collect();
    let sql = "SELECT t FROM unnest($1::text[]) t WHERE NOT EXISTS (
                   SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                   WHERE p.pubname = $2 AND r.prrelid = to_regclass(t))";
    let rows = session
        .rows("looking for tables that join", sql, &[&tables, &publication(spec)])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Tells every receiver that a table is published from here on (see `joined` in the schema). Its guard was put in place in
/// this transaction, so nobody writes to it before the end. What it lacks elsewhere is a gap once slots were open here:
/// members start with equal rows. Where it was taken out of the publication by hand, `placed` sees to that.
async fn join(spec: &StoreSpec, session: &Session<'_>, table: &str) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO multiactive.joined (unit, number, tab, gap)
         SELECT $1, 1 + coalesce((SELECT max(number) FROM multiactive.joined WHERE unit = $1), 0), $2,
                CASE WHEN o.opened AND b.because IS NOT NULL AND NOT EXISTS (SELECT FROM multiactive.placed WHERE kind = 'published table' AND object = $2)
                     THEN format('table %s joined the store of %s at %s, and %s: rows of it may be missing here; bring them here, '
                                 'compare the rows and repair', $2, $1,
                                 to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), b.because) END
         FROM multiactive.store o,
              (SELECT CASE WHEN EXISTS (SELECT FROM {table}) THEN 'had rows already, which were never published'
                           WHEN EXISTS (SELECT FROM multiactive.joined WHERE unit = $1 AND tab = $2)
                           THEN 'had been in it before: what was written meanwhile was not published' END AS because) b"
    );
    let params: [&(dyn ToSql + Sync); 2] = [&spec.unit.as_str(), &table];
    session.change("telling that a table joined", &sql, &params).await?;
    Ok(())
}

/// Creates the publication, or gives it the tables that it should have. Truncation is never published.
async fn converge_publication(spec: &StoreSpec, session: &Session<'_>) -> Result<(), Error> {
    let name = publication(spec);
    let mut tables: Vec<_> = spec.tables.iter().map(|table| qualified(&table.name)).collect();
    tables.extend(PUBLISHED.map(|table| format!("multiactive.{table}")));
    let tables = tables.join(", ");
    let there = "SELECT FROM pg_publication WHERE pubname = $1";
    let found = session.rows("looking for the publication", there, &[&name]).await?;
    let name = ident(&name);
    let sql = if found.is_empty() {
        format!("CREATE PUBLICATION {name} FOR TABLE {tables} WITH (publish = 'insert, update, delete')")
    } else {
        format!(
            "ALTER PUBLICATION {name} SET TABLE {tables};
             ALTER PUBLICATION {name} SET (publish = 'insert, update, delete')"
        )
    };
    session.batch("making the publication", &sql).await
}
