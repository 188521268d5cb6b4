//! A session of a region's database, as its administrator, in words that all engines know.

use crate::region::{DATABASE, Engine, Region};
use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A session. Dropped, it ends, and with it the transaction that it is in.
#[derive(Debug)]
pub enum Session {
    /// Of PostgreSQL.
    PostgreSql(Client),
    /// Of MariaDB or MySQL.
    MySqlFamily(Conn),
}

impl Session {
    /// A session of a region's database.
    ///
    /// # Errors
    ///
    /// Where the server is not reached or refuses.
    pub async fn of(region: &Region) -> Result<Self> {
        match region.engine {
            Engine::PostgreSql => {
                let (client, connection) = region.database().connect(NoTls).await?;
                tokio::spawn(connection);
                Ok(Self::PostgreSql(client))
            }
            Engine::MariaDb | Engine::MySql => {
                let conn = Conn::new(region.mysql_family().db_name(Some(DATABASE))).await?;
                Ok(Self::MySqlFamily(conn))
            }
        }
    }

    /// Runs statements; how many rows the last one changed.
    ///
    /// # Errors
    ///
    /// Where the server refuses one.
    pub async fn run(&mut self, sql: &str) -> Result<u64> {
        match self {
            Self::PostgreSql(client) => {
                let said = client.simple_query(sql).await?;
                let changed = said.iter().filter_map(|message| {
                    let SimpleQueryMessage::CommandComplete(rows) = message else {
                        return None;
                    };
                    Some(*rows)
                });
                Ok(changed.last().unwrap_or_default())
            }
            Self::MySqlFamily(conn) => {
                conn.query_drop(sql).await?;
                Ok(conn.affected_rows())
            }
        }
    }

    /// The rows of a query, each value as text; what is null is nothing.
    ///
    /// # Errors
    ///
    /// Where the server refuses it.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        match self {
            Self::PostgreSql(client) => {
                let said = client.simple_query(sql).await?;
                let rows = said.iter().filter_map(|message| {
                    let SimpleQueryMessage::Row(row) = message else {
                        return None;
                    };
                    Some(row)
                });
                let texts = rows.map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()));
                Ok(texts.map(Iterator::collect).collect())
            }
            Self::MySqlFamily(conn) => {
                let rows: Vec<Row> = conn.query(sql).await?;
                rows.into_iter()
                    .map(|row| row.unwrap().into_iter().map(text).collect())
                    .collect()
            }
        }
    }
}

fn text(value: Value) -> Result<String> {
    let text: Option<String> = mysql_async::from_value_opt(value).context("a text")?;
    Ok(text.unwrap_or_default())
}
