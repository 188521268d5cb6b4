//! What the server notes as applied of each log, where that has to be another than what came: a log that goes on elsewhere, or
//! of which nothing more may come.
//!
//! What a lost unit wrote last comes by way of a third member too, one that was away while it was cut off: each link brings all
//! of the other end's log. So before slots open at their new owner, and at the other members once that has passed them, the lost
//! unit's log counts as applied up to a number that no log has: the server then takes whatever comes of it for a duplicate.

use super::connect::Session;
use super::gtid::Gtid;
use super::{MariaDb, cut, links, status};
use crate::error::Error;
use futures::future::join_all;
use multiactive_core::ids::UnitName;

/// Where a log ends of which nothing more is taken.
const CLOSED: u64 = 1 << 62;

/// Whether nothing more is taken of this log.
pub(super) fn is_closed(at: &Gtid) -> bool {
    at.seq >= CLOSED
}

/// All logs, as the server notes them.
pub(super) async fn read(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    let sql = "SELECT @@global.gtid_slave_pos";
    let log: String = session.row("reading how far links have come", sql, ()).await?;
    Gtid::list(&log)
}

/// Changes what is noted. All links stand still for that moment, with all that they received applied: the server wants it so,
/// and who stops one throws away what it received. The caller holds the lock of links; the one called `stays` does not go on.
pub(super) async fn change(
    db: &MariaDb,
    session: &mut Session<'_>,
    stays: Option<&str>,
    change: impl FnOnce(Vec<Gtid>) -> Vec<Gtid> + Send,
) -> Result<(), Error> {
    let running = stand_still(db).await?;
    let logged: String = session
        .row("reading the position", "SELECT @@global.gtid_binlog_pos", ())
        .await?;
    // The server takes no list that knows less than its own log.
    let list = covering(change(read(session).await?), Gtid::list(&logged)?);
    let list: Vec<_> = list.iter().map(Gtid::to_string).collect();
    let sql = format!("SET GLOBAL gtid_slave_pos = '{}'", list.join(","));
    session.batch("noting what is applied", &sql).await?;
    let going: Vec<_> = running
        .into_iter()
        .filter(|name| Some(name.as_str()) != stays)
        .collect();
    go_on(session, &going).await
}

/// Has all links stand still, with all that they received applied; those that ran. The caller holds the lock of links. All at
/// once: one that has a part of what another one has too is waited for by that one, until it stops.
pub(super) async fn stand_still(db: &MariaDb) -> Result<Vec<String>, Error> {
    let each = status::names(db).await?.into_iter().map(async |name| {
        let mut session = db.server.session().await?;
        let ran = cut::stand_still(&mut session, &name).await?;
        session.keep();
        Ok(ran.then_some(name))
    });
    let ran: Vec<Option<String>> = join_all(each).await.into_iter().collect::<Result<_, Error>>()?;
    Ok(ran.into_iter().flatten().collect())
}

/// Lets links that stood still go on.
pub(super) async fn go_on(session: &mut Session<'_>, links: &[String]) -> Result<(), Error> {
    for name in links {
        status::start(session, name).await?;
    }
    Ok(())
}

/// The list, and where another one is further, that.
pub(super) fn covering(mut list: Vec<Gtid>, logged: Vec<Gtid>) -> Vec<Gtid> {
    for at in logged {
        match list.iter_mut().find(|is| is.domain == at.domain) {
            Some(is) if is.seq < at.seq => *is = at,
            Some(_) => {}
            None => list.push(at),
        }
    }
    list
}

/// Takes nothing more of what these units wrote, by whatever link it comes. The caller holds the lock of links.
pub(super) async fn close(db: &MariaDb, session: &mut Session<'_>, units: &[UnitName]) -> Result<(), Error> {
    let (list, known) = (read(session).await?, links::known(session).await?);
    let open = |link: &&links::Known| {
        units.contains(&link.from) && !Gtid::of(&list, link.domain).is_some_and(|at| is_closed(&at))
    };
    let closing: Vec<_> = known.iter().filter(open).collect();
    if closing.is_empty() {
        return Ok(());
    }
    for link in &closing {
        cut::note_applied(session, &link.from).await?;
    }
    let domains: Vec<_> = closing.iter().map(|link| link.domain).collect();
    change(db, session, None, |list| closed(list, &domains)).await
}

/// The logs of these domains closed, those too of which nothing ever came.
fn closed(mut list: Vec<Gtid>, domains: &[u32]) -> Vec<Gtid> {
    for domain in domains {
        match list.iter_mut().find(|at| at.domain == *domain) {
            Some(at) => at.seq = CLOSED,
            None => list.push(Gtid {
                domain: *domain,
                server: 1,
                seq: CLOSED,
            }),
        }
    }
    list
}

/// Closes the logs of units that are cut here, once what tells that their slots were opened elsewhere has passed: all that the
/// new owner had of them came before it. The caller holds the lock of links.
pub(super) async fn close_passed(db: &MariaDb, session: &mut Session<'_>) -> Result<(), Error> {
    let sql = "SELECT c.from_unit FROM multiactive.cut c JOIN multiactive.brought b ON b.op = c.op
               WHERE c.stands AND JSON_CONTAINS(b.lost, JSON_QUOTE(c.from_unit))";
    let units: Vec<String> = session.rows("looking for openings", sql, ()).await?;
    let units: Vec<_> = units.into_iter().map(UnitName).collect();
    close(db, session, &units).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_log_is_beyond_every_number_and_the_others_stay() {
        let list = closed(Gtid::list("1-1-5,2-7-9").unwrap(), &[2, 3]);
        let text: Vec<_> = list.iter().map(Gtid::to_string).collect();
        assert_eq!(text, ["1-1-5", "2-7-4611686018427387904", "3-1-4611686018427387904"]);
        assert!(!is_closed(&list[0]) && is_closed(&list[1]) && is_closed(&list[2]));
        let list = covering(list, Gtid::list("1-9-4,2-7-99,4-4-4").unwrap());
        let text: Vec<_> = list.iter().map(Gtid::to_string).collect();
        assert_eq!((text[0].as_str(), text[3].as_str()), ("1-1-5", "4-4-4"));
        assert!(is_closed(&list[1]));
    }
}
