//! The shop's databases: the database, its table, and the least roles that agent, links and service need.

use crate::region::{DATABASE, Engine, Region};
use anyhow::{Context, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::path::Path;
use tokio_postgres::NoTls;

/// The passwords of the roles; made anew for each fleet.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Of `multiactive_agent`.
    pub agent: String,
    /// Of `multiactive_replication`.
    pub replication: String,
    /// Of `shop_app`, the service's.
    pub app: String,
}

impl Passwords {
    /// Passwords that nobody can guess.
    ///
    /// # Errors
    ///
    /// Where the system has no randomness to give.
    pub fn random() -> Result<Self> {
        Ok(Self {
            agent: password()?,
            replication: password()?,
            app: password()?,
        })
    }
}

/// A password that nobody can guess.
///
/// # Errors
///
/// Where the system has no randomness to give.
pub fn password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes database, roles and table of one region.
///
/// # Errors
///
/// Where the server refuses.
pub async fn prepare(region: &Region, passwords: &Passwords, root: &Path) -> Result<()> {
    match region.engine {
        Engine::PostgreSql => prepare_postgres(region, passwords, root).await,
        Engine::MariaDb | Engine::MySql => prepare_mysql_family(region, passwords, root).await,
    }
}

/// The orders that a unit which was lost has listed as its own, after it is back.
///
/// # Errors
///
/// Where its database cannot be read.
pub async fn listed_orders(region: &Region) -> Result<BTreeSet<String>> {
    match region.engine {
        Engine::PostgreSql => {
            let (client, connection) = region.database().connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            let sql = "SELECT key->>'id' FROM multiactive.divergence WHERE tab = 'orders' AND mine IS NOT NULL";
            let listed = client.query(sql, &[]).await?;
            drop(client);
            connection.await??;
            Ok(listed.iter().map(|row| row.get(0)).collect())
        }
        Engine::MariaDb | Engine::MySql => {
            let mut client = Conn::new(region.mysql_family()).await?;
            let sql =
                "SELECT JSON_VALUE(name, '$.id') FROM multiactive.divergence WHERE tab = 'orders' AND mine IS NOT NULL";
            Ok(client.query::<String, _>(sql).await?.into_iter().collect())
        }
    }
}

/// The documented script of an engine, with the passwords of this fleet.
fn roles(root: &Path, engine: Engine, passwords: &Passwords) -> Result<String> {
    let path = engine.roles();
    let roles = std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
    let roles = roles.replacen("'change me'", &format!("'{}'", passwords.agent), 1);
    Ok(roles.replacen("'change me'", &format!("'{}'", passwords.replication), 1))
}

async fn prepare_mysql_family(region: &Region, passwords: &Passwords, root: &Path) -> Result<()> {
    let server = Conn::new(region.mysql_family()).await;
    let mut server = server.context("connecting to the server")?;
    let local = "SET SESSION sql_log_bin = 0";
    server.query_drop(local).await?;
    server
        .query_drop(format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"))
        .await?;
    let roles = roles(root, region.engine, passwords)?;
    server.query_drop(roles).await.context("the documented roles")?;
    if region.ca_file.is_some() {
        for user in ["multiactive_agent", "multiactive_replication"] {
            server.query_drop(format!("ALTER USER {user}@'%' REQUIRE SSL")).await?;
        }
    }
    let path = "examples/shop/sql/mysql_family.sql";
    let schema = std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
    server.query_drop(format!("USE {DATABASE}")).await?;
    server.query_drop(schema).await.context("the shop's table")?;
    let app = format!(
        "CREATE USER shop_app@'%' IDENTIFIED BY '{}'; GRANT SELECT, INSERT, UPDATE, DELETE ON {DATABASE}.* TO shop_app@'%'",
        passwords.app
    );
    server.query_drop(app).await?;
    Ok(server.disconnect().await?)
}

async fn prepare_postgres(region: &Region, passwords: &Passwords, root: &Path) -> Result<()> {
    let mut server = region.database();
    server.dbname("postgres");
    run(&server, &format!("CREATE DATABASE {DATABASE}")).await?;
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"));
    let roles = roles(root, region.engine, passwords)?;
    let database = region.database();
    run(&database, "CREATE ROLE shop_owner NOLOGIN").await?;
    run(
        &database,
        &format!("CREATE ROLE shop_app LOGIN PASSWORD '{}'", passwords.app),
    )
    .await?;
    run(&database, &roles).await.context("the documented roles")?;
    run(
        &database,
        "GRANT CREATE ON SCHEMA public TO shop_owner; SET ROLE shop_owner",
    )
    .await?;
    let schema = read("examples/shop/sql/schema.sql")?;
    run(&database, &format!("SET ROLE shop_owner; {schema}"))
        .await
        .context("the shop's table")?;
    run(&database, "GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO shop_app").await
}

/// Runs a statement in a region's database, as its administrator, in the log.
///
/// # Errors
///
/// Where the server is not reached or refuses.
pub async fn execute(region: &Region, sql: &str) -> Result<()> {
    match region.engine {
        Engine::PostgreSql => run(&region.database(), sql).await,
        Engine::MariaDb | Engine::MySql => {
            let mut client = Conn::new(region.mysql_family().db_name(Some(DATABASE))).await?;
            client.query_drop(sql).await?;
            Ok(client.disconnect().await?)
        }
    }
}

/// The one number that a query in a region's database gives.
///
/// # Errors
///
/// Where the server is not reached or refuses, or gives none.
pub async fn number(region: &Region, sql: &str) -> Result<i64> {
    match region.engine {
        Engine::PostgreSql => {
            let (client, connection) = region.database().connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            let number = client.query_one(sql, &[]).await?.get(0);
            drop(client);
            connection.await??;
            Ok(number)
        }
        Engine::MariaDb | Engine::MySql => {
            let mut client = Conn::new(region.mysql_family().db_name(Some(DATABASE))).await?;
            let number = client.query_first(sql).await?.context("a number")?;
            client.disconnect().await?;
            Ok(number)
        }
    }
}

/// Runs statements in a session of their own.
///
/// # Errors
///
/// Where the server is not reached or refuses.
pub async fn run(config: &tokio_postgres::Config, sql: &str) -> Result<()> {
    let (client, connection) = config.connect(NoTls).await.context("connecting to PostgreSQL")?;
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await?;
    drop(client);
    Ok(driver.await??)
}
