//! The catalog: one unit writes it, all read it. An item counts its changes, so that a lost one leaves a hole and one that two
//! units made is there twice.

use crate::service::Database;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Error, Row};

/// An item as it is kept and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name.
    pub sku: String,
    /// How often it was changed.
    pub version: i64,
    /// The unit that changed it last.
    pub unit: String,
}

fn item(row: &Row) -> Item {
    Item {
        sku: row.get(0),
        version: row.get(1),
        unit: row.get(2),
    }
}

/// The item of this name, where there is one.
///
/// # Errors
///
/// What the database said.
pub async fn find(database: &Database, sku: &str) -> Result<Option<Item>, Error> {
    let client = database.client().await?;
    let sql = "SELECT sku, version, unit FROM items WHERE sku = $1";
    let row = client.query_opt(sql, &[&sku]).await?;
    database.give_back(client).await;
    Ok(row.as_ref().map(item))
}

/// Changes the item, or makes it.
///
/// # Errors
///
/// What the database said.
pub async fn change(database: &Database, sku: &str, unit: &str) -> Result<Item, Error> {
    let client = database.client().await?;
    let sql = "INSERT INTO items (sku, version, unit) VALUES ($1, 1, $2)
               ON CONFLICT (sku) DO UPDATE SET version = items.version + 1, unit = $2
               RETURNING sku, version, unit";
    let row = client.query_one(sql, &[&sku, &unit]).await?;
    database.give_back(client).await;
    Ok(item(&row))
}
