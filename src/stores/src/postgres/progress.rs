//! Positions as numbers that can be compared, which is only true within one history: a database that was restored or
//! rebuilt has another one. Pure, but for the questions that it puts.

use super::Postgres;
use super::wait::lsn;
use crate::error::Error;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::Progress;

/// How far the log of a unit's database has come; `born` is since when that database goes on by itself. `None` for what is
/// no position.
pub fn progress(unit: &UnitName, born: Option<&str>, position: &str) -> Option<Progress> {
    let log = match born {
        Some(born) => format!("{unit}/{born}"),
        None => unit.to_string(),
    };
    let at = lsn(position).ok()?;
    Some(Progress { log, at })
}

/// The position counts before whatever is written after this call began.
pub(super) async fn own(pg: &Postgres) -> Result<Progress, Error> {
    let session = pg.server.session().await?;
    let sql = "SELECT pg_current_wal_insert_lsn()::text, born::text FROM multiactive.store";
    let row = session.row("reading how far the log has come", sql, &[]).await?;
    let (position, born): (String, String) = (row.get(0), row.get(1));
    session.keep();
    progress(&pg.spec.unit, Some(&born), &position).ok_or(Error::Malformed {
        what: "position",
        value: position,
    })
}

pub(super) async fn opened(pg: &Postgres, op: &OperationUid) -> Result<bool, Error> {
    let session = pg.server.session().await?;
    // Both are written in the transaction that opens; the second where nothing had to be applied.
    let sql = "SELECT EXISTS (SELECT FROM multiactive.opening WHERE unit = s.unit AND op = $1)
                   OR EXISTS (SELECT FROM multiactive.lost WHERE unit = s.unit AND op = $1)
               FROM multiactive.store s";
    let row = session.row("looking for an opening", sql, &[&op.as_str()]).await?;
    session.keep();
    Ok(row.get(0))
}

pub(super) async fn passed(pg: &Postgres, ops: &[OperationUid]) -> Result<Vec<OperationUid>, Error> {
    let session = pg.server.session().await?;
    let asked: Vec<&str> = ops.iter().map(OperationUid::as_str).collect();
    let sql = "SELECT multiactive.note_surplus()";
    session.rows("looking at what is here", sql, &[]).await?;
    let sql = "SELECT op FROM multiactive.passed WHERE op = ANY ($1::text[]) AND NOT surplus";
    let rows = session.rows("looking at what is here", sql, &[&asked]).await?;
    session.keep();
    Ok(rows.iter().map(|row| OperationUid(row.get(0))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_compare_as_numbers_within_one_history() {
        let at = |born, text| progress(&"east-1".into(), born, text);
        let of = |born, text| at(born, text).unwrap();
        for (one, other, want) in [
            (of(Some("a"), "0/F"), of(Some("a"), "0/10"), Some(false)),
            (of(Some("a"), "1/0"), of(Some("a"), "0/FFFFFFFF"), Some(true)),
            (of(Some("a"), "0/10"), of(Some("a"), "0/10"), Some(true)),
            (of(Some("a"), "0/10"), of(Some("b"), "0/10"), None),
            (of(Some("a"), "0/10"), of(None, "0/10"), None),
        ] {
            assert_eq!(one.covers(&other), want, "{one:?} {other:?}");
        }
        assert_eq!(of(None, "1/2A").at, (1 << 32) + 42);
        for text in ["", "12", "0/x", "1/2/3"] {
            assert_eq!(at(None, text), None, "{text}");
        }
    }
}
