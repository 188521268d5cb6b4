//! Putting schema and fence in place, and nothing where they are.
//!
//! A digest of every statement that would run is kept in the database. While it fits, and every part is as it was left, an
//! install only looks. Where a part is not, it is put back, and that is noted for whoever holds these rows. What defines
//! something ends a transaction, so there is none around it all: the digest comes last, and what was interrupted runs again.

use super::checksum::key_of;
use super::connect::Session;
use super::dialect::Dialect;
use super::names::{self, fnv, ident, literal, qualified, short, table};
use super::{MySqlFamily, inspect, lost, placed, store, tables};
use crate::driver::{KeyspaceSpec, StoreSpec, TableSpec};
use crate::error::Error;
use crate::findings::none_refused;
use crate::names::definition;
use multiactive_core::hash::Function;

/// What stands between two statements of a file.
const NEXT: &str = "\n--;\n";

/// Whether the session's time zone is that of the clock.
const UTC: &str =
    "@@session.time_zone = '+00:00' OR (@@session.time_zone = 'SYSTEM' AND @@global.system_time_zone = 'UTC')";

/// When a lease ended, in words.
const UNTIL: &str = "CONCAT(DATE_FORMAT('1970-01-01' + INTERVAL (held DIV 2097152) * 1000 MICROSECOND, '%Y-%m-%d %H:%i:%s.%f'), ' UTC')";

/// The name of the function that gives a keyspace's slots.
pub(crate) fn slot_function(keyspace: &KeyspaceSpec) -> String {
    short("slot", &[keyspace.name.as_str()])
}

/// The slot of `key`, an expression for text in UTF-8.
pub(crate) fn slot_expression(keyspace: &KeyspaceSpec, key: &str) -> String {
    let hash = match keyspace.function {
        Function::Crc32 => format!("CRC32({key}) % {}", keyspace.slots),
        Function::Md5 => format!(
            "CAST(CONV(LEFT(MD5({key}), 8), 16, 10) AS UNSIGNED) % {}",
            keyspace.slots
        ),
        Function::SingleWriter => "0".to_owned(),
    };
    if keyspace.overrides.is_empty() {
        hash
    } else {
        format!("IFNULL((SELECT o.slot FROM multiactive.override o WHERE o.name = CAST({key} AS BINARY)), {hash})")
    }
}

pub(crate) async fn install(db: &MySqlFamily) -> Result<(), Error> {
    let statements = statements(db);
    let peers: Vec<_> = db.spec.peers.iter().map(names::gate).collect();
    let schema = schema(db.server.dialect);
    let all = format!("{schema}{}{}", statements.join(NEXT), peers.join(NEXT));
    let digest = format!("{:016x}", fnv(&all));
    inspect::settings(db).await?;
    let mut session = db.server.session().await?;
    if belongs(db, &mut session).await? && is_installed(db, &mut session, &digest).await? {
        store::begin(db, &mut session).await?;
        session.keep();
        return Ok(());
    }
    session.keep();
    none_refused(tables::check(db).await?)?;
    let mut session = db.server.session().await?;
    // Two agents must not install at once. It goes with the session.
    let sql = "SELECT GET_LOCK('multiactive.install', 4)";
    if session.row::<Option<bool>>("installing the fence", sql, ()).await? != Some(true) {
        return Err(session.late("installing the fence", super::connect::PATIENCE));
    }
    // Before anything is put back: what is not as the last install left it.
    let amiss = match belongs(db, &mut session).await? {
        true => placed::amiss(&mut session).await?,
        false => Vec::new(),
    };
    session.batch("installing the schema", &schema).await?;
    name_store(db, &mut session).await?;
    belongs(db, &mut session).await?;
    session
        .batch("installing the fence", "UPDATE multiactive.store SET digest = ''")
        .await?;
    fill(&db.spec, &mut session).await?;
    for statement in &statements {
        session.batch("installing the fence", statement).await?;
    }
    lost::make_gates(&mut session, &db.spec.peers).await?;
    lost::drop_own_gate(&mut session, &db.spec.unit).await?;
    store::begin(db, &mut session).await?;
    placed::note(db, &mut session).await?;
    if !amiss.is_empty() {
        placed::confess(db, &mut session, &amiss).await?;
    }
    // Before all was in place somebody may have written past the log, and not said so.
    let sql = "UPDATE multiactive.unlogged SET number = number + 1 WHERE part = 1";
    session.change("noting the fence", sql, ()).await?;
    let sql = "UPDATE multiactive.store SET digest = ?";
    session.change("noting the fence", sql, (digest,)).await?;
    let sql = "SELECT RELEASE_LOCK('multiactive.install')";
    session.told::<Option<bool>>("installing the fence", sql).await?;
    session.keep();
    Ok(())
}

