//! Copying a peer's rows where its link will not bring all of them, and letting that link go on exactly behind them.
//!
//! 1. All links into this server stand still, with all that they had received applied. Nobody lets them go on as long as our
//!    session holds a lock: who cuts a unit off meanwhile finds that its link stands still already.
//! 2. At the peer a snapshot is taken, with the place in its log at which it stands; not before it sees what is here already of
//!    what the peer wrote, for that comes by a link before the peer's own sessions see it.
//! 3. All that other units had written to these slots before they came to the peer must be here: else their links would bring
//!    it after the copy, and win. Of units that are cut off nothing will come.
//! 4. Rows of slots that differ are copied in one transaction, out of the log: so nobody else gets them from here. It keeps the
//!    slots closed until its end.
//! 5. Before it commits, the peer's log counts as applied up to the place. The server notes that apart from the transaction: who
//!    dies in between leaves a gap, which was noted before, and the same transaction ends.
//!
//! Slots that the peer had closed by then are its own no more, and their rows are not taken from it: what it wrote to them
//! before that, behind where its log was applied here, is skipped. Each slot knows where in the log it was closed, so these
//! are known; those that differ are the gap that is left, until they are copied from who has them open.

use super::brought::{self, Brought};
use super::connect::Session;
use super::copy::{Job, copy};
use super::gtid::{Gtid, Log};
use super::snapshot::{self, Table};
use super::{MySqlFamily, applied, cut, links, lost, names, peer, status};
use crate::driver::{Peer, Reseeded};
use crate::error::Error;
use crate::until::Until;
use multiactive_core::ids::UnitName;
use multiactive_core::slots::{Slot, SlotSet};
use std::time::Duration;
use tokio::time::sleep;

/// Whoever copies rows to this server holds this, in the session that ends when he dies.
const LOCK: &str = "SELECT GET_LOCK('multiactive.copy', 1)";
const UNLOCK: &str = "SELECT RELEASE_LOCK('multiactive.copy')";

/// Who holds the lock and says nothing any more loses it.
const SHORT_LIVED: &str = "SET SESSION wait_timeout = 20";

/// How often he says something.
const AWAKE: Duration = Duration::from_secs(5);

/// A moment of the peer, by its own word in its snapshot.
pub(crate) struct Frozen {
    /// The place in its log.
    pub(crate) place: Vec<Gtid>,
    pub(crate) open: SlotSet,
    /// Those that it has not, and how far its log had come when it closed each.
    pub(crate) closed: Vec<(Slot, u64)>,
    pub(crate) brought: Vec<Brought>,
}

pub(crate) async fn reseed(db: &MySqlFamily, from: &Peer, timeout: Duration) -> Result<Reseeded, Error> {
    let until = Until::new(&db.server.at, "copying rows", timeout);
    let guard = guard(db, from).await?;
    let number = guard.id();
    let reseeded = while_guarded(guard, guarded(db, from, number, &until)).await?;
    tracing::warn!(at = %db.server.at, from = %from.unit, slots = %reseeded.slots, written = reseeded.written,
                   removed = reseeded.removed, left = %reseeded.left, "rows were copied");
    Ok(reseeded)
}

/// A session that holds the lock.
async fn guard<'a>(db: &'a MySqlFamily, from: &Peer) -> Result<Session<'a>, Error> {
    let mut guard = db.server.session().await?;
    if guard.row::<Option<bool>>("beginning a copy", LOCK, ()).await? != Some(true) {
        return Err(refused(from, "rows are being copied to this member already".to_owned()));
    }
    guard.batch("beginning a copy", SHORT_LIVED).await?;
    Ok(guard)
}

/// Does the work for as long as the lock is held.
async fn while_guarded<T>(mut guard: Session<'_>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let done = tokio::select! {
        biased;
        done = work => done?,
        error = keep_awake(&mut guard) => return Err(error),
    };
    guard.told::<Option<bool>>("ending a copy", UNLOCK).await?;
    Ok(done)
}

