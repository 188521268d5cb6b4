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
