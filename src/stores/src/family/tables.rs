//! Which tables can be fenced and replicated, and which cannot: the reason and what to do.

use super::MySqlFamily;
use super::connect::Session;
use super::names::{guard, table};
use crate::driver::{TableFinding, TableSpec};
use crate::error::Error;
use crate::findings::{KeyColumn, no_last_write, unique_besides};
use mysql_async::{Row, params};

pub(crate) async fn check(db: &MySqlFamily) -> Result<Vec<TableFinding>, Error> {
    let mut session = db.server.session().await?;
    let mut findings = Vec::new();
    for sharded in &db.spec.tables {
        let (schema, name) = table(&sharded.name, &db.access.database);
        let facts: Vec<Row> = session
            .rows(
                "checking a table",
                db.server.dialect.facts,
                params! {
                    "schema" => schema,
                    "name" => name,
                    "column" => sharded.shard_key.as_deref().unwrap_or_default(),
                    "last" => sharded.last_write.as_deref().unwrap_or_default(),
                    "insert" => guard("INSERT", schema, name),
                    "update" => guard("UPDATE", schema, name),
                    "delete" => guard("DELETE", schema, name),
                },
            )
            .await?;
        match facts.first() {
            Some(facts) => {
                judge(sharded, facts, db.spec.is_shared(), &mut findings);
                warn_of_bypassers(&mut session, sharded, schema, name, &mut findings).await?;
            }
            None => findings.push(TableFinding::refused(
                sharded,
                "TableMissing",
                format!("there is no table {schema}.{name}: create it on every member"),
            )),
        }
    }
    session.keep();
    Ok(findings)
}

async fn warn_of_bypassers(
    session: &mut Session<'_>,
    sharded: &TableSpec,
    schema: &str,
    name: &str,
    findings: &mut Vec<TableFinding>,
) -> Result<(), Error> {
    let bypassers = session.dialect().bypassers;
    let accounts: Vec<String> = session
        .rows(
            "checking who can get past the fence",
            bypassers,
            params! {"schema" => schema, "name" => name},
        )
        .await?;
    if !accounts.is_empty() {
        findings.push(TableFinding::warned(
            sharded,
            "OwnerCanBypass",
            format!(
                "{} may DROP, TRUNCATE or ALTER it, change its triggers, or write past the log: leave the application \
                 SELECT, INSERT, UPDATE and DELETE",
                accounts.join(", ")
            ),
        ));
    }
    Ok(())
}

/// Adds what is wrong with a table that exists.
fn judge(sharded: &TableSpec, facts: &Row, shared: bool, findings: &mut Vec<TableFinding>) {
    let text = |name: &str| facts.get::<String, _>(name).unwrap_or_default();
    // What could not be read is a reason to refuse.
    let yes = |name: &str| facts.get::<bool, _>(name) == Some(true);
    let mut add = |reason, message: String| findings.push(TableFinding::refused(sharded, reason, message));
    if text("engine") != "InnoDB" {
        add(
            "NotATable",
            format!(
                "it is {}: only tables of InnoDB can be fenced and replicated",
                text("engine")
            ),
        );
        return;
    }
    if !yes("primary_key") {
        add(
            "NoPrimaryKey",
            "it has no primary key: replication finds rows by it".to_owned(),
        );
    }
    if let Some(column) = &sharded.shard_key {
        let key = KeyColumn::read(column, yes, text("column_type"), text("later_triggers"));
        for (reason, message) in key.wrong("make it NOT NULL", "let it PRECEDE the fence's") {
            add(reason, message);
        }
    }
    let acting = text("acting_keys");
    if !acting.is_empty() {
        let message = format!(
            "foreign key {acting} changes rows by itself (CASCADE, SET NULL), which fires no trigger and so gets past the \
             fence: use RESTRICT"
        );
        add("ForeignKeyActs", message);
    }
    if let Some(column) = sharded.last_write.as_ref().filter(|_| !yes("has_last_write")) {
        let (reason, message) = no_last_write(column);
        add(reason, message);
    }
    let unique = text("unique_besides");
    if shared && !unique.is_empty() {
        let (reason, message) = unique_besides(&unique);
        add(reason, message);
    }
    let colliding = text("colliding");
    if !colliding.is_empty() {
        findings.push(TableFinding::warned(
            sharded,
            "SequenceCollides",
            format!("key column {colliding} counts by ones in every unit: set auto_increment_increment and _offset"),
        ));
    }
}
