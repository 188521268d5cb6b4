//! What a store is: the database of one member, the keyspace by which it is fenced, its tables, and what is found of them.

use multiactive_core::hash::Function;
use multiactive_core::ids::{KeyspaceName, StoreName, UnitName};
use multiactive_core::slots::Slot;
use std::collections::BTreeMap;

/// A store as its member in one unit is driven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// The namespace of the DataStore.
    pub namespace: String,
    /// Its name.
    pub store: StoreName,
    /// The unit of this member.
    pub unit: UnitName,
    /// The keyspace by which its tables are sharded.
    pub keyspace: KeyspaceSpec,
    /// The sharded tables.
    pub tables: Vec<TableSpec>,
    /// The units of all other members: each has a link from this one.
    pub peers: Vec<UnitName>,
}

impl StoreSpec {
    /// Whether several units write it at the same time.
    pub fn is_shared(&self) -> bool {
        self.keyspace.name.is_shared()
    }
}

/// A keyspace as the fence computes it. Immutable once installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceSpec {
    /// Its name.
    pub name: KeyspaceName,
    /// Its number of slots.
    pub slots: u32,
    /// How a key becomes a slot.
    pub function: Function,
    /// Keys that do not follow the function.
    pub overrides: BTreeMap<String, Slot>,
}

/// A sharded table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Its exact name, with or without a schema.
    pub name: String,
    /// The exact name of the column whose text is the key; `None` in a store with a single writer, where every row is in slot 0.
    pub shard_key: Option<String>,
    /// In a store that several units write: the exact name of the column that says when a row was written last, if one does.
    pub last_write: Option<String>,
}

/// Something about a table that a person must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFinding {
    /// The table, as declared.
    pub table: String,
    /// Whether the store is refused for it; else it is a warning.
    pub refused: bool,
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}
