//! Comparing rows with a peer's while both run, exactly: both as they were at one place in the peer's log.
//!
//! 1. All links into this server stand still, with all that they had received applied: the peer's rows come by others too.
//! 2. At the peer a snapshot is taken, with the place in its log at which it stands; not before it sees what is here already of
//!    what the peer wrote, for that comes by a link before the peer's own sessions see it.
//! 3. The link from the peer goes on up to exactly that place, in every log that it has, and stops by itself. Of the slots that
//!    are open at the peer in its snapshot all is here now that is in it, and no more: whoever owned them before wrote that
//!    before they came to the peer, so it stands before the place too. A snapshot is taken here.
//! 4. All links go on, and the two snapshots are compared at leisure: what differs does differ, and no row is under way. Of a part
//!    of the rows (`ranges`) it is the same: its bounds are keys, which are in it or not at both sides alike, whatever happens to
//!    rows elsewhere. And of rows that did not change (`changed`) only the keys are.
//!
//! Whoever dies meanwhile leaves links that stand still, or stop by themselves: `link` looks first, and lets them go on. The lock
//! that keeps others from that goes with his session.

use super::connect::Session;
use super::dialect::Kind;
use super::gtid::{Gtid, Log};
use super::{MySqlFamily, applied, changed, differing, links, names, peer, placed, ranges, snapshot, status};
use crate::compared::{Compared, Extent, Narrowed, refused, too_far_behind};
use crate::driver::{Part, Peer};
use crate::error::Error;
use crate::link::hindered;
use crate::until::Until;
use multiactive_core::slots::SlotSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long both sides may take to come to one place. Reading the rows may take hours.
const MEETING: Duration = Duration::from_secs(30);

/// How long links may stand still for it.
const STILL: Duration = Duration::from_secs(4);

/// The longest pause between two questions whether the link has come to the place.
const ASK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) async fn compare(
    db: &MySqlFamily,
    from: &Peer,
    slots: &SlotSet,
    (part, extent): (Option<&Part>, Extent),
    timeout: Duration,
) -> Result<Compared, Error> {
    let until = Until::new(&db.server.at, "comparing rows", timeout);
    let soon = Until::new(&db.server.at, "comparing rows", timeout.min(MEETING));
    let mut session = db.server.session().await?;
    placed::demand(&mut session).await?;
    may_come(db, from).await?;
    let there = peer::server(db, from);
    let (mut ours, mut theirs) = (db.server.session().await?, there.foreign().await?);
    let tables = snapshot::tables(db, &mut session, &mut theirs)
        .await?
        .map_err(|why| refused(from, why))?;
    if let Some(table) = tables.iter().find(|table| !table.missing.is_empty()) {
        let (name, missing) = (&table.sharded.name, table.missing.join(", "));
        let why = format!("table {name} has column {missing} there, and not here: add it here too");
        return Err(refused(from, why));
    }
    at_one_place(db, from, &mut session, (&mut ours, &mut theirs), (&soon, &until)).await?;
    session.keep();
    // In the snapshot: then all that others wrote to these slots stands before the place.
    let closed = slots.difference(&peer::open(&mut theirs).await?);
    if !closed.is_empty() {
        let why = format!("it does not have slots {closed} open, or not yet");
        return Err(refused(from, why));
    }
    for session in [&mut ours, &mut theirs] {
        session.limit(until.left()?);
    }
    let (ranges, ends) = ranges::of(db, (&mut ours, &mut theirs), &tables, slots, part).await?;
    let since = match extent {
        Extent::All => None,
        Extent::Changed => changed::since(db, (&mut ours, &mut theirs), from, slots, &until).await?,
    };
    let mut compared = Compared {
        ends,
        narrowed: since.as_ref().map(|since| Narrowed {
            since: since.at.clone(),
            rows: 0,
        }),
        ..Compared::default()
    };
    for range in &ranges {
        let (here, peers) = match (&since, &mut compared.narrowed) {
            (Some(since), Some(narrowed)) => {
                let sums = since.sums(db, (&mut ours, &mut theirs), range, slots, &until);
                let (here, peers, whole) = sums.await?;
                narrowed.rows += whole;
                (here, peers)
            }
            (None, _) | (_, None) => {
                let rows = (range.table, range.within.as_str());
                snapshot::sums(db, (&mut ours, &mut theirs), rows, slots, &until).await?
            }
        };
        compared.rows += peers.rows;
        let differ = here.differing(&peers);
        if !differ.is_empty() {
            let found = differing::examples(db, (&mut ours, &mut theirs), range, &differ).await?;
            compared.examples.extend(found);
        }
        compared.differing = compared.differing.union(&differ);
    }
    Ok(compared)
}

