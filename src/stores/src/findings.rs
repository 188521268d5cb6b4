//! What is found of tables and of the column that holds the key, in words that every engine says alike. Pure.

use crate::error::Error;
use crate::spec::{TableFinding, TableSpec};

impl TableFinding {
    /// Why the store is refused for a table.
    pub(crate) fn refused(sharded: &TableSpec, reason: &'static str, message: String) -> Self {
        Self {
            table: sharded.name.clone(),
            refused: true,
            reason,
            message,
        }
    }

    /// What a person must know of a table.
    pub(crate) fn warned(sharded: &TableSpec, reason: &'static str, message: String) -> Self {
        Self {
            refused: false,
            ..Self::refused(sharded, reason, message)
        }
    }
}

/// Fails where the store is refused for one of its tables.
pub(crate) fn none_refused(findings: Vec<TableFinding>) -> Result<(), Error> {
    let refused: Vec<_> = findings.into_iter().filter(|finding| finding.refused).collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::TablesRefused(refused)),
    }
}

/// What is wrong with a table that lacks the column which says when a row was written last.
pub(crate) fn no_last_write(column: &str) -> (&'static str, String) {
    let message = format!("it has no column {column}, which lastWrite names: add it here, and have each write set it");
    ("NoLastWrite", message)
}

/// What is wrong with keys that must be unique besides the primary key, where several units write.
pub(crate) fn unique_besides(keys: &str) -> (&'static str, String) {
    let message = format!(
        "several units write this store, and {keys} must be unique too: two rows that are not the same would be in each other's \
         way, and neither could be kept; have the primary key be all that is unique"
    );
    ("UniqueKey", message)
}

/// The column that holds the key, as the server tells of it.
pub(crate) struct KeyColumn<'a> {
    name: &'a str,
    exists: bool,
    not_null: bool,
    generated: bool,
    /// Whether its text is always the same.
    plain: bool,
    type_name: String,
    /// A trigger that runs after the fence; empty where there is none.
    later_trigger: String,
}

impl<'a> KeyColumn<'a> {
    /// As the server tells of it: `yes` reads the facts that both engines' queries give by the same names.
    pub(crate) fn read(
        name: &'a str,
        yes: impl Fn(&'static str) -> bool,
        type_name: String,
        later_trigger: String,
    ) -> Self {
        Self {
            name,
            exists: yes("has_column"),
            not_null: yes("not_null"),
            generated: yes("generated"),
            plain: yes("plain_type"),
            type_name,
            later_trigger,
        }
    }

    /// What is wrong with it: a reason, and what to do. `not_null` and `first` are what a person does about a column that may be
    /// null, and about a trigger that comes later.
    pub(crate) fn wrong(&self, not_null: &str, first: &str) -> Vec<(&'static str, String)> {
        let Self { name, .. } = self;
        if !self.exists {
            let message = format!("it has no column {name}: name the column that holds the key");
            return vec![("NoShardKey", message)];
        }
        let mut wrong = Vec::new();
        if !self.not_null {
            wrong.push(("ShardKeyNullable", format!("column {name} may be null: {not_null}")));
        }
        if self.generated {
            let message = format!("column {name} is generated, after the fence has looked: store the key");
            wrong.push(("ShardKeyGenerated", message));
        }
        if !self.plain {
            let message = format!(
                "the text of a {} is not always the same: use text, an integer, a uuid or an enum",
                self.type_name
            );
            wrong.push(("ShardKeyType", message));
        }
        if !self.later_trigger.is_empty() {
            let message = format!(
                "trigger {} runs after the fence and could change the key: {first}",
                self.later_trigger
            );
            wrong.push(("LaterTrigger", message));
        }
        wrong
    }
}
