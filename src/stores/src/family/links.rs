//! Links: a named connection on this member for each peer. Looks first, adopts what exists, and changes only what differs.
//!
//! A link brings all of the peer's log: what the peer wrote, and what it has applied of others, in that order. So who lacks one
//! of the links gets those rows by the others, and none overtakes what it follows from. There is no filter of logs: a link
//! that leaves one out notes it as applied all the same, and those rows never come, without an error.

use super::applied::{self, Passed};
use super::connect::{Session, refusal};
use super::dialect::Kind;
use super::gtid::{Gtid, Log};
use super::logs::Logs;
use super::names;
use super::status::{self, Status};
use super::{MySqlFamily, cut, peer};
use crate::driver::{Lacking, Link, LinkState, Peer, Unlinked};
use crate::error::Error;
use crate::mysql::passed::Over;
use crate::{mariadb, mysql};
use multiactive_core::ids::UnitName;
use multiactive_core::slots::SlotSet;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a new or mended link is watched before its state is told.
const SETTLE: Duration = Duration::from_millis(400);

/// Errors with which a server turns our user away: the password that the link was made with may be an old one.
const TURNED_AWAY: [u32; 4] = [1045, 1130, 1698, 2061];

/// The peer's log does not go back to where the link stands.
const LOG_GONE: [u32; 2] = [1236, 13114];

/// Whoever changes links holds this: none is started behind the back of who cuts it.
const LOCK: &str = "SELECT GET_LOCK('multiactive.links', 4)";
const UNLOCK: &str = "SELECT RELEASE_LOCK('multiactive.links')";

/// A link that was made, as it is noted.
pub(crate) struct Known {
    pub(crate) from: UnitName,
    pub(crate) log: Log,
    pub(crate) incarnation: String,
    pub(crate) born: String,
    gap: Option<String>,
    /// What ends the gap, where a copy does.
    lacking: Option<Lacking>,
    pub(crate) anew: Option<bool>,
}

impl Known {
    /// Whether rows may be missing or wrong by it.
    pub(crate) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }
}

/// All links that were ever made into this server and not removed since.
pub(crate) async fn known(session: &mut Session<'_>) -> Result<Vec<Known>, Error> {
    // What a peer says of its fence is a gap as long as the rows were not compared.
    let sql = "SELECT l.from_unit, CAST(l.domain AS CHAR), l.incarnation, l.born, l.anew, l.lacking,
                      l.sound IS NOT NULL AND NOT EXISTS (SELECT 1 FROM multiactive.breach b WHERE b.unit = l.from_unit),
                      NULLIF(CONCAT_WS('; ', l.gap, (SELECT GROUP_CONCAT(b.words ORDER BY b.at SEPARATOR '; ')
                                                     FROM multiactive.breach b WHERE b.unit = l.from_unit)), '')
               FROM multiactive.link l ORDER BY l.from_unit";
    type Row = (
        String,
        String,
        String,
        String,
        Option<bool>,
        Option<String>,
        bool,
        Option<String>,
    );
    let rows: Vec<Row> = session.rows("reading links", sql, ()).await?;
    let known = |(from, log, incarnation, born, anew, lacking, a_copy_ends_it, gap): Row| {
        let lacking = match (&gap, a_copy_ends_it, lacking) {
            (None, _, _) | (Some(_), false, _) => None,
            (Some(_), true, None) => Some(Lacking::Unknown),
            (Some(_), true, Some(slots)) => Some(Lacking::Of(parse_slots(&slots)?)),
        };
        Ok(Known {
            from: UnitName(from),
            log: Log::parse(&log)?,
            incarnation,
            born,
            gap,
            lacking,
            anew,
        })
    };
    rows.into_iter().map(known).collect()
}

/// Slots as they are kept.
pub(crate) fn parse_slots(text: &str) -> Result<SlotSet, Error> {
    text.parse().map_err(|_| Error::Malformed {
        what: "set of slots",
        value: text.to_owned(),
    })
}

