//! Operations that bring slots to a member: each is told in its log before the slots open, and who has that row has all that
//! their former owners wrote, as far as the new owner has it.

use super::connect::Session;
use super::gtid::Gtid;
use super::{MySqlFamily, applied, cut, links, lost, position};
use crate::error::Error;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::UnitPosition;

/// An operation that brings slots here, or to another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brought {
    pub(crate) op: OperationUid,
    /// How far the logs of their former owners had to be applied; of a unit that was lost, how far it was.
    pub(crate) vector: Vec<UnitPosition>,
    /// The units that were lost to it.
    pub(crate) lost: Vec<UnitName>,
}

impl Brought {
    /// As it is kept.
    pub(crate) fn parse(op: OperationUid, vector: &str, lost: &str) -> Result<Self, Error> {
        Ok(Self {
            op,
            vector: position::parse(vector)?,
            lost: lost::list(lost)?,
        })
    }
}

/// Logs what operations bring here; each once. The logs of units that were lost are closed by then.
pub(crate) async fn tell(db: &MySqlFamily, ops: &[Brought]) -> Result<(), Error> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut session = db.server.session().await?;
    let here = position::applied(&mut session).await?;
    session.keep();
    let mut logged = db.server.logged().await?;
    let sql = "INSERT IGNORE INTO multiactive.brought (op, unit, vector, lost, at) VALUES (?, ?, ?, ?, SYSDATE(6))";
    for Brought { op, vector, lost } in ops {
        let is = |unit: &UnitName| here.iter().find(|(known, _)| known == unit).and_then(|(_, at)| *at);
        let entries = vector.iter().map(|wanted| {
            let is = lost.contains(&wanted.unit).then(|| is(&wanted.unit)).flatten();
            (
                &wanted.unit.0,
                is.map_or_else(|| wanted.position.clone(), |at| at.to_string()),
            )
        });
        let vector = serde_json::json!(entries.collect::<Vec<_>>()).to_string();
        let lost: Vec<_> = lost.iter().map(UnitName::as_str).collect();
        let params = (
            op.as_str(),
            db.spec.unit.as_str(),
            vector,
            serde_json::json!(lost).to_string(),
        );
        logged
            .change("telling that slots are brought here", sql, params)
            .await?;
    }
    logged.keep();
    Ok(())
}

/// What was brought to a unit, by the word of this session's server.
pub(crate) async fn to(session: &mut Session<'_>, unit: &UnitName) -> Result<Vec<Brought>, Error> {
    let sql = "SELECT op, vector, lost FROM multiactive.brought WHERE unit = ? ORDER BY at";
    let rows: Vec<(String, String, String)> = session
        .rows("looking at what was brought", sql, (unit.as_str(),))
        .await?;
    let brought = |(op, vector, lost): (String, String, String)| Brought::parse(OperationUid(op), &vector, &lost);
    rows.into_iter().map(brought).collect()
}

pub(crate) async fn passed(db: &MySqlFamily, ops: &[OperationUid]) -> Result<Vec<OperationUid>, Error> {
    let mut session = db.server.session().await?;
    let mut passed = Vec::new();
    for op in ops {
        if has_passed(db, &mut session, op).await? {
            passed.push(op.clone());
        }
    }
    session.keep();
    Ok(passed)
}

async fn has_passed(db: &MySqlFamily, session: &mut Session<'_>, op: &OperationUid) -> Result<bool, Error> {
    let sql = "SELECT surplus FROM multiactive.passed WHERE op = ?";
    let noted: Vec<bool> = session.rows("looking at what is here", sql, (op.as_str(),)).await?;
    if let Some(surplus) = noted.first() {
        return Ok(!surplus);
    }
    let sql = "SELECT unit, vector, lost FROM multiactive.brought WHERE op = ? AND unit <> ?";
    let params = (op.as_str(), db.spec.unit.as_str());
    let rows: Vec<(String, String, String)> = session.rows("looking at what is here", sql, params).await?;
    let Some((owner, vector, lost)) = rows.into_iter().next() else {
        return Ok(false);
    };
    let owner = UnitName(owner);
    let Some(words) = unlike(session, &owner, &Brought::parse(op.clone(), &vector, &lost)?).await? else {
        return Ok(true);
    };
    note_surplus(session, &owner, op, &words).await?;
    Ok(false)
}

/// In words, where this member has more of a lost unit than who took its slots over, or has less and will get no more.
async fn unlike(session: &mut Session<'_>, owner: &UnitName, brought: &Brought) -> Result<Option<String>, Error> {
    let (known, list) = (links::known(session).await?, applied::read(session).await?);
    let here = cut::reached(session).await?;
    for unit in &brought.lost {
        let Some(at) = brought.vector.iter().find(|at| at.unit == *unit) else {
            continue;
        };
        let Some(link) = known.iter().find(|link| link.from == *unit) else {
            continue;
        };
        let (theirs, ours) = (
            Gtid::parse(&at.position)?.seq,
            Gtid::of(&here, link.log).map_or(0, |at| at.seq),
        );
        if ours > theirs {
            return Ok(Some(format!(
                "this member had received more of a lost unit than {owner}, which took its slots over: rows that nobody \
                 owns may be here"
            )));
        }
        if ours < theirs && Gtid::of(&list, link.log).is_some_and(|at| applied::is_closed(&at)) {
            return Ok(Some(format!(
                "{owner} had received more of {unit}, which was lost, than this member, and that comes here no more"
            )));
        }
    }
    Ok(None)
}

/// A copy of the owner's rows ends it.
async fn note_surplus(
    session: &mut Session<'_>,
    owner: &UnitName,
    op: &OperationUid,
    words: &str,
) -> Result<(), Error> {
    let sql = "UPDATE multiactive.link SET sound = IF(gap IS NULL, 0, sound), gap = IFNULL(gap, ?), lacking = NULL
               WHERE from_unit = ?";
    session.change("noting a gap", sql, (words, owner.as_str())).await?;
    let sql = "INSERT IGNORE INTO multiactive.passed (op, owner, surplus) VALUES (?, ?, TRUE)";
    session
        .change("noting a gap", sql, (op.as_str(), owner.as_str()))
        .await
        .map(drop)
}
