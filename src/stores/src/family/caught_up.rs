//! Whether this member shows all that was committed at a place in another one's log. What links bring is noted as applied once
//! it is committed and seen here: so it is enough that the log has come to the place, by whichever link.

use super::connect::Session;
use super::gtid::{Gtid, progress};
use super::logs::Logs;
use super::{MySqlFamily, applied, cut, links, peer, position};
use crate::driver::Peer;
use crate::error::Error;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Progress;
use multiactive_core::wire::Caught;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Whether the unit may write at all, and how far its log has come: of one moment, for the clock is that of the statement's begin
/// and the log is read after it. So what it had committed while it might write is within it.
const WRITES: &str = "
    SELECT s.born, $logs$,
           NOT @@global.read_only AND EXISTS (SELECT 1 FROM multiactive.slot o WHERE o.open)
           AND l.$held$ DIV 2097152 > c.now
           AND (l.$held$ DIV 2097152) - (l.$held$ MOD 2097152) <= c.now
    FROM multiactive.store s, multiactive.lease l,
         (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000 AS now) c";

/// The longest pause between two looks: somebody waits for the answer.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) async fn caught_up(
    db: &MySqlFamily,
    from: &UnitName,
    at: Option<&Peer>,
    place: Option<&Progress>,
    limit: Duration,
) -> Result<Caught, Error> {
    if *from == db.spec.unit {
        return here(db, place).await;
    }
    let until = Instant::now() + limit;
    let place = match (place, at) {
        (Some(place), _) => place.clone(),
        (None, Some(at)) => match asked(db, at, limit).await? {
            Some(place) => place,
            None => return Ok(Caught::No),
        },
        (None, None) => return Ok(Caught::No),
    };
    let mut session = db.server.session().await?;
    let mut pause = Duration::from_millis(2);
    let caught = loop {
        match reached(&mut session, from).await? {
            Some(reached) => match reached.covers(&place) {
                Some(true) => break Caught::Yes,
                Some(false) if Instant::now() < until => {}
                Some(false) => break Caught::Late,
                // It comes from another history than the place.
                None => break Caught::No,
            },
            None => break Caught::No,
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LOOK_AGAIN);
    };
    session.keep();
    Ok(caught)
}

/// What was written here is seen here; what there is beyond that, only whoever may write can say.
async fn here(db: &MySqlFamily, place: Option<&Progress>) -> Result<Caught, Error> {
    let yes = match place {
        Some(place) => position::own(db).await?.covers(place) == Some(true),
        None => {
            let mut session = db.server.session().await?;
            let found = writes(&mut session, &db.spec.unit).await?;
            session.keep();
            found.is_some()
        }
    };
    Ok(if yes { Caught::Yes } else { Caught::No })
}

/// How far the unit's log has come here; `None` where no link was made from it, rows may be missing by it, it is cut off, or
/// nothing of it came yet.
async fn reached(session: &mut Session<'_>, from: &UnitName) -> Result<Option<Progress>, Error> {
    // In this order: a gap is noted before the position passes it.
    let list = applied::read(session).await?;
    let known = links::known(session).await?;
    let sound = |link: &links::Known| link.from == *from && !link.has_gap() && link.anew.is_none();
    let Some(link) = known.into_iter().find(sound) else {
        return Ok(None);
    };
    if cut::standing(session).await?.contains_key(from) {
        return Ok(None);
    }
    let nothing = Gtid::nothing(link.log);
    let at = Gtid::of(&list, link.log).unwrap_or(nothing);
    Ok(match applied::is_closed(&at) {
        true => None,
        false => progress(from, Some(&link.born), &at.to_string()),
    })
}

/// How far the peer's log has come, if it may write: else another unit may have written more.
async fn asked(db: &MySqlFamily, at: &Peer, limit: Duration) -> Result<Option<Progress>, Error> {
    let server = peer::server(db, at);
    let mut session = server.foreign().await?;
    session.limit(limit);
    writes(&mut session, &at.unit).await
}

async fn writes(session: &mut Session<'_>, unit: &UnitName) -> Result<Option<Progress>, Error> {
    let dialect = session.dialect();
    let sql = WRITES.replace("$logs$", dialect.logs).replace("$held$", dialect.held);
    type Row = (String, String, u32, String, String, Option<bool>);
    let row: Row = session.row("asking how far a writer has come", &sql, ()).await?;
    let (born, own, number, owned, logged, writes) = row;
    let at = Logs::parse((own, number, owned, logged))?.written();
    Ok(match writes {
        Some(true) => progress(unit, Some(&born), &at.to_string()),
        Some(false) | None => None,
    })
}
