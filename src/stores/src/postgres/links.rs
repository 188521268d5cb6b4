//! Links: a subscription on this member for each peer. Looks first, adopts what exists, and changes only what differs.
//!
//! A subscription whose slot is gone can only be made again, and what the peer wrote in between never comes. So that
//! link has a `gap`, kept in the database, until somebody has compared the rows.

use super::connect::{ADDING, MAKING, PATIENCE, Session};
use super::names::{ident, literal};
use super::noted::{applied, begin, forget_gap, note, noted, other, pass, reborn, went_back};
use super::peer::{self, Slot};
use super::subscription::{Awaits, Known, judge, look};
use super::{Postgres, cut, names};
use crate::driver::{Link, LinkState, Peer, Unlinked};
use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::incarnation::{LinkPast, may_lack_rows};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

pub(super) use super::subscription::Watch;

/// How long a new or mended link is watched before its state is told.
const SETTLE: Duration = Duration::from_millis(400);

/// How long the worker of a link may take to end.
const STOPS: Duration = Duration::from_secs(6);

/// How long it may take to end by itself: in the middle of a transaction whose rest does not come, behind a lock, or at an
/// opening, it does not look whether it should.
const BY_ITSELF: Duration = Duration::from_millis(1500);

/// Every transaction that a link applies is flushed by itself, though one worker applies them one after the other. Were it
/// not, a worker that is started again begins from what is only in memory, tells the peer at once that all of it is flushed,
/// and the slot moves: a crash within the moment before the next flush then loses rows, and nothing tells that it did.
const OPTIONS: &str = "origin = none, synchronous_commit = 'on', disable_on_error = false";

pub(super) async fn link(pg: &Postgres, peer: &Peer) -> Result<Link, Error> {
    let name = names::link(&pg.spec, &peer.unit, &pg.spec.unit);
    let session = pg.server.session().await?;
    // In this order: a link that was cut in between is seen as it is by then.
    let is_cut = cut::standing(&session).await?.contains_key(&peer.unit);
    let known = look(pg, &session, &name).await?;
    if is_cut {
        if known.is_some_and(|known| known.enabled) {
            cut::hold(pg, &session, &peer.unit, &name).await?;
        }
        session.keep();
        return told(pg, &name, &peer.unit, None).await;
    }
    let outcome = match known {
        None => make(pg, &session, peer, &name, None).await,
        Some(known) => mend(pg, &session, peer, &name, &known).await,
    };
    let changed = match outcome {
        Ok(changed) => changed,
        // What stands in the way is the link's state: the next call tries again.
        Err(error) if is_refusal(&error) => {
            return told(pg, &name, &peer.unit, Some(error.explain())).await;
        }
        Err(error) => return Err(error),
    };
    if !matches!(changed, Change::Waits(_)) {
        pg.watch.compared(&name);
    }
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    while let Change::Made = changed {
        let link = told(pg, &name, &peer.unit, None).await?;
        if link.state == LinkState::Running || started.elapsed() > SETTLE {
            return Ok(link);
        }
        sleep(pause).await;
        pause *= 2;
    }
    session.keep();
    match changed {
        Change::Made | Change::None => told(pg, &name, &peer.unit, None).await,
        Change::Waits(why) => told(pg, &name, &peer.unit, Some(why)).await,
    }
}

/// What a call did about a link.
enum Change {
    None,
    Made,
    /// It can do nothing before this is otherwise.
    Waits(String),
}

/// Whether a server said no, or the peer could not be reached: a state of the link, not of our server.
fn is_refusal(error: &Error) -> bool {
    let said = error
        .said_by_server()
        .and_then(|said| said.downcast_ref::<tokio_postgres::Error>());
    said.is_some_and(|said| said.code().is_some())
}