/// Keeps the session that holds the lock: the server ends it where we are dead, or stuck.
async fn keep_awake(guard: &mut Session<'_>) -> Error {
    loop {
        sleep(AWAKE).await;
        if let Err(error) = guard.batch("copying rows", "DO 0").await {
            return error;
        }
    }
}

/// Copies while session `guard` holds the lock.
async fn guarded(db: &MySqlFamily, from: &Peer, guard: u32, until: &Until) -> Result<Reseeded, Error> {
    let mut session = db.server.session().await?;
    let there = peer::server(db, from);
    let mut theirs = there.foreign().await?;
    let tables = may_copy(db, &mut session, &mut theirs, from).await?;
    links::lock(&mut session).await?;
    let running = applied::stand_still(db).await?;
    links::unlock(&mut session).await?;
    let job = Job {
        db,
        from,
        tables: &tables,
        guard,
        until,
    };
    let done = match frozen(&job, &mut session, &mut theirs, &running).await {
        Ok(frozen) => copy(&job, &mut session, &mut theirs, &frozen).await,
        Err(error) => Err(error),
    };
    // Whether it went well or not.
    go_on(&mut session, running).await?;
    // Where it went wrong the session goes, with whatever locks it has.
    let reseeded = done?;
    session.keep();
    Ok(reseeded)
}

/// Lets the links that ran go on, unless a unit was cut off meanwhile.
async fn go_on(session: &mut Session<'_>, running: Vec<String>) -> Result<(), Error> {
    links::lock(session).await?;
    let cuts = cut::standing(session).await?;
    let is_cut = |name: &String| cuts.keys().any(|unit| names::link(unit) == *name);
    let going: Vec<_> = running.into_iter().filter(|name| !is_cut(name)).collect();
    applied::go_on(session, &going).await?;
    links::unlock(session).await
}

pub(crate) fn refused(from: &Peer, why: String) -> Error {
    Error::NotCopied {
        from: from.unit.clone(),
        why,
    }
}

/// Refuses what can be refused before any link stands still, and waits for what has yet to come by those of others.
async fn may_copy<'a>(
    db: &'a MySqlFamily,
    session: &mut Session<'_>,
    there: &mut Session<'_>,
    from: &Peer,
) -> Result<Vec<Table<'a>>, Error> {
    if let Some(why) = cut::standing(session).await?.remove(&from.unit) {
        return Err(refused(from, why));
    }
    let (own, known) = (links::own_log(session).await?, links::known(session).await?);
    let before = applied::read(session).await?;
    let seen = peer::look(db, from).await?;
    if let Some(why) = links::misfit(from, &seen, own, &known, Gtid::of(&before, seen.log)) {
        return Err(refused(from, why));
    }
    match known.iter().find(|link| link.from == from.unit) {
        Some(link) if link.born == seen.born && link.anew.is_none() => {}
        Some(_) | None => return Err(refused(from, "its link has to be made anew first".to_owned())),
    }
    let tables = snapshot::tables(db, session, there)
        .await?
        .map_err(|why| refused(from, why))?;
    fits(db, session, from, &see(there, from, Vec::new()).await?).await?;
    Ok(tables)
}

/// What the peer says of its slots.
async fn see(there: &mut Session<'_>, from: &Peer, place: Vec<Gtid>) -> Result<Frozen, Error> {
    let open = peer::open(there).await?;
    let sql =
        "SELECT t.slot, t.closed FROM multiactive.stamp t JOIN multiactive.slot s ON s.slot = t.slot WHERE NOT s.open";
    Ok(Frozen {
        place,
        open,
        closed: there.rows("looking at the peer's slots", sql, ()).await?,
        brought: brought::to(there, &from.unit).await?,
    })
}

