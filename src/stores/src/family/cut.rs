//! Cutting a lost unit off: nothing more is received from it, what was received is applied, and that stays so until it is
//! joined again. What was received must not be thrown away: it may be all that is left.

use super::connect::Session;
use super::gtid::{Gtid, Log, covering, progress};
use super::names;
use super::{MySqlFamily, applied, links, position, status, store};
use crate::driver::CutAt;
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::UnitPosition;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the rest of what was received may take to be applied.
const DRAINS: Duration = Duration::from_secs(4);

/// A cut as it is noted.
pub(crate) struct Noted {
    op: String,
    pub(crate) epoch: Epoch,
    pub(crate) stands: bool,
    applied: Option<String>,
    repaired: Option<String>,
}

impl Noted {
    /// How far the unit's log is here, one way or the other.
    pub(crate) fn reached(&self) -> Result<Option<Gtid>, Error> {
        let each = [&self.applied, &self.repaired].map(|at| at.as_deref().map(Gtid::parse).transpose());
        let [applied, repaired] = each;
        Ok([applied?, repaired?].into_iter().flatten().max_by_key(|at| at.seq))
    }
}

/// The cut of a unit, whether it stands or not; with `lock`, nobody changes it before the end of the transaction.
pub(crate) async fn noted(session: &mut Session<'_>, from: &UnitName, lock: bool) -> Result<Option<Noted>, Error> {
    let sql = format!(
        "SELECT op, term, epoch, stands, applied, repaired FROM multiactive.cut WHERE from_unit = ?{}",
        if lock { " FOR UPDATE" } else { "" }
    );
    type Row = (String, u32, u64, bool, Option<String>, Option<String>);
    let rows: Vec<Row> = session.rows("looking at a cut", &sql, (from.as_str(),)).await?;
    let noted = |(op, term, epoch, stands, applied, repaired)| Noted {
        op,
        epoch: Epoch::new(term, epoch),
        stands,
        applied,
        repaired,
    };
    Ok(rows.into_iter().next().map(noted))
}

pub(crate) async fn cut(db: &MySqlFamily, from: &UnitName, op: &OperationUid, epoch: Epoch) -> Result<CutAt, Error> {
    let mut session = db.server.session().await?;
    store::raise(&mut session, epoch, false).await?;
    links::lock(&mut session).await?;
    session.batch("cutting a unit off", "START TRANSACTION").await?;
    let was = noted(&mut session, from, true).await?;
    let late = was
        .as_ref()
        .is_some_and(|was| was.epoch > epoch || (was.epoch == epoch && !(was.stands && was.op == op.as_str())));
    if let (true, Some(was)) = (late, &was) {
        return Err(Error::Overtaken {
            held: was.epoch,
            asked: epoch,
        });
    }
    // What was applied and repaired stays as long as nothing was taken since.
    let (applied, repaired) = was
        .filter(|was| was.stands)
        .map_or((None, None), |was| (was.applied, was.repaired));
    let sql = "REPLACE INTO multiactive.cut (from_unit, op, term, epoch, stands, applied, repaired)
               VALUES (?, ?, ?, ?, TRUE, ?, ?)";
    let params = (from.as_str(), op.as_str(), epoch.term, epoch.epoch, applied, repaired);
    session.change("cutting a unit off", sql, params).await?;
    session.batch("cutting a unit off", "COMMIT").await?;
    // From here on nobody starts it; what runs has to end.
    stand_still(&mut session, &names::link(from)).await?;
    let at = note_applied(&mut session, from).await?;
    links::unlock(&mut session).await?;
    let born = links::known(&mut session)
        .await?
        .into_iter()
        .find(|link| link.from == *from);
    session.keep();
    tracing::warn!(at = %db.server.at, %from, %op, %epoch, "cut off: nothing is taken from it");
    let nothing = Gtid::nothing(Log::Domain(0));
    let text = at.unwrap_or(nothing).to_string();
    let progress = progress(from, born.as_ref().map(|link| link.born.as_str()), &text).ok_or(Error::Malformed {
        what: "position",
        value: text,
    })?;
    Ok(CutAt {
        from: from.clone(),
        position: at.map(|at| at.to_string()),
        progress,
    })
}

/// Receives nothing more, then applies what was received, as far as that goes; then stops. A transaction of which only a part
/// was received is given up. In this order: a link that begins when neither thread runs throws away what it had received. Whether
/// it ran.
pub(crate) async fn stand_still(session: &mut Session<'_>, name: &str) -> Result<bool, Error> {
    // One whose connection failed for good receives nothing, and still applies.
    if status::one(session, name)
        .await?
        .is_none_or(|status| status.is_stopped())
    {
        return Ok(false);
    }
    status::start_applying(session, name).await?;
    status::stop_receiving(session, name).await?;
    let started = Instant::now();
    while let Some(status) = status::one(session, name).await?
        && !status.is_drained()
        && !status.is_stuck()
        && started.elapsed() < DRAINS
    {
        if status.passes_over {
            status::start_applying(session, name).await?;
        }
        sleep(Duration::from_millis(5)).await;
    }
    status::stop(session, name).await?;
    Ok(true)
}

/// Notes how far a unit's log is applied here; answers that, or how far it was repaired.
pub(crate) async fn note_applied(session: &mut Session<'_>, from: &UnitName) -> Result<Option<Gtid>, Error> {
    let applied = position::applied(session).await?;
    let at = applied
        .into_iter()
        .find(|(unit, _)| unit == from)
        .and_then(|(_, at)| at);
    let sql = "UPDATE multiactive.cut SET applied = IFNULL(?, applied) WHERE from_unit = ? AND stands";
    let text = at.map(|at| at.to_string());
    session
        .change("noting how far a unit's log is applied", sql, (text, from.as_str()))
        .await?;
    match noted(session, from, false).await? {
        Some(noted) => noted.reached(),
        None => Ok(at),
    }
}