/// Makes a link that does not exist. `lost` says why an earlier one had to go.
async fn make(
    pg: &Postgres,
    session: &Session<'_>,
    from: &Peer,
    name: &str,
    lost: Option<&str>,
) -> Result<Change, Error> {
    // In this order: what is known here may be newer than what is seen only where the log itself told it.
    let known = noted(session, name).await?;
    let seen = match peer::look(pg, from, name).await {
        Ok(seen) => seen,
        Err(error) => return Ok(Change::Waits(error.explain())),
    };
    if !seen.publishes {
        return Ok(Change::Waits(format!("{} does not publish the store yet", from.unit)));
    }
    if let Some(why) = other(from, &seen, &known) {
        return Ok(Change::Waits(why));
    }
    let adopt = match seen.slot {
        Slot::Active => {
            return Ok(Change::Waits(format!(
                "another process reads slot {name} at {}",
                from.unit
            )));
        }
        // What it kept of the life before is of another log.
        Slot::Idle(ref position) if !reborn(&seen, &known) && known.anew.is_none() => Some(position.clone()),
        Slot::Missing => None,
        Slot::Idle(_) | Slot::Lost => match peer::drop_slot(pg, from, name).await {
            Ok(()) => None,
            Err(error) => return Ok(Change::Waits(error.explain())),
        },
    };
    // Before the slot: what has a slot and no note, another database than this one had made.
    note(session, name, from, &seen).await?;
    let past = LinkPast {
        made: known.made,
        kept: adopt.is_some(),
        reborn: reborn(&seen, &known),
        opened: seen.introduction.as_ref().map(|told| told.opened),
    };
    if may_lack_rows(past) && known.anew != Some(true) {
        let lost = lost.unwrap_or(match known.made {
            true if known.anew.is_some() => "the unit was lost, and is back",
            true => "it was dropped with its slot",
            false => "this database had none",
        });
        let why = format!(
            "made again ({lost}): rows that {from} wrote before may be missing here; compare the rows with {from}'s and \
             repair",
            from = from.unit
        );
        // A unit that was lost and is back: what it wrote since the cut may be missing, and nothing else. A gap that stood
        // before keeps its own beginning.
        let copy_ends_it = known.anew.is_some() && !past.reborn;
        let sql = "UPDATE multiactive.link l
                   SET gap = coalesce(gap, $2), made = clock_timestamp(),
                       sound = CASE WHEN $4 THEN NULL WHEN gap IS NOT NULL THEN sound
                                    WHEN $3 THEN coalesce((SELECT a.progress::pg_lsn FROM multiactive.applied a
                                                           WHERE a.name = l.name), '0/0') END,
                       lacking = NULL
                   WHERE name = $1";
        let params: [&(dyn ToSql + Sync); 4] = [&name, &why, &copy_ends_it, &past.reborn];
        session.change("noting a gap", sql, &params).await?;
    }
    // The slot comes first and apart: CREATE SUBSCRIPTION would make it inside a transaction, for which the slot that
    // the peer makes here at the same moment waits, and ours for the peer's.
    let begun = match &adopt {
        None => peer::create_slot(pg, from, name, PATIENCE).await,
        Some(position) => advance(pg, session, from, name).await.map(|()| position.clone()),
    };
    match begun {
        Ok(position) => begin(session, name, &position, adopt.is_some()).await?,
        Err(error) => return Ok(Change::Waits(error.explain())),
    }
    // Not while rows are copied from there: what came meanwhile would be undone.
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(27969, 1004); {}; COMMIT",
        subscribe(pg, from, name)
    );
    session.batch(MAKING, &sql).await?;
    let sql = "UPDATE multiactive.link SET anew = NULL WHERE name = $1 AND anew IS NOT NULL";
    session.change(MAKING, sql, &[&name]).await?;
    enable(session, name, &from.unit).await?;
    let adopted = adopt.is_some();
    tracing::info!(at = %pg.server.at, from = %from.unit, adopted, "link made");
    Ok(Change::Made)
}

/// The statement that makes a subscription, disabled, over a slot that exists.
pub(super) fn subscribe(pg: &Postgres, from: &Peer, name: &str) -> String {
    format!(
        "CREATE SUBSCRIPTION {0} CONNECTION {1} PUBLICATION {2}
         WITH ({OPTIONS}, copy_data = false, create_slot = false, enabled = false, slot_name = {0})",
        ident(name),
        literal(&peer::conninfo(pg, from)),
        ident(&names::publication(&pg.spec)),
    )
}

/// Has the server connect to the peer as a link would, and leaves nothing of it.
async fn try_way(pg: &Postgres, session: &Session<'_>, conninfo: &str) -> Result<(), Error> {
    let sql = format!(
        "BEGIN;
         CREATE SUBSCRIPTION multiactive_try CONNECTION {} PUBLICATION {}
         WITH (create_slot = false, enabled = false, copy_data = false, slot_name = NONE);
         ROLLBACK",
        literal(conninfo),
        ident(&names::publication(&pg.spec)),
    );
    let tried = session.batch("trying a link's new way", &sql).await;
    if tried.is_err() {
        session.batch("trying a link's new way", "ROLLBACK").await?;
    }
    tried
}

/// Moves a slot that is adopted to where the earlier link had come.
async fn advance(pg: &Postgres, session: &Session<'_>, from: &Peer, name: &str) -> Result<(), Error> {
    let sql = "SELECT progress FROM multiactive.applied WHERE name = $1";
    let rows = session.rows("reading how far a link had come", sql, &[&name]).await?;
    match rows.first() {
        Some(row) => peer::advance_slot(pg, from, name, row.get(0), PATIENCE).await,
        None => Ok(()),
    }
}

