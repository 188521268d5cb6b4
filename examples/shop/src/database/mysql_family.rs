//! Orders and items in MariaDB or MySQL, which speak alike.

use super::{NO_LEASE, NOT_OWNED, Refusal, in_time};
use crate::catalog::Item;
use crate::service::Order;
use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, TxOpts};
use tokio::sync::{Mutex, Semaphore};

/// A few connections.
pub struct Connections {
    opts: Opts,
    idle: Mutex<Vec<Conn>>,
    places: Semaphore,
}

impl Connections {
    pub(super) fn new(opts: Opts, connections: usize) -> Self {
        Self {
            opts,
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(connections),
        }
    }

    async fn conn(&self) -> Result<Conn, Refusal> {
        // One whose server has restarted shows only when it is asked something.
        while let Some(mut conn) = self.idle.lock().await.pop() {
            let ping = async { conn.ping().await.map_err(|error| refusal(&error)) };
            if in_time(ping).await.is_ok() {
                return Ok(conn);
            }
        }
        let connect = async { Conn::new(self.opts.clone()).await.map_err(|error| refusal(&error)) };
        in_time(connect).await
    }

    /// The order as it was taken; `None` where it was before.
    pub(super) async fn take(&self, order: &Order) -> Result<Option<Order>, Refusal> {
        let Ok(_place) = self.places.acquire().await else {
            return Ok(None);
        };
        let mut conn = self.conn().await?;
        let taken = match insert(&mut conn, order).await {
            Ok(order) => Some(order),
            // 1062: it was taken before. The transaction was given up.
            Err(Error::Server(error)) if error.code == 1062 => None,
            Err(error) => return Err(refusal(&error)),
        };
        self.idle.lock().await.push(conn);
        Ok(taken)
    }

    pub(super) async fn find(&self, id: &str) -> Result<Option<Order>, Refusal> {
        let mut conn = self.conn().await?;
        let sql = "SELECT id, user_id, seq, prev, unit FROM orders WHERE id = ?";
        let row = conn.exec_first(sql, (id,)).await.map_err(|error| refusal(&error))?;
        self.idle.lock().await.push(conn);
        Ok(row.map(of))
    }

    pub(super) async fn item(&self, sku: &str) -> Result<Option<Item>, Refusal> {
        let mut conn = self.conn().await?;
        let row = conn.exec_first(ITEM, (sku,)).await.map_err(|error| refusal(&error))?;
        self.idle.lock().await.push(conn);
        Ok(row.map(item))
    }

    pub(super) async fn change(&self, sku: &str, unit: &str) -> Result<Item, Refusal> {
        let mut conn = self.conn().await?;
        let row = change(&mut conn, sku, unit).await.map_err(|error| refusal(&error))?;
        self.idle.lock().await.push(conn);
        row.map(item).ok_or_else(|| Refusal {
            code: None,
            message: format!("item {sku} is gone"),
        })
    }
}

const ITEM: &str = "SELECT sku, version, unit FROM items WHERE sku = ?";

async fn change(conn: &mut Conn, sku: &str, unit: &str) -> Result<Option<(String, i64, String)>, Error> {
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    let sql = "INSERT INTO items (sku, version, unit) VALUES (?, 1, ?)
               ON DUPLICATE KEY UPDATE version = version + 1, unit = VALUES(unit)";
    transaction.exec_drop(sql, (sku, unit)).await?;
    let row = transaction.exec_first(ITEM, (sku,)).await?;
    transaction.commit().await?;
    Ok(row)
}

fn item((sku, version, unit): (String, i64, String)) -> Item {
    Item { sku, version, unit }
}

async fn insert(conn: &mut Conn, order: &Order) -> Result<Order, Error> {
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    let sql = "SELECT COALESCE(MAX(seq), 0) FROM orders WHERE user_id = ?";
    let prev = transaction.exec_first(sql, (&order.user,)).await?;
    let order = Order {
        prev: prev.unwrap_or_default(),
        ..order.clone()
    };
    let sql = "INSERT INTO orders (id, user_id, seq, prev, unit) VALUES (?, ?, ?, ?, ?)";
    let params = (&order.id, &order.user, order.seq, order.prev, &order.unit);
    transaction.exec_drop(sql, params).await?;
    transaction.commit().await?;
    Ok(order)
}

type Row = (String, String, i64, i64, String);

fn of((id, user, seq, prev, unit): Row) -> Order {
    Order {
        id,
        user,
        seq,
        prev,
        unit,
    }
}

fn refusal(error: &Error) -> Refusal {
    let (code, message) = match error {
        // 1290: the server is read-only, as it is where there is no write lease.
        Error::Server(server) if server.code == 1290 => (Some(NO_LEASE), server.message.clone()),
        Error::Server(server) => (
            [NOT_OWNED, NO_LEASE].into_iter().find(|known| server.state == *known),
            server.message.clone(),
        ),
        Error::Driver(_) | Error::Io(_) | Error::Other(_) | Error::Url(_) => (None, error.to_string()),
    };
    Refusal { code, message }
}

pub(super) async fn read(opts: &Opts) -> Result<Vec<Order>> {
    let mut conn = Conn::new(opts.clone())
        .await
        .context("connecting to a unit's database")?;
    let rows: Vec<Row> = conn.query("SELECT id, user_id, seq, prev, unit FROM orders").await?;
    conn.disconnect().await?;
    Ok(rows.into_iter().map(of).collect())
}