/// Refuses where the peer's rows may not come over those that are here.
async fn fits(db: &MySqlFamily, session: &mut Session<'_>, from: &Peer, seen: &Frozen) -> Result<(), Error> {
    let own = &db.spec.unit;
    for Brought { op, .. } in seen.brought.iter().filter(|brought| brought.lost.contains(own)) {
        if !lost::is_rejoined(session, own, op).await? {
            let why = format!(
                "operation {op} took slots over there while this unit was lost: the rows are compared first, and what differs \
                 is accepted"
            );
            return Err(refused(from, why));
        }
    }
    let both = peer::open(session).await?.intersection(&seen.open);
    if !both.is_empty() {
        let why = format!("slots {both} are open here and there: only one of the two may be right");
        return Err(refused(from, why));
    }
    Ok(())
}

/// The peer in a snapshot, once all is here that goes before its rows. Links stand still, but for moments in which what is
/// missing may come by one of the others.
async fn frozen(
    job: &Job<'_>,
    session: &mut Session<'_>,
    there: &mut Session<'_>,
    running: &[String],
) -> Result<Frozen, Error> {
    let Job { db, from, until, .. } = job;
    loop {
        let log = peer_log(session, from).await?;
        let here = Gtid::of(&applied::read(session).await?, log).filter(|at| !applied::is_closed(at));
        let place = snapshot::take_behind(there, here, until).await?;
        let seen = see(there, from, place).await?;
        fits(db, session, from, &seen).await?;
        let Some(why) = still_to_come(db, session, from, &seen).await? else {
            return Ok(seen);
        };
        there.batch("giving a snapshot up", "ROLLBACK").await?;
        if until.left().is_err() || !others_go_on(job, session, running).await? {
            return Err(refused(from, why));
        }
    }
}

async fn peer_log(session: &mut Session<'_>, from: &Peer) -> Result<Log, Error> {
    let known = links::known(session).await?;
    let link = known.iter().find(|link| link.from == from.unit);
    let log = link.map(|link| link.log);
    log.ok_or_else(|| refused(from, "its link was removed meanwhile".to_owned()))
}

/// Lets the links that ran go on for a moment, but for the peer's; whether there is one that does.
async fn others_go_on(job: &Job<'_>, session: &mut Session<'_>, running: &[String]) -> Result<bool, Error> {
    links::lock(session).await?;
    let cuts = cut::standing(session).await?;
    let not = |unit: &UnitName| *unit == job.from.unit || cuts.contains_key(unit);
    let not: Vec<_> = job
        .db
        .spec
        .peers
        .iter()
        .filter(|unit| not(unit))
        .map(names::link)
        .collect();
    let others: Vec<_> = running.iter().filter(|name| !not.contains(name)).cloned().collect();
    applied::go_on(session, &others).await?;
    let mut some_go_on = !others.is_empty();
    for _ in 0..20 {
        if !some_go_on {
            break;
        }
        sleep(Duration::from_millis(25)).await;
        let all = status::all(job.db).await?;
        let goes_on = |name: &String| all.get(name).is_some_and(|status| !status.is_stuck());
        some_go_on = others.iter().any(goes_on);
    }
    applied::stand_still(job.db).await?;
    links::unlock(session).await?;
    Ok(some_go_on)
}

/// What other units wrote before the peer's rows, and has yet to come here; in words.
async fn still_to_come(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    from: &Peer,
    seen: &Frozen,
) -> Result<Option<String>, Error> {
    let (known, cuts) = (links::known(session).await?, cut::standing(session).await?);
    let here = cut::reached(session).await?;
    for at in seen.brought.iter().flat_map(|brought| &brought.vector) {
        let counts = at.unit != from.unit && at.unit != db.spec.unit && !cuts.contains_key(&at.unit);
        let Some(link) = known.iter().find(|link| counts && link.from == at.unit) else {
            continue;
        };
        let is = Gtid::of(&here, link.log);
        if is.is_none_or(|is| is.seq < Gtid::parse(&at.position).map_or(u64::MAX, |at| at.seq)) {
            let is = is.map_or("nothing".to_owned(), |at| at.to_string());
            let (unit, upto) = (&at.unit, &at.position);
            return Ok(Some(format!(
                "{is} of {unit} is applied here, and what it wrote up to {upto} goes before the rows of {}",
                from.unit
            )));
        }
    }
    Ok(None)
}
