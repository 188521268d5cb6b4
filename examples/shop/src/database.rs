//! The product's databases, of any engine: an order is taken in a transaction, or found where it was taken before; an item of
//! the catalog is changed.

mod mysql_family;
mod postgres;

use crate::catalog::Item;
use crate::service::Order;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection may take.
const CONNECTS: Duration = Duration::from_secs(2);

/// What the fence of a store answers where the unit does not own the row's slot,
pub const NOT_OWNED: &str = "MA001";
/// and where the unit holds no write lease.
pub const NO_LEASE: &str = "MA004";

/// Which database.
#[derive(Clone, Debug)]
pub enum Place {
    /// Of PostgreSQL.
    PostgreSql(Box<tokio_postgres::Config>),
    /// Of MariaDB or MySQL.
    MySqlFamily(mysql_async::Opts),
}

/// Why the database did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// [`NOT_OWNED`] or [`NO_LEASE`]: nothing was written; with anything else, nobody knows.
    pub code: Option<&'static str>,
    /// Its words.
    pub message: String,
}

/// A few connections to one database, each remade when it breaks.
pub enum Database {
    /// Of PostgreSQL.
    PostgreSql(Box<postgres::Connections>),
    /// Of MariaDB or MySQL.
    MySqlFamily(Box<mysql_family::Connections>),
}

impl Database {
    /// At most `connections` at once; nothing is connected yet.
    pub fn new(place: Place, connections: usize) -> Self {
        match place {
            Place::PostgreSql(config) => Self::PostgreSql(Box::new(postgres::Connections::new(*config, connections))),
            Place::MySqlFamily(opts) => Self::MySqlFamily(Box::new(mysql_family::Connections::new(opts, connections))),
        }
    }

    /// Takes an order, or finds it where it was taken before: a client may send it again when it heard nothing.
    ///
    /// # Errors
    ///
    /// Where the database is not reached, or refuses.
    pub async fn take(&self, order: &Order) -> Result<(Order, bool), Refusal> {
        let taken = match self {
            Self::PostgreSql(connections) => connections.take(order).await?,
            Self::MySqlFamily(connections) => connections.take(order).await?,
        };
        match taken {
            Some(order) => Ok((order, true)),
            None => Ok((self.find(&order.id).await?.unwrap_or_else(|| order.clone()), false)),
        }
    }

    /// The order of this id.
    ///
    /// # Errors
    ///
    /// Where the database is not reached, or refuses.
    pub async fn find(&self, id: &str) -> Result<Option<Order>, Refusal> {
        match self {
            Self::PostgreSql(connections) => connections.find(id).await,
            Self::MySqlFamily(connections) => connections.find(id).await,
        }
    }

    /// The item of this name, where there is one.
    ///
    /// # Errors
    ///
    /// Where the database is not reached, or refuses.
    pub async fn item(&self, sku: &str) -> Result<Option<Item>, Refusal> {
        match self {
            Self::PostgreSql(connections) => connections.item(sku).await,
            Self::MySqlFamily(connections) => connections.item(sku).await,
        }
    }

    /// Changes the item, or makes it.
    ///
    /// # Errors
    ///
    /// Where the database is not reached, or refuses.
    pub async fn change(&self, sku: &str, unit: &str) -> Result<Item, Refusal> {
        match self {
            Self::PostgreSql(connections) => connections.change(sku, unit).await,
            Self::MySqlFamily(connections) => connections.change(sku, unit).await,
        }
    }
}

/// Reads every order of a database.
///
/// # Errors
///
/// Where the database cannot be read.
pub async fn read(place: &Place) -> Result<BTreeMap<String, Order>> {
    let orders = match place {
        Place::PostgreSql(config) => postgres::read(config).await?,
        Place::MySqlFamily(opts) => mysql_family::read(opts).await?,
    };
    Ok(orders.into_iter().map(|order| (order.id.clone(), order)).collect())
}

/// What takes too long is refused.
async fn in_time<T>(connecting: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let late = |_| Refusal {
        code: None,
        message: format!("no connection within {CONNECTS:?}"),
    };
    timeout(CONNECTS, connecting).await.map_err(late)?
}