pub(crate) async fn uncut(db: &MySqlFamily, from: &UnitName, epoch: Epoch, compared: bool) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    store::raise(&mut session, epoch, false).await?;
    links::lock(&mut session).await?;
    match noted(&mut session, from, false).await? {
        // Never cut, or mended before.
        None => {}
        Some(was) if !was.stands => {}
        Some(was) if was.epoch > epoch => {
            return Err(Error::Overtaken {
                held: was.epoch,
                asked: epoch,
            });
        }
        Some(_) => {
            // In this order: from the first on, whoever makes the link begins anew; from the last on, he may.
            let sql = "UPDATE multiactive.link SET anew = ? WHERE from_unit = ?";
            session.change("ending a cut", sql, (compared, from.as_str())).await?;
            links::remove(&mut session, from).await?;
            let sql = "UPDATE multiactive.cut SET stands = FALSE, term = ?, epoch = ? WHERE from_unit = ?";
            let params = (epoch.term, epoch.epoch, from.as_str());
            session.change("ending a cut", sql, params).await?;
        }
    }
    links::unlock(&mut session).await?;
    session.keep();
    Ok(())
}

pub(crate) async fn repaired(db: &MySqlFamily, epoch: Epoch, upto: &UnitPosition) -> Result<(), Error> {
    let at = Gtid::parse(&upto.position)?;
    let mut session = db.server.session().await?;
    session.batch("noting a repair", "START TRANSACTION").await?;
    let Some(was) = noted(&mut session, &upto.unit, true).await?.filter(|was| was.stands) else {
        return Err(Error::NotCut {
            from: upto.unit.clone(),
        });
    };
    if was.epoch > epoch {
        return Err(Error::Overtaken {
            held: was.epoch,
            asked: epoch,
        });
    }
    if was.reached()?.is_none_or(|reached| reached.seq < at.seq) {
        let sql = "UPDATE multiactive.cut SET repaired = ? WHERE from_unit = ?";
        let params = (at.to_string(), upto.unit.as_str());
        session.change("noting a repair", sql, params).await?;
    }
    session.batch("noting a repair", "COMMIT").await?;
    session.keep();
    Ok(())
}

/// The cuts that stand, each with words for it.
pub(crate) async fn standing(session: &mut Session<'_>) -> Result<BTreeMap<UnitName, String>, Error> {
    let sql = "SELECT from_unit FROM multiactive.cut WHERE stands";
    let units: Vec<String> = session.rows("looking for cuts", sql, ()).await?;
    let mut cuts = BTreeMap::new();
    for from in units.into_iter().map(UnitName) {
        let Some(noted) = noted(session, &from, false).await? else {
            continue;
        };
        let applied = noted.reached()?.map_or("nothing".to_owned(), |at| at.to_string());
        let words = format!(
            "operation {} took slots over while {from} was lost, at {}: nothing is taken from it before it joins again; \
             {applied} of its log is applied here",
            noted.op, noted.epoch
        );
        cuts.insert(from, words);
    }
    Ok(cuts)
}

/// Those of the units that are cut here by the operation, or at its epoch or later: they write no fence any more.
pub(crate) async fn lost(
    session: &mut Session<'_>,
    op: &OperationUid,
    epoch: Epoch,
    sources: &[&UnitName],
) -> Result<Vec<UnitName>, Error> {
    let mut lost = Vec::new();
    for unit in sources {
        let cut = noted(session, unit, false).await?;
        if cut.is_some_and(|cut| cut.stands && (cut.op == op.as_str() || cut.epoch >= epoch)) {
            lost.push((*unit).clone());
        }
    }
    lost.sort();
    Ok(lost)
}

/// How far each log is here: applied, whichever link brought it, or repaired where its unit is cut. Of a log that is closed,
/// how far it was then.
pub(crate) async fn reached(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    let mut reached = applied::read(session).await?;
    reached.retain(|at| !applied::is_closed(at));
    let sql = "SELECT at FROM (SELECT stands, applied AS at FROM multiactive.cut
                               UNION ALL SELECT stands, repaired FROM multiactive.cut) c WHERE stands AND at IS NOT NULL";
    let cuts: Vec<String> = session.rows("looking at cuts", sql, ()).await?;
    let cuts = cuts.iter().map(|text| Gtid::parse(text)).collect::<Result<_, _>>()?;
    Ok(covering(reached, cuts))
}

/// Sees to it that a link that is cut stands still: somebody may have started it by hand. Then rows of the lost unit may have
/// come, which is its gap.
pub(crate) async fn hold(db: &MySqlFamily, session: &mut Session<'_>, from: &UnitName) -> Result<(), Error> {
    let status = status::one(session, &names::link(from)).await?;
    if !status.is_some_and(|status| status.receives()) {
        return Ok(());
    }
    status::stop(session, &names::link(from)).await?;
    note_applied(session, from).await?;
    let why = format!(
        "it was cut, and somebody started it all the same: rows that {from} wrote while it was lost may have come over those \
         of the new owner; compare the rows and repair"
    );
    links::add_gap(session, Some(from), &why).await?;
    tracing::error!(at = %db.server.at, %from, "a link that is cut was started by hand: stopped again");
    Ok(())
}
