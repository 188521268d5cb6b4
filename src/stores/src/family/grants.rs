//! Bringing a store to a table: what must close is closed first, then what may open opens.

use super::MySqlFamily;
use super::brought::{self, Brought};
use super::connect::Session;
use super::fence::{self, Met};
use super::slots::{self, By, Plan};
use super::store::{self, raise};
use super::{applied, links, lost, placed};
use crate::driver::{Applied, FenceLimits, Grant};
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;

pub(crate) async fn apply(
    db: &MySqlFamily,
    table: Epoch,
    grants: &[Grant],
    limits: FenceLimits,
) -> Result<Applied, Error> {
    let mut session = db.server.session().await?;
    raise(&mut session, table, true).await?;
    store::begin(db, &mut session).await?;
    let mut plan = look(db, &mut session, table, grants).await?;
    session.keep();
    let mut applied = Applied::default();
    if !plan.closing.is_empty() {
        let closed = fence::close(db, grants, By::Table, Some(table), limits).await?;
        (applied.closed, applied.ended) = (closed.slots, closed.ended);
    }
    if !plan.keeping.is_empty() {
        plan = keep(db, table, grants).await?;
    }
    if plan.opening.is_empty() {
        let mut session = db.server.session().await?;
        store::brought(&mut session, table).await?;
        session.keep();
    } else {
        applied.opened = open(db, table, grants, limits).await?;
    }
    Ok(applied)
}

async fn look(db: &MySqlFamily, session: &mut Session<'_>, table: Epoch, grants: &[Grant]) -> Result<Plan, Error> {
    let plan = slots::plan(&slots::read(session, grants).await?, grants, By::Table);
    if !plan.is_whole(grants) {
        return Err(Error::NotInstalled {
            at: db.server.at.clone(),
        });
    }
    match plan.forbidden {
        Some(held) => Err(Error::Overtaken { held, asked: table }),
        None => Ok(plan),
    }
}

/// Keeps slots open at the table's epoch, so that a fence of an operation that was aborted before it ran comes too late for
/// them. Tells what is left to do.
async fn keep(db: &MySqlFamily, table: Epoch, grants: &[Grant]) -> Result<Plan, Error> {
    let mut session = db.server.session().await?;
    session.batch("keeping slots open", "START TRANSACTION").await?;
    // Whoever closes slots holds the same lock: a late fence closes them before this, and is seen, or meets what is kept.
    store::lock(&mut session).await?;
    raise(&mut session, table, true).await?;
    let plan = look(db, &mut session, table, grants).await?;
    slots::stamp(&mut session, &plan.keeping, true).await?;
    session.batch("keeping slots open", "COMMIT").await?;
    session.keep();
    Ok(plan)
}

async fn open(db: &MySqlFamily, table: Epoch, grants: &[Grant], limits: FenceLimits) -> Result<u64, Error> {
    let mut session = db.server.session().await?;
    placed::demand(&mut session).await?;
    let plan = look(db, &mut session, table, grants).await?;
    // What tells lost units comes first: in the log it stands before every write that this lets in.
    let ops = drained(&mut session, &plan).await?;
    session.keep();
    lost::tell(db, &ops).await?;
    close_logs(db, &ops).await?;
    brought::tell(db, &ops).await?;
    // A writer who was refused holds the rows too, as long as his transaction lives.
    let mut met = Met::default();
    let mut session = fence::lock(db, &plan.opening, grants, By::Table, limits, &mut met).await?;
    store::lock(&mut session).await?;
    // Under the lock again: a newer call may have come in between.
    raise(&mut session, table, true).await?;
    let now = look(db, &mut session, table, grants).await?;
    if now.opening != plan.opening {
        // Another call of the same epoch was quicker; its answer is right, and ours is that of the next call.
        return Err(session.late("opening slots", limits.deadline));
    }
    for Brought { op, .. } in &ops {
        let sql = "INSERT IGNORE INTO multiactive.opening (op, at) VALUES (?, SYSDATE(6))";
        session.change("noting an opening", sql, (op.as_str(),)).await?;
    }
    for run in &plan.opening {
        slots::set(&mut session, run, true).await?;
    }
    slots::stamp(&mut session, &plan.opening, true).await?;
    store::brought(&mut session, table).await?;
    let sql = "UPDATE multiactive.store SET opened = TRUE";
    session.change("noting that slots were open", sql, ()).await?;
    session.batch("opening slots", "COMMIT").await?;
    session.keep();
    Ok(slots::count(&plan.opening))
}

/// Takes nothing more of what the units wrote that were lost.
async fn close_logs(db: &MySqlFamily, ops: &[Brought]) -> Result<(), Error> {
    let units: Vec<UnitName> = ops.iter().flat_map(|brought| &brought.lost).cloned().collect();
    if units.is_empty() {
        return Ok(());
    }
    let mut session = db.server.session().await?;
    links::lock(&mut session).await?;
    applied::close(db, &mut session, &units).await?;
    links::unlock(&mut session).await?;
    session.keep();
    Ok(())
}

/// The operations that bring slots to open here, each with the units that were lost to it. Refused where one has not drained;
/// slots that a restart closed were drained before.
async fn drained(session: &mut Session<'_>, plan: &Plan) -> Result<Vec<Brought>, Error> {
    let mut ops: Vec<Brought> = Vec::new();
    for run in &plan.opening {
        let Some(op) = run.op.as_ref().filter(|_| !run.again) else {
            continue;
        };
        let sql = "SELECT vector, lost FROM multiactive.reached WHERE op = ? AND (term, epoch) < (?, ?)
                   ORDER BY term DESC, epoch DESC LIMIT 1";
        let params = (op.as_str(), run.epoch.term, run.epoch.epoch);
        let records: Vec<(String, String)> = session.rows("looking for records of drains", sql, params).await?;
        let Some((vector, lost)) = records.first() else {
            return Err(Error::NotDrained {
                op: op.clone(),
                epoch: run.epoch,
            });
        };
        if !ops.iter().any(|known| known.op == *op) {
            ops.push(Brought::parse(op.clone(), vector, lost)?);
        }
    }
    Ok(ops)
}
