//! Orders and items in PostgreSQL.

use super::{NO_LEASE, NOT_OWNED, Refusal, in_time};
use crate::catalog::Item;
use crate::service::Order;
use anyhow::{Context, Result};
use tokio::sync::{Mutex, Semaphore};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls, Row};

/// A few connections.
pub struct Connections {
    config: Config,
    idle: Mutex<Vec<Client>>,
    places: Semaphore,
}

impl Connections {
    pub(super) fn new(config: Config, connections: usize) -> Self {
        Self {
            config,
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(connections),
        }
    }

    async fn client(&self) -> Result<Client, Refusal> {
        while let Some(client) = self.idle.lock().await.pop() {
            if !client.is_closed() {
                return Ok(client);
            }
        }
        let connect = async { self.config.connect(NoTls).await.map_err(refusal) };
        let (client, connection) = in_time(connect).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the connection to the database broke");
            }
        });
        Ok(client)
    }

    /// The order as it was taken; `None` where it was before.
    pub(super) async fn take(&self, order: &Order) -> Result<Option<Order>, Refusal> {
        let Ok(_place) = self.places.acquire().await else {
            return Ok(None);
        };
        let mut client = self.client().await?;
        let taken = insert(&mut client, order).await.map_err(refusal)?;
        self.idle.lock().await.push(client);
        Ok(taken)
    }

    pub(super) async fn find(&self, id: &str) -> Result<Option<Order>, Refusal> {
        let client = self.client().await?;
        let sql = "SELECT id, user_id, seq, prev, unit FROM orders WHERE id = $1";
        let row = client.query_opt(sql, &[&id]).await.map_err(refusal)?;
        self.idle.lock().await.push(client);
        Ok(row.as_ref().map(of))
    }

    pub(super) async fn item(&self, sku: &str) -> Result<Option<Item>, Refusal> {
        let client = self.client().await?;
        let sql = "SELECT sku, version, unit FROM items WHERE sku = $1";
        let row = client.query_opt(sql, &[&sku]).await.map_err(refusal)?;
        self.idle.lock().await.push(client);
        Ok(row.as_ref().map(item))
    }

    pub(super) async fn change(&self, sku: &str, unit: &str) -> Result<Item, Refusal> {
        let client = self.client().await?;
        let sql = "INSERT INTO items (sku, version, unit) VALUES ($1, 1, $2)
                   ON CONFLICT (sku) DO UPDATE SET version = items.version + 1, unit = $2
                   RETURNING sku, version, unit";
        let row = client.query_one(sql, &[&sku, &unit]).await.map_err(refusal)?;
        self.idle.lock().await.push(client);
        Ok(item(&row))
    }
}

async fn insert(client: &mut Client, order: &Order) -> Result<Option<Order>, Error> {
    let transaction = client.transaction().await?;
    let sql = "SELECT coalesce(max(seq), 0) FROM orders WHERE user_id = $1";
    let row = transaction.query_one(sql, &[&order.user]).await?;
    let order = Order {
        prev: row.get(0),
        ..order.clone()
    };
    let sql = "INSERT INTO orders (id, user_id, seq, prev, unit) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let written = transaction
        .execute(sql, &[&order.id, &order.user, &order.seq, &order.prev, &order.unit])
        .await?;
    transaction.commit().await?;
    Ok((written == 1).then_some(order))
}

fn of(row: &Row) -> Order {
    Order {
        id: row.get(0),
        user: row.get(1),
        seq: row.get(2),
        prev: row.get(3),
        unit: row.get(4),
    }
}

fn item(row: &Row) -> Item {
    Item {
        sku: row.get(0),
        version: row.get(1),
        unit: row.get(2),
    }
}

fn refusal(error: Error) -> Refusal {
    let code = error.code().map(SqlState::code);
    Refusal {
        code: [NOT_OWNED, NO_LEASE].into_iter().find(|known| code == Some(*known)),
        message: error
            .as_db_error()
            .map_or_else(|| error.to_string(), |db| db.message().to_owned()),
    }
}

pub(super) async fn read(config: &Config) -> Result<Vec<Order>> {
    let (client, connection) = config.connect(NoTls).await.context("connecting to a unit's database")?;
    let driver = tokio::spawn(connection);
    let rows = client
        .query("SELECT id, user_id, seq, prev, unit FROM orders", &[])
        .await?;
    drop(client);
    driver.await??;
    Ok(rows.iter().map(of).collect())
}