/// Takes the snapshots of `ours` and `theirs` at one place in the log of `from`.
async fn at_one_place(
    db: &MySqlFamily,
    from: &Peer,
    session: &mut Session<'_>,
    (ours, theirs): (&mut Session<'_>, &mut Session<'_>),
    (soon, until): (&Until, &Until),
) -> Result<(), Error> {
    // While all links run: they need not stand still for what is still far. A link that comes there late is as far behind
    // what was written meanwhile.
    loop {
        let asked = Instant::now();
        let written = peer::written(theirs).await?;
        come_to(db, from, session, &written, soon).await?;
        if asked.elapsed() < STILL / 4 {
            break;
        }
    }
    links::lock(session).await?;
    if links::is_copying(session).await? {
        return Err(refused(from, "rows are being copied to this member".to_owned()));
    }
    let running = applied::halt(db).await?;
    let met = meet(from, session, (ours, theirs), (soon, until)).await;
    applied::go_on(session, &running).await?;
    links::unlock(session).await?;
    met
}

async fn meet(
    from: &Peer,
    session: &mut Session<'_>,
    (ours, theirs): (&mut Session<'_>, &mut Session<'_>),
    (soon, until): (&Until, &Until),
) -> Result<(), Error> {
    let name = names::link(&from.unit);
    let known = links::known(session).await?;
    let log = known.iter().find(|link| link.from == from.unit).map(|link| link.log);
    let of_peer = |all: &[Gtid]| log.and_then(|log| Gtid::of(all, log));
    let before = applied::read(session).await?;
    let place = snapshot::take_behind(theirs, of_peer(&before), soon).await?;
    snapshot::lasts(theirs, until.left()?).await?;
    let own = links::own_log(session).await?;
    if lacks(&place, &applied::read(session).await?, own).is_some() {
        status::start_until(session, &name, &place).await?;
        let started = Instant::now();
        while let Some(status) = status::one(session, &name).await?
            && !status.is_at_its_place(session.kind())
            && !status.is_stuck()
            && (session.kind() == Kind::MariaDb || lacks(&place, &applied::read(session).await?, own).is_some())
            && started.elapsed() < STILL
        {
            sleep(ASK_AGAIN / 5).await;
        }
        status::stay_there(session, &name).await?;
        let here = applied::read(session).await?;
        if let Some(lacking) = lacks(&place, &here, own) {
            let why =
                format!("its link did not come to where the comparison begins in time ({lacking}); it is tried again");
            return Err(refused(from, why));
        }
        if of_peer(&here) != of_peer(&place) {
            // Another link brought more: nobody but a person starts one now.
            let why = "rows came from elsewhere meanwhile; it is tried again";
            return Err(refused(from, why.to_owned()));
        }
    }
    snapshot::take(ours, until.left()?).await
}

/// The first position that is not reached, but for what this server wrote itself and logs that are closed.
pub(crate) fn lacks(wanted: &[Gtid], reached: &[Gtid], own: Log) -> Option<Gtid> {
    let lacks = |at: &&Gtid| {
        at.log != own && !applied::is_closed(at) && Gtid::of(reached, at.log).is_none_or(|is| is.seq < at.seq)
    };
    wanted.iter().find(lacks).copied()
}

/// Waits until the link has come to a place.
async fn come_to(
    db: &MySqlFamily,
    from: &Peer,
    session: &mut Session<'_>,
    place: &[Gtid],
    until: &Until,
) -> Result<(), Error> {
    let mut pause = Duration::from_millis(1);
    let own = links::own_log(session).await?;
    while lacks(place, &applied::read(session).await?, own).is_some() {
        if until.left().is_err() {
            return Err(too_far_behind(from));
        }
        may_come(db, from).await?;
        sleep(pause).await;
        pause = (pause * 3 / 2).min(ASK_AGAIN * 5);
    }
    Ok(())
}

/// Refuses where the peer's log does not come here, and will not by itself.
pub(crate) async fn may_come(db: &MySqlFamily, from: &Peer) -> Result<(), Error> {
    match hindered(&links::links(db).await?, &from.unit) {
        Some(why) => Err(refused(from, why)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reached_in_every_log_but_our_own_and_those_that_are_closed() {
        let list = |text| Gtid::list(text).unwrap();
        for (wanted, reached, want) in [
            ("1-1-5,2-2-7", "1-1-5,2-2-7", None),
            ("1-1-5,2-2-7", "1-1-5,2-2-6", Some("2-2-7")),
            ("1-1-5,2-2-7", "1-1-5", Some("2-2-7")),
            ("1-1-5,3-3-9", "1-1-9", None),
            ("1-1-4611686018427387904", "", None),
        ] {
            let got = lacks(&list(wanted), &list(reached), Log::Domain(3)).map(|at| at.to_string());
            assert_eq!(got.as_deref(), want, "{wanted} of {reached}");
        }
    }
}
