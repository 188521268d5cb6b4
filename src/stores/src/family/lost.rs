//! What a new owner tells the unit that was lost, and how that unit waits for a person.
//!
//! Rows that a link brings fire no trigger, and what is passed on by a third member comes as rows whatever it was. Only a
//! statement that defines something stays one on its whole way. So the new owner, before it opens, logs one that copies the
//! *gate* of the lost unit: a table that is on every server but that unit's own. There it fails, the link stops, and nothing
//! of what the new owner writes gets past it, by whatever way it comes. It is made with IF NOT EXISTS: in the unit that
//! accepts what differs, the copy is made by hand, and the statement passes.

use super::MySqlFamily;
use super::brought::Brought;
use super::connect::Session;
use super::dialect::Kind;
use super::names::{gate, ident, lost};
use crate::error::Error;
use multiactive_core::ids::{OperationUid, UnitName};

/// The units of a record, as they are kept.
pub(crate) fn list(text: &str) -> Result<Vec<UnitName>, Error> {
    let units: Vec<String> = serde_json::from_str(text).map_err(|_| Error::Malformed {
        what: "list of units",
        value: text.to_owned(),
    })?;
    Ok(units.into_iter().map(UnitName).collect())
}

/// Makes the gate of every unit but our own.
pub(crate) async fn make_gates(session: &mut Session<'_>, units: &[UnitName]) -> Result<(), Error> {
    for unit in units {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS multiactive.{} (one TINYINT PRIMARY KEY)",
            ident(&gate(unit))
        );
        session.batch("making gates", &sql).await?;
    }
    Ok(())
}

/// Drops our own: a server that was made from a copy of another member's has it.
pub(crate) async fn drop_own_gate(session: &mut Session<'_>, own: &UnitName) -> Result<(), Error> {
    // What was told of us to others may refer to it.
    let sql = format!(
        "SET SESSION foreign_key_checks = 0; DROP TABLE IF EXISTS multiactive.{}; SET SESSION foreign_key_checks = 1",
        ident(&gate(own))
    );
    session.batch("dropping our own gate", &sql).await
}

/// Logs what operations took from units that were lost; each once.
pub(crate) async fn tell(db: &MySqlFamily, ops: &[Brought]) -> Result<(), Error> {
    for Brought { op, lost: units, .. } in ops {
        for unit in units {
            let mut session = db.server.session().await?;
            make_gates(&mut session, std::slice::from_ref(unit)).await?;
            session.keep();
            let mut session = db.server.logged().await?;
            let (lost, gate) = (ident(&lost(op, unit)), ident(&gate(unit)));
            let sql = match session.kind() {
                Kind::MariaDb => format!("CREATE TABLE IF NOT EXISTS multiactive.{lost} LIKE multiactive.{gate}"),
                // A table that refers to the gate instead of a copy, which MySQL looks for even where its copy exists.
                Kind::MySql => format!(
                    "CREATE TABLE IF NOT EXISTS multiactive.{lost} \
                     (one TINYINT PRIMARY KEY, FOREIGN KEY (one) REFERENCES multiactive.{gate} (one))"
                ),
            };
            session.batch("telling that a unit was lost", &sql).await?;
            session.keep();
        }
    }
    Ok(())
}

pub(crate) async fn rejoin(db: &MySqlFamily, op: &OperationUid) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS multiactive.{} (one TINYINT PRIMARY KEY)",
        ident(&lost(op, &db.spec.unit))
    );
    session.batch("accepting what differs", &sql).await?;
    session.keep();
    Ok(())
}

/// Whether what an operation made differ was accepted here.
pub(crate) async fn is_rejoined(session: &mut Session<'_>, own: &UnitName, op: &OperationUid) -> Result<bool, Error> {
    let sql =
        "SELECT COUNT(*) > 0 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'multiactive' AND TABLE_NAME = ?";
    session.row("looking for a quarantine", sql, (lost(op, own),)).await
}

/// What a link waits for that failed with this error: the table that says which operation it is.
pub(crate) fn awaits(own: &UnitName, error: &str) -> Option<String> {
    let gate = gate(own);
    let said = [
        format!("'multiactive.{gate}' doesn't exist"),
        format!("Failed to open the referenced table '{gate}'"),
    ];
    let (_, after) = said.iter().find_map(|said| error.split_once(said))?;
    let (_, table) = after.split_once("CREATE TABLE IF NOT EXISTS multiactive.`")?;
    table.split_once('`').map(|(table, _)| table.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_gate_keeps_a_unit_waiting() {
        let own = UnitName::from("east-1");
        let error = |of: &str| {
            format!(
                "Error 'Table 'multiactive.{}' doesn't exist' on query. Default database: ''. Query: 'CREATE TABLE IF NOT \
                 EXISTS multiactive.`lost_p_east_1_1` LIKE multiactive.`x`'",
                gate(&of.into())
            )
        };
        assert_eq!(awaits(&own, &error("east-1")).as_deref(), Some("lost_p_east_1_1"));
        assert_eq!(awaits(&own, &error("north-1")), None);
        let error = format!(
            "Worker 1 failed executing transaction '2d98e5a1-ea6a-11f1-84ca-02fc00000001:5' at source log binlog.000001, \
             end_log_pos 1463; Error 'Failed to open the referenced table '{}'' on query. Default database: ''. Query: \
             'CREATE TABLE IF NOT EXISTS multiactive.`lost_p_east_1_1` (one TINYINT PRIMARY KEY)'",
            gate(&own)
        );
        assert_eq!(awaits(&own, &error).as_deref(), Some("lost_p_east_1_1"));
    }
}
