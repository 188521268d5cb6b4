//! Names of things, as types: a unit's name cannot be passed where a keyspace's is meant.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub String);
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }
        impl From<String> for $type {
            fn from(name: String) -> Self {
                Self(name)
            }
        }
    };
}

name!(
    /// A Unit's name, unique in its namespace.
    UnitName
);
name!(
    /// A Keyspace's name, unique in its namespace.
    KeyspaceName
);
name!(
    /// A DataStore's name, unique in its namespace.
    StoreName
);
name!(
    /// The uid of the object that asked for an operation: an object that is created again has another one.
    OperationUid
);

/// What stands behind a store's name in that of the keyspace of its writer. Names of Keyspaces have no dot.
const WRITER: &str = ".writer";

/// As above, of a store that several units write.
const SHARED: &str = ".shared";

impl KeyspaceName {
    /// The keyspace of a store that several units write at the same time. No table has it: nobody owns its slots, and no operation
    /// moves them.
    pub fn of_shared(store: &StoreName) -> Self {
        Self(format!("{store}{SHARED}"))
    }

    /// Whether it is that of a store that several units write.
    pub fn is_shared(&self) -> bool {
        self.0.ends_with(SHARED)
    }

    /// The keyspace of a store with a single writer: one slot, and whoever owns it writes.
    pub fn of_writer(store: &StoreName) -> Self {
        Self(format!("{store}{WRITER}"))
    }

    /// The store whose writer this is about; `None` for a Keyspace that somebody declared.
    pub fn writer_of(&self) -> Option<StoreName> {
        self.0.strip_suffix(WRITER).map(StoreName::from)
    }
}

impl OperationUid {
    /// The uid of the operation number `number` of this object, which has several. A short number, not the name of a
    /// target: a target may change, and databases and objects keep this text.
    pub fn part(&self, number: usize) -> Self {
        Self(format!("{self}.{number}"))
    }

    /// The uid of the object: uids of objects have no dot.
    pub fn object(&self) -> Self {
        self.0
            .split_once('.')
            .map_or_else(|| self.clone(), |(object, _)| object.into())
    }
}
