//! Taking over from a survivor what it has received more of a lost unit.
//!
//! Every member passes on what it has applied of the others' logs, and does so with a lost unit's, too, until its slots have opened
//! elsewhere: so the survivor's own link brings the tail, in the lost unit's order. All there is to do is to wait for it, and to
//! say how far the log is here by then. Copied rows would not do: the link would bring the same writes over them once more.

use super::connect::Session;
use super::gtid::Gtid;
use super::reseed::refused;
use super::{MySqlFamily, cut, links, peer};
use crate::driver::{Peer, Tail, TailTaken};
use crate::error::Error;
use crate::link::hindered;
use crate::until::Until;
use crate::waiting::{ASK_AGAIN, LOOK_AT_LINKS};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) async fn take_tail(
    db: &MySqlFamily,
    tail: &Tail,
    from: &Peer,
    timeout: Duration,
) -> Result<TailTaken, Error> {
    let until = Until::new(&db.server.at, "taking over what a survivor has received more", timeout);
    let mut session = db.server.session().await?;
    may_take(&mut session, tail, from).await?;
    let server = peer::server(db, from);
    let mut there = server.foreign().await?;
    let theirs = offered(&mut there, tail, from).await?;
    there.keep();
    let has = async |session: &mut Session<'_>, wanted: Gtid| {
        let here = Gtid::of(&cut::reached(session).await?, wanted.log);
        Ok::<_, Error>(here.is_some_and(|here| here.seq >= wanted.seq))
    };
    let Some(wanted) = theirs else {
        session.keep();
        return Ok(TailTaken::default());
    };
    if has(&mut session, wanted).await? && cut_at(&mut session, tail).await?.is_some_and(|at| at.seq >= wanted.seq) {
        session.keep();
        return Ok(TailTaken::default());
    }
    let mut looked = Instant::now();
    while !has(&mut session, wanted).await? {
        if looked.elapsed() >= LOOK_AT_LINKS {
            looked = Instant::now();
            if let Some(why) = hindered(&links::links(db).await?, &from.unit) {
                return Err(refused(from, format!("its link would bring them: {why}")));
            }
        }
        until.left()?;
        sleep(ASK_AGAIN).await;
    }
    // It still stands, and nothing has opened meanwhile.
    may_take(&mut session, tail, from).await?;
    cut::note_applied(&mut session, &tail.lost).await?;
    session.keep();
    tracing::warn!(at = %db.server.at, from = %from.unit, lost = %tail.lost, upto = %wanted,
                   "what it had received more was taken over");
    Ok(TailTaken {
        upto: Some(wanted.to_string()),
        ..TailTaken::default()
    })
}

/// How far the cut says that the lost unit's log is here.
async fn cut_at(session: &mut Session<'_>, tail: &Tail) -> Result<Option<Gtid>, Error> {
    let cut = cut::noted(session, &tail.lost, false).await?;
    Ok(cut.map(|cut| cut.reached()).transpose()?.flatten())
}

/// Refuses where the lost unit is not cut, or the operation has gone on.
async fn may_take(session: &mut Session<'_>, tail: &Tail, from: &Peer) -> Result<(), Error> {
    let Some(held) = cut::noted(session, &tail.lost, false).await?.filter(|cut| cut.stands) else {
        return Err(Error::NotCut {
            from: tail.lost.clone(),
        });
    };
    if held.epoch > tail.epoch {
        let (held, asked) = (held.epoch, tail.epoch);
        return Err(Error::Overtaken { held, asked });
    }
    let sql = "SELECT op FROM multiactive.reached WHERE op = ? AND (term, epoch) >= (?, ?) LIMIT 1";
    let params = (tail.op.as_str(), tail.epoch.term, tail.epoch.epoch);
    let reached: Vec<String> = session.rows("looking for what is reached", sql, params).await?;
    if !reached.is_empty() {
        let why = format!("operation {} goes on without its rows", tail.op);
        return Err(refused(from, why));
    }
    let open = peer::open(session).await?.intersection(&tail.slots);
    match open.is_empty() {
        true => Ok(()),
        false => Err(refused(from, format!("slots {open} are open here"))),
    }
}

/// How far the survivor has the lost unit's log; `None` where it has nothing.
async fn offered(there: &mut Session<'_>, tail: &Tail, from: &Peer) -> Result<Option<Gtid>, Error> {
    let Some(cut) = cut::noted(there, &tail.lost, false).await?.filter(|cut| cut.stands) else {
        return Err(refused(from, format!("{} is not cut off there", tail.lost)));
    };
    let open = peer::open(there).await?.intersection(&tail.slots);
    match open.is_empty() {
        true => cut.reached(),
        false => Err(refused(from, format!("slots {open} are open there"))),
    }
}