/// Brings an existing link to what it should be.
async fn mend(pg: &Postgres, session: &Session<'_>, from: &Peer, name: &str, known: &Known) -> Result<Change, Error> {
    if !known.receives_all {
        // Made again, over its own slot, before it goes on: what is added to a link that runs may come before it is added,
        // and is skipped.
        match peer::look(pg, from, name).await {
            Ok(seen) if seen.publishes_all => {
                remove(session, name).await?;
                return make(pg, session, from, name, None).await;
            }
            // It has nothing yet that could be skipped: the link goes on as it was.
            Ok(_) => {}
            Err(error) => return Ok(Change::Waits(error.explain())),
        }
    }
    let mut changed = Change::None;
    let mut alter = Vec::new();
    let conninfo = peer::conninfo(pg, from);
    if known.conninfo != conninfo {
        // A link that runs goes on as it was until its own server has been there by the new way.
        if let Err(error) = try_way(pg, session, &conninfo).await {
            return Ok(Change::Waits(error.explain()));
        }
        alter.push(format!("CONNECTION {}", literal(&conninfo)));
    }
    if known.slot.as_deref() != Some(name) {
        alter.push("DISABLE".to_owned());
        alter.push(format!("SET (slot_name = {})", ident(name)));
    }
    if !known.options_fit {
        alter.push(format!("SET ({OPTIONS})"));
    }
    let publication = ident(&names::publication(&pg.spec));
    if !known.publication_fits {
        alter.push(format!("SET PUBLICATION {publication} WITH (refresh = false)"));
    }
    for change in alter {
        let sql = format!("ALTER SUBSCRIPTION {} {change}", ident(name));
        session.batch("mending a link", &sql).await?;
        changed = Change::Made;
    }
    if !known.enabled || known.slot.as_deref() != Some(name) {
        enable(session, name, &from.unit).await?;
        changed = Change::Made;
    }
    if !known.receives_all {
        return Ok(Change::Waits(format!(
            "{} does not publish its openings, breaches and new tables yet",
            from.unit
        )));
    }
    let joined = match &known.awaits {
        Some(Awaits::Table { number, table, .. }) => Some((*number, table.as_str())),
        Some(Awaits::Writes { .. } | Awaits::Rejoin { .. }) | None => None,
    };
    if !known.tables_fit || !known.publication_fits || joined.is_some() {
        let sql = format!(
            "ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)",
            ident(name)
        );
        session.batch(ADDING, &sql).await?;
        changed = Change::Made;
    }
    if let Some((number, table)) = joined {
        // In this order: the row was read before, so if the peer does not publish the table now, it has left since.
        match peer::publishes(pg, from, table).await {
            Ok(true) => {}
            Ok(false) => pass(session, name, number).await?,
            Err(error) => return Ok(Change::Waits(error.explain())),
        }
    }
    if known.streams && known.gap.is_none() && pg.watch.is_compared(name) {
        return Ok(changed);
    }
    // It does not stream, or this process has not looked yet: the other end knows why, and which database it is.
    // In this order: what is applied here was in the peer's log before.
    let (before, applied) = (noted(session, name).await?, applied(session, name).await?);
    let seen = match peer::look(pg, from, name).await {
        Ok(seen) => seen,
        Err(error) => return Ok(Change::Waits(error.explain())),
    };
    if let Some(why) = other(from, &seen, &before) {
        return Ok(Change::Waits(why));
    }
    if reborn(&seen, &before) {
        remove(session, name).await?;
        return make(pg, session, from, name, Some("it goes on as another database")).await;
    }
    note(session, name, from, &seen).await?;
    if let Some(why) = went_back(session, name, from, applied.as_deref(), &seen).await? {
        return Ok(Change::Waits(why));
    }
    let lost = match seen.slot {
        Slot::Active | Slot::Idle(_) if seen.publishes => return Ok(changed),
        Slot::Active | Slot::Idle(_) => {
            return Ok(Change::Waits(format!("{} does not publish the store", from.unit)));
        }
        Slot::Missing => "its slot was gone",
        Slot::Lost => "its slot had lost its log",
    };
    remove(session, name).await?;
    make(pg, session, from, name, Some(lost)).await
}

/// Lets a subscription run, unless its unit was cut off meanwhile: then it stays as it is.
pub(super) async fn enable(session: &Session<'_>, name: &str, from: &UnitName) -> Result<(), Error> {
    let sql = "SELECT multiactive.enable($1, $2)";
    session.row("enabling a link", sql, &[&name, &from.as_str()]).await?;
    Ok(())
}

