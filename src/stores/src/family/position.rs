//! Positions: how far this member's log has come and what it has applied of the others; and the fence of an operation, which
//! is a fence and then a position.
//!
//! Why the position is right: it is read after the fence has been committed. A transaction lets its locks go only after it
//! stands in the log, so every write that the fence let pass is before it. Links apply a log in the order of its numbers, so
//! who has applied the position has applied all of them. The position is written behind it, with the fence's row, and travels
//! with it: who has that row needs nobody to tell the position.

use super::MySqlFamily;
use super::connect::{Session, refusal};
use super::fence as closing;
use super::gtid::{Gtid, progress};
use super::logs::Logs;
use super::slots::{self, By, Plan};
use super::store::{self, raise};
use super::{cut, links, placed};
use crate::driver::{FenceLimits, Fenced, Grant};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{Progress, StorePosition, UnitPosition};
use multiactive_core::slots::SlotSet;

pub(crate) async fn fence(
    db: &MySqlFamily,
    op: &OperationUid,
    epoch: Epoch,
    slots: &SlotSet,
    limits: FenceLimits,
) -> Result<Fenced, Error> {
    let grants = [Grant {
        slots: slots.clone(),
        open: false,
        epoch,
        brought_by: None,
    }];
    let mut session = db.server.session().await?;
    // The table may be newer by now, for other slots: only what these slots were brought to counts.
    raise(&mut session, epoch, false).await?;
    let plan = look(db, &mut session, epoch, &grants).await?;
    session.keep();
    let mut ended = Vec::new();
    if !plan.closing.is_empty() {
        ended = closing::close(db, &grants, By::Fence, None, limits).await?.ended;
    }
    let mut session = db.server.session().await?;
    session.batch("stamping slots", "START TRANSACTION").await?;
    store::lock(&mut session).await?;
    // A newer call may have opened them since.
    let plan = look(db, &mut session, epoch, &grants).await?;
    if !plan.closing.is_empty() {
        return Err(Error::FenceBlocked {
            after: limits.deadline,
            blockers: Vec::new(),
        });
    }
    slots::stamp(&mut session, &plan.stamping, false).await?;
    session.batch("stamping slots", "COMMIT").await?;
    closing::refuse_prepared(&mut session, limits).await?;
    placed::demand(&mut session).await?;
    let vector = mark(db, &mut session, op, epoch).await?;
    session.keep();
    let position = StorePosition {
        store: db.spec.store.clone(),
        source: db.spec.unit.clone(),
        vector,
    };
    Ok(Fenced { position, ended })
}

async fn look(db: &MySqlFamily, session: &mut Session<'_>, asked: Epoch, grants: &[Grant]) -> Result<Plan, Error> {
    let plan = slots::plan(&slots::read(session, grants).await?, grants, By::Fence);
    if !plan.is_whole(grants) {
        return Err(Error::NotInstalled {
            at: db.server.at.clone(),
        });
    }
    match plan.forbidden {
        Some(held) => Err(Error::Overtaken { held, asked }),
        None => Ok(plan),
    }
}

/// The position of this operation's fence: the one that was taken before, or one taken now, which is written into the log.
async fn mark(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    op: &OperationUid,
    epoch: Epoch,
) -> Result<Vec<UnitPosition>, Error> {
    // The first answer stays: other members may have recorded that they reached it.
    if let Some(vector) = marked(db, session, op, epoch).await? {
        return Ok(vector);
    }
    let vector = read(db, session).await?;
    let entries: Vec<_> = vector.iter().map(|at| (&at.unit.0, &at.position)).collect();
    let text = serde_json::json!(entries).to_string();
    let mut logged = db.server.logged().await?;
    let sql = "INSERT INTO multiactive.fenced (op, unit, term, epoch, vector, at) VALUES (?, ?, ?, ?, ?, SYSDATE(6))";
    let params = (op.as_str(), db.spec.unit.as_str(), epoch.term, epoch.epoch, &text);
    match logged.change("noting the position", sql, params).await {
        Ok(_) => logged.keep(),
        // 1062: another call was quicker.
        Err(error) if refusal(&error) == Some(1062) => {}
        Err(error) => return Err(error),
    }
    let sql = "DELETE FROM multiactive.fenced WHERE at < SYSDATE(6) - INTERVAL 30 DAY";
    session.change("forgetting old fences", sql, ()).await?;
    Ok(marked(db, session, op, epoch).await?.unwrap_or(vector))
}

