//! Putting schema, fence and publication in place, and nothing where they are.
//!
//! A digest of every statement that would run is kept in the database. While it fits, and the triggers and the
//! publication are as they should be, an install is one query.

use super::names::{fnv, ident, literal, publication, qualified, short, table};
use super::{Postgres, inspect, links, tables};
use crate::driver::{KeyspaceSpec, StoreSpec, TableSpec};
use crate::error::Error;
use multiactive_core::hash::Function;

const SCHEMA: &str = include_str!("schema.sql");
const KEYSPACE: &str = include_str!("keyspace.sql");
const GUARD: &str = include_str!("guard.sql");

/// Whether all is in place: $1 the digest, $2 names of the tables, $3 the publication.
const IN_PLACE: &str = "
    SELECT s.digest = $1
       AND (SELECT count(*) = 1 FROM pg_trigger t
            WHERE t.tgrelid = to_regclass('multiactive.opening') AND t.tgname = 'hold_back' AND t.tgenabled = 'R')
       AND (SELECT count(*) = 3 * cardinality($2::text[]) FROM pg_trigger t
            WHERE t.tgrelid = ANY (SELECT to_regclass(n) FROM unnest($2::text[]) n)
              AND t.tgname IN ('~multiactive_guard', '~multiactive_inserts', '~multiactive_truncate') AND t.tgenabled = 'O')
       AND EXISTS (SELECT FROM pg_publication WHERE pubname = $3 AND pubinsert AND pubupdate AND pubdelete
                                                AND NOT pubtruncate)
       AND (SELECT count(*) FILTER (WHERE r.prrelid = ANY (SELECT to_regclass(n)::oid FROM unnest($2::text[]) n)
                                       OR r.prrelid IN ('multiactive.marker'::regclass, to_regclass('multiactive.opening')))
                   = 2 + cardinality($2::text[]) AND count(*) = 2 + cardinality($2::text[])
            FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $3)
    FROM multiactive.store s";

/// The name of the function that gives a keyspace's slots.
pub(super) fn slot_function(keyspace: &KeyspaceSpec) -> String {
    short("slot", &[keyspace.name.as_str()])
}

/// A keyspace as text: what must not change once it is installed.
pub(super) fn definition(keyspace: &KeyspaceSpec) -> String {
    let overrides: Vec<_> = keyspace
        .overrides
        .iter()
        .map(|(key, slot)| format!("{key:?}={slot}"))
        .collect();
    let KeyspaceSpec {
        name, slots, function, ..
    } = keyspace;
    format!(
        "{name}: {function} into {slots} slots, overrides [{}]",
        overrides.join(", ")
    )
}

pub(super) async fn install(pg: &Postgres) -> Result<(), Error> {
    let spec = &pg.spec;
    let script = script(spec);
    let digest = format!("{:016x}", fnv(&format!("{SCHEMA}{script}")));
    let names: Vec<String> = spec.tables.iter().map(|t| qualified(&t.name)).collect();
    inspect::settings(pg).await?;
    let session = pg.server.session().await?;
    if belongs(pg, &session).await? {
        let row = session
            .row(
                "looking for the fence",
                IN_PLACE,
                &[&digest, &names, &publication(spec)],
            )
            .await?;
        if row.get::<_, Option<bool>>(0) == Some(true) {
            session.keep();
            return Ok(());
        }
    }
    session.keep();
    let refused: Vec<_> = tables::check(pg)
        .await?
        .into_iter()
        .filter(|finding| finding.refused)
        .collect();
    if !refused.is_empty() {
        return Err(Error::TablesRefused(refused));
    }
    stop_receiving(pg).await?;
    let session = pg.server.session().await?;
    // The lock keeps two agents from installing at once; its key is no bucket of slots.
    session
        .batch(
            "installing the fence",
            "BEGIN; SELECT pg_advisory_xact_lock(27969, 1000)",
        )
        .await?;
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
    converge_publication(spec, &session).await?;
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

/// Stops the links into a store whose schema is older than openings: from the moment when the table is there until the
/// link knows it, an opening that came would be skipped. Without the table it is an error, and comes again. Making the
/// links anew is a matter of `link`.
async fn stop_receiving(pg: &Postgres) -> Result<(), Error> {
    let spec = &pg.spec;
    let session = pg.server.session().await?;
    let sql = "SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
               WHERE d.datname = current_database() AND s.subname = ANY ($1::text[])
                 AND to_regclass('multiactive.opening') IS NULL";
    let names: Vec<_> = spec
        .peers
        .iter()
        .map(|peer| super::names::link(spec, peer, &spec.unit))
        .collect();
    for row in session
        .rows("looking for links without openings", sql, &[&names])
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
async fn belongs(pg: &Postgres, session: &super::connect::Session<'_>) -> Result<bool, Error> {
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
        Function::Crc32 => format!("(crc32(convert_to(key, 'UTF8')) % {})::integer", keyspace.slots),
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
    format!("{filled}{}", guards.collect::<String>())
}

fn fill(template: &str, spec: &StoreSpec) -> String {
    template
        .replace("$slot_function$", &ident(&slot_function(&spec.keyspace)))
        .replace("$keyspace$", &literal(spec.keyspace.name.as_str()))
}

fn guard(spec: &StoreSpec, sharded: &TableSpec) -> String {
    let (schema, name) = table(&sharded.name);
    fill(GUARD, spec)
        .replace("$guard$", &ident(&short("guard", &[schema, name])))
        .replace("$guard_inserts$", &ident(&short("inserts", &[schema, name])))
        .replace("$table$", &qualified(&sharded.name))
        .replace("$column$", &ident(&sharded.shard_key))
}

/// Creates the publication, or gives it the tables that it should have. Truncation is never published.
async fn converge_publication(spec: &StoreSpec, session: &super::connect::Session<'_>) -> Result<(), Error> {
    let name = publication(spec);
    let mut tables: Vec<_> = spec.tables.iter().map(|table| qualified(&table.name)).collect();
    tables.extend(["multiactive.marker".to_owned(), "multiactive.opening".to_owned()]);
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