/// Whether there is such a subscription.
pub(super) async fn exists(session: &Session<'_>, name: &str) -> Result<bool, Error> {
    let sql = "SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
               WHERE d.datname = current_database() AND s.subname = $1::text::name";
    Ok(!session.rows("looking for a link", sql, &[&name]).await?.is_empty())
}

/// Drops a subscription and leaves its slot alone: works with a dead peer.
pub(super) async fn remove(session: &Session<'_>, name: &str) -> Result<(), Error> {
    stop(session, name).await?;
    let sql = "INSERT INTO multiactive.applied (name, progress)
               SELECT s.subname::text, p.progress::text
               FROM pg_subscription s, pg_replication_origin_progress('pg_' || s.oid, true) AS p(progress)
               WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND p.progress > '0/0'
               ON CONFLICT (name) DO UPDATE SET progress = excluded.progress";
    session.change("noting how far a link had come", sql, &[&name]).await?;
    let name = ident(name);
    for change in [
        format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {name}"),
    ] {
        session.batch("removing a link", &change).await?;
    }
    Ok(())
}

/// Nothing is started for a subscription any more.
pub(super) async fn disable(session: &Session<'_>, name: &str) -> Result<(), Error> {
    let disable = format!("ALTER SUBSCRIPTION {} DISABLE", ident(name));
    session.batch("stopping a link", &disable).await
}

/// Disables a subscription and waits until nothing applies for it.
pub(super) async fn stop(session: &Session<'_>, name: &str) -> Result<(), Error> {
    disable(session, name).await?;
    until_still(session, name).await
}

/// Waits until nothing applies for a subscription that is disabled, ending what does not end by itself: what is read of its
/// progress afterwards stays true.
pub(super) async fn until_still(session: &Session<'_>, name: &str) -> Result<(), Error> {
    let started = Instant::now();
    let sql = "SELECT pid FROM pg_stat_subscription WHERE subname = $1::text::name AND pid IS NOT NULL";
    while !session
        .rows("waiting for a link to stop", sql, &[&name])
        .await?
        .is_empty()
    {
        if started.elapsed() > STOPS {
            return Err(session.late("waiting for a link to stop", STOPS));
        }
        if started.elapsed() > BY_ITSELF {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_subscription
                       WHERE subname = $1::text::name AND pid IS NOT NULL";
            session.rows("ending the worker of a link", sql, &[&name]).await?;
            sleep(Duration::from_millis(90)).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

pub(super) async fn unlink(pg: &Postgres, from: &UnitName, peer: Option<&Peer>) -> Result<Unlinked, Error> {
    let name = names::link(&pg.spec, from, &pg.spec.unit);
    let session = pg.server.session().await?;
    if look(pg, &session, &name).await?.is_some() {
        remove(&session, &name).await?;
    }
    session
        .change(
            "forgetting a link",
            "DELETE FROM multiactive.link WHERE name = $1",
            &[&name],
        )
        .await?;
    session.keep();
    pg.watch.forget(&name);
    let why = match peer {
        None => format!("the address of {from} is not known"),
        Some(peer) => match peer::drop_slot(pg, peer, &name).await {
            Ok(()) => return Ok(Unlinked::Clean),
            Err(error) => error.explain(),
        },
    };
    Ok(Unlinked::LogKept { slot: name, why })
}

/// The link's state now; `why` is what was just learned about it, if anything.
async fn told(pg: &Postgres, name: &str, from: &UnitName, why: Option<String>) -> Result<Link, Error> {
    let session = pg.server.session().await?;
    let known = look(pg, &session, name).await?;
    let cuts = cut::standing(&session).await?;
    session.keep();
    Ok(cut::told(judge(pg, name, from, known.as_ref(), why), &cuts))
}

pub(super) async fn links(pg: &Postgres) -> Result<Vec<Link>, Error> {
    let session = pg.server.session().await?;
    let mut links = Vec::new();
    let cuts = cut::standing(&session).await?;
    for from in &pg.spec.peers {
        let name = names::link(&pg.spec, from, &pg.spec.unit);
        let known = look(pg, &session, &name).await?;
        if known.is_some() || cuts.contains_key(from) {
            links.push(cut::told(judge(pg, &name, from, known.as_ref(), None), &cuts));
        }
    }
    session.keep();
    Ok(links)
}

pub(super) async fn compared(pg: &Postgres, from: &UnitName) -> Result<(), Error> {
    let session = pg.server.session().await?;
    forget_gap(&session, &names::link(&pg.spec, from, &pg.spec.unit)).await?;
    session.keep();
    Ok(())
}