async fn marked(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    op: &OperationUid,
    epoch: Epoch,
) -> Result<Option<Vec<UnitPosition>>, Error> {
    let sql = "SELECT vector FROM multiactive.fenced WHERE op = ? AND unit = ? AND term = ? AND epoch = ?";
    let params = (op.as_str(), db.spec.unit.as_str(), epoch.term, epoch.epoch);
    let rows: Vec<String> = session.rows("reading the position", sql, params).await?;
    rows.first().map(|text| parse(text)).transpose()
}

/// A vector as it is kept.
pub(crate) fn parse(text: &str) -> Result<Vec<UnitPosition>, Error> {
    let entries: Vec<(String, String)> = serde_json::from_str(text).map_err(|_| Error::Malformed {
        what: "position vector",
        value: text.to_owned(),
    })?;
    let position = |(unit, position)| UnitPosition {
        unit: UnitName(unit),
        position,
    };
    Ok(entries.into_iter().map(position).collect())
}

pub(crate) async fn position(db: &MySqlFamily) -> Result<Vec<UnitPosition>, Error> {
    let mut session = db.server.session().await?;
    let vector = read(db, &mut session).await?;
    session.keep();
    Ok(vector)
}

/// Our own position first. A link that has not brought anything yet has none.
async fn read(db: &MySqlFamily, session: &mut Session<'_>) -> Result<Vec<UnitPosition>, Error> {
    let mut vector = vec![UnitPosition {
        unit: db.spec.unit.clone(),
        position: written(session).await?.to_string(),
    }];
    for (unit, applied) in applied(session).await? {
        vector.extend(applied.map(|gtid| UnitPosition {
            unit,
            position: gtid.to_string(),
        }));
    }
    Ok(vector)
}

/// How far this server's own log has come.
pub(crate) async fn written(session: &mut Session<'_>) -> Result<Gtid, Error> {
    Ok(Logs::read(session).await?.written())
}

/// Each unit from which a link was ever made, with how far it is applied here, whether its link brought it or another one;
/// `None` before its first transaction. Of a log that is closed, how far it was then.
pub(crate) async fn applied(session: &mut Session<'_>) -> Result<Vec<(UnitName, Option<Gtid>)>, Error> {
    let known = links::known(session).await?;
    let list = cut::reached(session).await?;
    let found = known.into_iter().map(|link| (link.from, Gtid::of(&list, link.log)));
    Ok(found.collect())
}

/// The position counts before whatever is written after this call began.
pub(crate) async fn own(db: &MySqlFamily) -> Result<Progress, Error> {
    let mut session = db.server.session().await?;
    let born: String = session
        .row(
            "reading how far the log has come",
            "SELECT born FROM multiactive.store",
            (),
        )
        .await?;
    let position = written(&mut session).await?.to_string();
    session.keep();
    progress(&db.spec.unit, Some(&born), &position).ok_or(Error::Malformed {
        what: "position",
        value: position,
    })
}

pub(crate) async fn opened(db: &MySqlFamily, op: &OperationUid) -> Result<bool, Error> {
    let mut session = db.server.session().await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM multiactive.opening WHERE op = ?) FROM multiactive.store";
    let opened = session.row("looking for an opening", sql, (op.as_str(),)).await?;
    session.keep();
    Ok(opened)
}