pub(crate) async fn link(db: &MySqlFamily, from: &Peer) -> Result<Link, Error> {
    let mut session = db.server.session().await?;
    // In this order: what is applied here was in the peer's log before. And before the lock: a peer that does not answer holds
    // up no other link, and nobody who cuts it off.
    let before = applied::read(&mut session).await?;
    let seen = peer::look(db, from).await;
    lock(&mut session).await?;
    let outcome = converge(db, &mut session, from, &before, seen).await;
    // What stands in the way is the link's state: the next call tries again.
    let why = match outcome {
        Ok(why) => why,
        Err(error) if refusal(&error).is_some() => Some(error.explain()),
        Err(error) => return Err(error),
    };
    unlock(&mut session).await?;
    let started = Instant::now();
    loop {
        let link = told(db, &mut session, &from.unit, why.as_deref()).await?;
        let settles = matches!(link.state, LinkState::Starting(_)) && why.is_none();
        if !settles || started.elapsed() > SETTLE {
            session.keep();
            return Ok(link);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Makes or mends the link, unless it is cut; tells why it cannot.
async fn converge(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    from: &Peer,
    before: &[Gtid],
    seen: Result<peer::Seen, Error>,
) -> Result<Option<String>, Error> {
    let copying = is_copying(session).await?;
    if !copying {
        // Before a cut link is left alone: where all others run, nobody asks for another one.
        applied::close_passed(db, session).await?;
    }
    if cut::standing(session).await?.contains_key(&from.unit) {
        cut::hold(db, session, &from.unit).await?;
        return Ok(None);
    }
    if copying {
        // What came meanwhile would be undone.
        return Ok(None);
    }
    let seen = match seen {
        Ok(seen) => seen,
        Err(Error::NotInstalled { .. }) => {
            return Ok(Some(format!("{} has not installed the store yet", from.unit)));
        }
        // Nobody knows which database would answer: nothing is started.
        Err(error) => return Ok(Some(error.explain())),
    };
    let name = names::link(&from.unit);
    let (own, others) = (own_log(session).await?, known(session).await?);
    let status = status::one(session, &name).await?;
    // What is left to a third one does not come by this link, and is not lost by it.
    let over = match &seen.passed_over {
        None => Over {
            is_gone: true,
            ..Over::default()
        },
        Some(there) => {
            let cuts = cut::standing(session).await?;
            let cut: Vec<_> = others.iter().filter(|link| cuts.contains_key(&link.from)).collect();
            let cut: Vec<_> = cut.iter().map(|link| link.log).collect();
            let over = mysql::passed::over(session, &from.unit, there, &cut).await?;
            if over.lacks {
                lose(session, &from.unit, Gtid::of(before, seen.log)).await?;
                mysql::passed::over_orphaned(session, there, &cut).await?;
            }
            over
        }
    };
    let refused = |status: &Status| LOG_GONE.contains(&status.io_errno);
    if over.is_gone && status.as_ref().is_some_and(refused) {
        lose(session, &from.unit, Gtid::of(before, seen.log)).await?;
        if db.spec.is_shared() {
            // No copy ends that where several units write: the link goes on with what comes, and the rest is settled.
            begin_anew(db, session, from, &seen, true).await?;
        }
    }
    let was = others.iter().find(|link| link.from == from.unit);
    if let Some(why) = misfit(from, &seen, own, &others, Gtid::of(before, seen.log)) {
        if status.as_ref().is_some_and(|status| !status.is_stopped()) {
            status::stop(session, &name).await?;
        }
        return Ok(Some(why));
    }
    note(session, from, &seen, was).await?;
    if let Some(compared) = was.and_then(|link| link.anew) {
        begin_anew(db, session, from, &seen, compared).await?;
    }
    if over.waits.is_some() {
        return Ok(over.waits);
    }
    match status {
        Some(status) if fits(db, from, &status) => go_on(session, &name, &status).await?,
        Some(_) => {
            // What was received is applied before: the change throws it away.
            cut::stand_still(session, &name).await?;
            make(db, session, from, &name).await?;
        }
        None => make(db, session, from, &name).await?,
    }
    Ok(None)
}

/// Notes that what the peer wrote and that is not here will not come any more, which a copy of its rows ends.
async fn lose(session: &mut Session<'_>, from: &UnitName, applied: Option<Gtid>) -> Result<(), Error> {
    let why = format!(
        "{from} does not keep its log any more from where this link stands: rows that it wrote are missing here"
    );
    let sql = "UPDATE multiactive.link SET gap = ?, sound = ?, lacking = NULL WHERE from_unit = ? AND gap IS NULL";
    let params = (why, applied.map_or(0, |at| at.seq), from.as_str());
    session.change("noting a gap", sql, params).await.map(drop)
}

pub(crate) async fn own_log(session: &mut Session<'_>) -> Result<Log, Error> {
    Ok(Logs::read(session).await?.own)
}

/// Why nothing may be taken from a peer.
pub(crate) fn misfit(
    from: &Peer,
    seen: &peer::Seen,
    own: Log,
    links: &[Known],
    applied: Option<Gtid>,
) -> Option<String> {
    let unit = &from.unit;
    if seen.unit != unit.as_str() {
        return Some(format!(
            "the server at {}:{} is that of {}",
            from.host, from.port, seen.unit
        ));
    }
    let twice = links.iter().find(|link| link.from != *unit && link.log == seen.log);
    if seen.log == own || twice.is_some() {
        let whose = twice.map_or("this server", |link| link.from.as_str());
        let name = match seen.log {
            Log::Domain(domain) => format!("gtid_domain_id {domain}"),
            Log::Server(_) => format!("server_uuid {} (in auto.cnf of its data folder)", seen.log),
        };
        return Some(format!(
            "{unit} has {name}, as has {whose}: give each member one of its own"
        ));
    }
    let was = links.iter().find(|link| link.from == *unit)?;
    if was.incarnation != seen.incarnation {
        return Some(format!(
            "{unit}'s database is another one ({}) than the one that this link was made with ({}): bring all rows of the \
             other members into it, and give it that incarnation",
            seen.incarnation, was.incarnation
        ));
    }
    let (ends, applied) = (seen.written.map_or(0, |at| at.seq), applied?);
    (was.born == seen.born && was.anew.is_none() && applied.seq > ends).then(|| {
        format!(
            "the log of {unit} went back: it ends at {ends}, and {applied} is applied here; compare the rows and repair"
        )
    })
}

/// Notes which database the link is made with; another life of it is a gap.
async fn note(session: &mut Session<'_>, from: &Peer, seen: &peer::Seen, was: Option<&Known>) -> Result<(), Error> {
    let unit = from.unit.as_str();
    let gap = was.filter(|was| was.born != seen.born && seen.opened).map(|_| {
        format!("{unit} goes on as another database: rows that it wrote before may be missing here; compare the rows and repair")
    });
    let same = was.is_some_and(|was| was.born == seen.born && was.log == seen.log);
    if same {
        return Ok(());
    }
    let sql = "INSERT INTO multiactive.link (from_unit, domain, incarnation, born, gap, made)
               VALUES (?, ?, ?, ?, ?, SYSDATE(6))
               ON DUPLICATE KEY UPDATE domain = VALUES(domain), incarnation = VALUES(incarnation), born = VALUES(born), sound = NULL,
                                       gap = NULLIF(CONCAT_WS('; ', gap, VALUES(gap)), ''), made = VALUES(made)";
    let params = (unit, seen.log.to_string(), &seen.incarnation, &seen.born, gap);
    session.change("noting a link", sql, params).await.map(drop)
}

/// Begins with what a unit writes from now on, and brings nothing of what it wrote while it was cut.
async fn begin_anew(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    from: &Peer,
    seen: &peer::Seen,
    compared: bool,
) -> Result<(), Error> {
    let unit = from.unit.as_str();
    let gap = (!compared && seen.opened).then(|| {
        format!(
            "made again (the unit was lost, and is back): rows that {unit} wrote before may be missing here; compare the rows \
             with {unit}'s and repair"
        )
    });
    // First, for from then on the position covers what is not here. What it wrote since the cut may be missing, and nothing else.
    // A gap that stood before keeps its own beginning.
    let sql = "UPDATE multiactive.link l
               SET l.sound = CASE WHEN ? IS NULL OR l.gap IS NOT NULL THEN l.sound
                                  ELSE IFNULL((SELECT CAST(SUBSTRING_INDEX(REPLACE(c.applied, ':', '-'), '-', -1) AS UNSIGNED)
                                               FROM multiactive.cut c WHERE c.from_unit = l.from_unit), 0) END,
                   l.gap = IFNULL(l.gap, ?), l.lacking = NULL
               WHERE l.from_unit = ?";
    session.change("beginning a link anew", sql, (&gap, &gap, unit)).await?;
    let name = names::link(&from.unit);
    applied::change(db, session, Some(&name), Passed::Lost, |mut list| {
        list.retain(|at| at.log != seen.log);
        list.extend(seen.written);
        list
    })
    .await?;
    let sql = "UPDATE multiactive.link SET anew = NULL WHERE from_unit = ?";
    session.change("beginning a link anew", sql, (unit,)).await.map(drop)
}

/// Whether a link reads where it should, and is let in there.
fn fits(db: &MySqlFamily, from: &Peer, status: &Status) -> bool {
    status.host == from.host
        && status.port == from.port
        && status.user == from.user
        && status.by_position
        && status.whole
        && status.ca_file.as_ref() == db.access.tls.as_ref().map(|tls| &tls.ca_file)
        && !TURNED_AWAY.contains(&status.io_errno)
}

async fn make(db: &MySqlFamily, session: &mut Session<'_>, from: &Peer, name: &str) -> Result<(), Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::channel::make(db, session, from, name).await?,
        Kind::MySql => mysql::channel::make(db, session, from, name).await?,
    }
    tracing::info!(from = %from.unit, "link made");
    status::start(session, name).await
}

/// Lets a link that stands still go on: what stopped it may be over.
async fn go_on(session: &mut Session<'_>, name: &str, status: &Status) -> Result<(), Error> {
    if status.runs() {
        Ok(())
    } else {
        status::start(session, name).await
    }
}

pub(crate) async fn unlink(db: &MySqlFamily, from: &UnitName) -> Result<Unlinked, Error> {
    let mut session = db.server.session().await?;
    lock(&mut session).await?;
    remove(&mut session, from).await?;
    let sql = "DELETE FROM multiactive.link WHERE from_unit = ?";
    session.change("forgetting a link", sql, (from.as_str(),)).await?;
    unlock(&mut session).await?;
    session.keep();
    db.watch.forget(&names::link(from));
    // The peer keeps its log as long as it is told to, whoever reads it.
    Ok(Unlinked::Clean)
}

/// Removes the connection; how far it had come stays known to the server.
pub(crate) async fn remove(session: &mut Session<'_>, from: &UnitName) -> Result<(), Error> {
    let name = names::link(from);
    if status::one(session, &name).await?.is_some() {
        status::stop(session, &name).await?;
        status::remove(session, &name).await?;
    }
    Ok(())
}

pub(crate) async fn links(db: &MySqlFamily) -> Result<Vec<Link>, Error> {
    let mut session = db.server.session().await?;
    let (statuses, cuts) = (status::all(db).await?, cut::standing(&mut session).await?);
    let known = known(&mut session).await?;
    let locked = status::locked(&mut session, statuses.values()).await?;
    let held = is_held(&mut session).await?;
    session.keep();
    let links = db.spec.peers.iter().filter_map(|from| {
        let status = statuses.get(&names::link(from));
        (status.is_some() || cuts.contains_key(from))
            .then(|| judge(db, from, status, &known, &cuts, (locked.as_deref(), held, None)))
    });
    Ok(links.collect())
}

/// The link's state now; `why` is what was just learned about it, if anything.
async fn told(db: &MySqlFamily, session: &mut Session<'_>, from: &UnitName, why: Option<&str>) -> Result<Link, Error> {
    let status = status::heard(session, &names::link(from)).await?;
    let (known, cuts) = (known(session).await?, cut::standing(session).await?);
    let locked = status::locked(session, status.iter()).await?;
    let held = is_held(session).await?;
    Ok(judge(
        db,
        from,
        status.as_ref(),
        &known,
        &cuts,
        (locked.as_deref(), held, why),
    ))
}

fn judge(
    db: &MySqlFamily,
    from: &UnitName,
    status: Option<&Status>,
    known: &[Known],
    cuts: &BTreeMap<UnitName, String>,
    (locked, held, why): (Option<&str>, bool, Option<&str>),
) -> Link {
    let noted = known.iter().find(|link| link.from == *from);
    let state = match (cuts.get(from), status) {
        (Some(words), _) => LinkState::Cut(words.clone()),
        (None, None) => LinkState::Broken(why.unwrap_or("it does not exist").to_owned()),
        (None, Some(status)) => db.watch.state(&db.spec.unit, status, locked, held, why),
    };
    Link {
        from: from.clone(),
        state,
        gap: noted.and_then(|link| link.gap.clone()),
        lacking: noted.and_then(|link| link.lacking.clone()),
    }
}

pub(crate) async fn compared(db: &MySqlFamily, from: &UnitName) -> Result<(), Error> {
    let mut session = db.server.session().await?;
    for sql in [
        "UPDATE multiactive.link SET gap = NULL, sound = NULL, lacking = NULL WHERE from_unit = ?",
        "DELETE FROM multiactive.breach WHERE unit = ?",
    ] {
        session.change("forgetting a gap", sql, (from.as_str(),)).await?;
    }
    session.keep();
    Ok(())
}

/// Adds to why rows of a unit may be missing or wrong here; the first word stays the first. No copy of rows ends that.
pub(crate) async fn add_gap(session: &mut Session<'_>, from: Option<&UnitName>, why: &str) -> Result<(), Error> {
    let sql = "UPDATE multiactive.link SET gap = LEFT(CONCAT_WS('; ', gap, ?), 4000), sound = NULL WHERE from_unit = IFNULL(?, from_unit)";
    let from = from.map(UnitName::as_str);
    session.change("noting a gap", sql, (why, from)).await.map(drop)
}

/// Whether somebody copies rows to this server: no link goes on meanwhile.
pub(crate) async fn is_copying(session: &mut Session<'_>) -> Result<bool, Error> {
    let sql = "SELECT IS_USED_LOCK('multiactive.copy') IS NOT NULL";
    session.row("looking for a copy", sql, ()).await
}

/// Whether somebody keeps links standing for a while.
async fn is_held(session: &mut Session<'_>) -> Result<bool, Error> {
    let sql = "SELECT IS_USED_LOCK('multiactive.copy') IS NOT NULL OR IS_USED_LOCK('multiactive.links') IS NOT NULL";
    session.row("looking for a copy", sql, ()).await
}

/// Who holds the lock and says nothing any more loses it after some seconds.
pub(crate) async fn lock(session: &mut Session<'_>) -> Result<(), Error> {
    session.batch("locking links", "SET SESSION wait_timeout = 20").await?;
    match session.row::<Option<bool>>("locking links", LOCK, ()).await? {
        Some(true) => Ok(()),
        Some(false) | None => Err(session.late("locking links", super::connect::PATIENCE)),
    }
}

pub(crate) async fn unlock(session: &mut Session<'_>) -> Result<(), Error> {
    session.told::<Option<bool>>("unlocking links", UNLOCK).await?;
    session
        .batch(
            "unlocking links",
            &format!("SET SESSION wait_timeout = {}", session.dialect().wait_timeout),
        )
        .await
}
