//! Names and literals in SQL: what we call things on a server, and how text is quoted.

pub(crate) use crate::names::{fnv, short};

use multiactive_core::ids::{OperationUid, UnitName};

/// An identifier, quoted.
pub(crate) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A table's database and name; without one it is in the store's own.
pub(crate) fn table<'a>(name: &'a str, database: &'a str) -> (&'a str, &'a str) {
    name.split_once('.').unwrap_or((database, name))
}

/// A table's name for statements.
pub(crate) fn qualified(name: &str, database: &str) -> String {
    let (database, table) = table(name, database);
    format!("{}.{}", ident(database), ident(table))
}

/// The trigger of a table for `INSERT`, `UPDATE` or `DELETE`.
pub(crate) fn guard(event: &str, database: &str, table: &str) -> String {
    short(&format!("guard_{}", event.to_lowercase()), &[database, table])
}

/// The link from a unit, as the server calls it.
pub(crate) fn link(from: &UnitName) -> String {
    short("multiactive", &[from.as_str()])
}

/// The table that is on every server but that of the unit itself: see `lost`.
pub(crate) fn gate(of: &UnitName) -> String {
    short("gate", &[of.as_str()])
}

/// The table that says that an operation took slots from a lost unit.
pub(crate) fn lost(op: &OperationUid, unit: &UnitName) -> String {
    short("lost", &[op.as_str(), unit.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(ident("a`b"), "`a``b`");
        assert_eq!(literal(r"it's \ here"), r"'it''s \\ here'");
        assert_eq!(qualified("orders", "shop"), "`shop`.`orders`");
        assert_eq!(qualified("other.orders", "shop"), "`other`.`orders`");
    }

    #[test]
    fn names_fit_the_server() {
        let long = "a-very-long-name-of-a-unit-that-would-not-fit-alone-in-a-name-of-the-server";
        for name in [link(&long.into()), gate(&long.into()), guard("UPDATE", long, long)] {
            assert!(name.len() <= 64, "{name}");
        }
    }
}
