//! Which tables can be fenced and replicated, and which cannot: the reason and what to do.

use super::Postgres;
use super::names::table;
use crate::driver::{TableFinding, TableSpec};
use crate::error::Error;
use crate::findings::{KeyColumn, no_last_write, unique_besides};
use tokio_postgres::Row;

const FACTS: &str = include_str!("tables.sql");

/// Who may switch the fence off besides owners and us, who copy rows past it.
const ROLE_SWITCH: &str = "
    SELECT coalesce(r.rolname::text, 'public') FROM pg_parameter_acl p, aclexplode(p.paracl) a
    LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE p.parname = 'session_replication_role' AND a.privilege_type = 'SET' AND NOT coalesce(r.rolsuper, false)
      AND r.rolname IS DISTINCT FROM current_user
    UNION SELECT coalesce(r.rolname::text, 'every role') FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
    WHERE EXISTS (SELECT FROM unnest(s.setconfig) c WHERE c LIKE 'session\\_replication\\_role=%'
                                                      AND c <> 'session_replication_role=origin')";

pub(super) async fn check(pg: &Postgres) -> Result<Vec<TableFinding>, Error> {
    let session = pg.server.session().await?;
    let names = pg.spec.tables.iter().map(|sharded| table(&sharded.name));
    let (schemas, tables): (Vec<&str>, Vec<&str>) = names.unzip();
    let mut findings = Vec::new();
    for sharded in &pg.spec.tables {
        let (schema, name) = table(&sharded.name);
        let facts = session
            .rows(
                "checking a table",
                FACTS,
                &[
                    &schema,
                    &name,
                    &sharded.shard_key.as_deref().unwrap_or_default(),
                    &schemas,
                    &tables,
                    &sharded.last_write.as_deref().unwrap_or_default(),
                ],
            )
            .await?;
        match facts.first() {
            Some(facts) => judge(sharded, facts, pg.spec.is_shared(), &mut findings),
            None => findings.push(TableFinding::refused(
                sharded,
                "TableMissing",
                format!("there is no table {schema}.{name}: create it on every member"),
            )),
        }
    }
    for row in session
        .rows("checking who may switch the fence off", ROLE_SWITCH, &[])
        .await?
    {
        let role: String = row.get(0);
        findings.push(TableFinding {
            table: "all tables".to_owned(),
            refused: false,
            reason: "RoleSwitch",
            message: format!("{role} may set session_replication_role, which switches the fence off: revoke it"),
        });
    }
    session.keep();
    Ok(findings)
}

/// Adds what is wrong with a table that exists.
fn judge(sharded: &TableSpec, facts: &Row, shared: bool, findings: &mut Vec<TableFinding>) {
    let text = |name: &str| facts.get::<_, Option<String>>(name).unwrap_or_default();
    let list = |name: &str| facts.get::<_, Vec<String>>(name).join(", ");
    let yes = |name: &str| facts.get::<_, bool>(name);
    let mut add = |reason, message: String| findings.push(TableFinding::refused(sharded, reason, message));
    if text("relkind") != "r" {
        let what = match text("relkind").as_str() {
            "p" => "a partitioned table",
            "f" => "a foreign table",
            "v" | "m" => "a view",
            _ => "no table",
        };
        add(
            "NotATable",
            format!("it is {what}: only ordinary tables can be fenced and replicated"),
        );
        return;
    }
    if yes("relispartition") || yes("inherits") {
        add(
            "Partition",
            "it is a partition, or inherits: only tables of their own can be fenced".to_owned(),
        );
    }
    if text("relpersistence") != "p" {
        add(
            "NotLogged",
            "it is unlogged or temporary, so it cannot be replicated: ALTER TABLE … SET LOGGED".to_owned(),
        );
    }
    if !yes("primary_key") {
        add(
            "NoPrimaryKey",
            "it has no primary key that is checked at once: replication finds rows by it".to_owned(),
        );
    }
    if text("relreplident") == "n" {
        add(
            "NoReplicaIdentity",
            "its replica identity is NOTHING: ALTER TABLE … REPLICA IDENTITY DEFAULT".to_owned(),
        );
    }
    if let Some(column) = &sharded.shard_key {
        let key = KeyColumn::read(column, yes, text("column_type"), list("later_triggers"));
        let not_null = format!("ALTER TABLE … ALTER {column} SET NOT NULL");
        for (reason, message) in key.wrong(&not_null, "rename it") {
            add(reason, message);
        }
    }
    let acting = list("acting_keys");
    if !acting.is_empty() {
        let message = format!(
            "foreign key {acting} changes rows by itself (CASCADE, SET NULL, SET DEFAULT) between this table and one \
             that is not sharded with it, past fence or replication: use NO ACTION, or add that table to the store"
        );
        add("ForeignKeyActs", message);
    }
    if let Some(column) = sharded.last_write.as_ref().filter(|_| !yes("has_last_write")) {
        let (reason, message) = no_last_write(column);
        add(reason, message);
    }
    let unique = list("unique_besides");
    if shared && !unique.is_empty() {
        let (reason, message) = unique_besides(&unique);
        add(reason, message);
    }
    if !yes("ours") {
        let owner = text("owner");
        add(
            "NotOwner",
            format!("our user has not the rights of its owner: GRANT {owner} TO it (see roles.sql)"),
        );
    }
    let mut warn = |reason, message| findings.push(TableFinding::warned(sharded, reason, message));
    let bypassers = list("bypassers");
    if !bypassers.is_empty() {
        warn(
            "OwnerCanBypass",
            format!("{bypassers} has its owner's rights and could disable the fence: let another role own it"),
        );
    }
    let colliding = list("colliding");
    if !colliding.is_empty() {
        warn(
            "SequenceCollides",
            format!("key column {colliding} counts by ones in every unit: use IDENTITY (START n INCREMENT 64)"),
        );
    }
}