/// The tables, those of the engine alone behind those of the family.
fn schema(dialect: &Dialect) -> String {
    let common = include_str!("schema.sql").replace("$log$", dialect.log_name);
    format!("{common}\n{}", dialect.schema)
}

async fn is_installed(db: &MySqlFamily, session: &mut Session<'_>, digest: &str) -> Result<bool, Error> {
    let sql = "SELECT s.digest = ? AND (SELECT COUNT(*) FROM multiactive.placed) = ? FROM multiactive.store s";
    let same: bool = session
        .row("looking for the fence", sql, (digest, placed::count(db)))
        .await?;
    Ok(same && placed::amiss(session).await?.is_empty())
}

fn owner(spec: &StoreSpec) -> String {
    format!("{}/{}", spec.namespace, spec.store)
}

async fn name_store(db: &MySqlFamily, session: &mut Session<'_>) -> Result<(), Error> {
    let sql = "INSERT IGNORE INTO multiactive.store (one, store, unit, definition) VALUES (1, ?, ?, ?)";
    let params = (owner(&db.spec), db.spec.unit.as_str(), definition(&db.spec.keyspace));
    session.change("naming the store", sql, params).await.map(drop)
}

/// Whether the server is this member's; `false` where it is nobody's yet.
async fn belongs(db: &MySqlFamily, session: &mut Session<'_>) -> Result<bool, Error> {
    let sql = "SELECT store, unit, definition FROM multiactive.store";
    let rows: Vec<(String, String, String)> = match session.rows("reading whose server it is", sql, ()).await {
        Ok(rows) => rows,
        Err(Error::NotInstalled { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some((store, unit, installed)) = rows.into_iter().next() else {
        return Ok(false);
    };
    if store != owner(&db.spec) || unit != db.spec.unit.as_str() {
        return Err(Error::DatabaseTaken { store, unit });
    }
    let declared = definition(&db.spec.keyspace);
    if installed != declared {
        return Err(Error::KeyspaceChanged { installed, declared });
    }
    Ok(true)
}

/// The slots, all closed, and the overrides.
async fn fill(spec: &StoreSpec, session: &mut Session<'_>) -> Result<(), Error> {
    let last = spec.keyspace.slots.saturating_sub(1);
    for table in ["slot", "stamp"] {
        let sql = session.dialect().fill.replace("$table$", table);
        let sql = sql.replace("$last$", &last.to_string());
        session.change("making slots", &sql, ()).await?;
    }
    let sql = "INSERT IGNORE INTO multiactive.override (name, slot) VALUES (?, ?)";
    for (key, slot) in &spec.keyspace.overrides {
        session.change("noting overrides", sql, (key.as_bytes(), slot)).await?;
    }
    Ok(())
}

/// The statements for the keyspace and each table, after the schema.
fn statements(db: &MySqlFamily) -> Vec<String> {
    let spec = &db.spec;
    let fence = db.server.dialect.fence;
    let fence = fence
        .replace("$slot_function$", &ident(&slot_function(&spec.keyspace)))
        .replace("$expression$", &slot_expression(&spec.keyspace, "k"))
        .replace(
            "$keyspace$",
            &literal(&format!("keyspace {}, slot ", spec.keyspace.name)),
        )
        .replace("$unit$", &literal(spec.unit.as_str()))
        .replace("$until$", UNTIL)
        .replace("$utc$", UTC);
    let guards = spec.tables.iter().map(|table| guard(db, table));
    let all = std::iter::once(fence).chain(guards).collect::<Vec<_>>().join(NEXT);
    all.split(NEXT)
        .filter(|part| {
            part.lines()
                .any(|line| !line.trim().is_empty() && !line.starts_with("--"))
        })
        .map(str::to_owned)
        .collect()
}

fn guard(db: &MySqlFamily, sharded: &TableSpec) -> String {
    let (database, name) = table(&sharded.name, &db.access.database);
    let trigger = |event| format!("{}.{}", ident(database), ident(&names::guard(event, database, name)));
    let slot_of = |row: &str| slot_expression(&db.spec.keyspace, &key_of(row, sharded));
    let admit = |slot| {
        db.server
            .dialect
            .admit
            .trim_end()
            .replace("$slot$", slot)
            .replace("$utc$", UTC)
    };
    let guard = db.server.dialect.guard;
    guard
        .replace("$admit_unlogged$", include_str!("unlogged.sql").trim_end())
        .replace("$insert$", &trigger("INSERT"))
        .replace("$update$", &trigger("UPDATE"))
        .replace("$delete$", &trigger("DELETE"))
        .replace("$table$", &qualified(&sharded.name, &db.access.database))
        .replace("$slot_of_old$", &slot_of("OLD"))
        .replace("$slot_of_new$", &slot_of("NEW"))
        .replace("$admit_its_slot$", &admit("its_slot"))
        .replace("$admit_next_slot$", &admit("next_slot"))
}
