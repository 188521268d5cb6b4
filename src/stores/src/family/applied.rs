//! What the server notes as applied of each log, where that has to be another than what came: a log that goes on elsewhere, or
//! of which nothing more may come.
//!
//! What a lost unit wrote last comes by way of a third member too, one that was away while it was cut off: each link brings all
//! of the other end's log. So before slots open at their new owner, and at the other members once that has passed them, the lost
//! unit's log counts as applied up to a number that no log has: the server then takes whatever comes of it for a duplicate.

use super::connect::Session;
use super::dialect::Kind;
use super::gtid::{Gtid, Log};
use super::{MySqlFamily, cut, links, status};
use crate::error::Error;
use crate::{mariadb, mysql};
use futures::future::join_all;
use multiactive_core::ids::UnitName;

/// Where a log ends of which nothing more is taken.
pub(crate) const CLOSED: u64 = 1 << 62;

/// Whether nothing more is taken of this log.
pub(crate) fn is_closed(at: &Gtid) -> bool {
    at.seq >= CLOSED
}

/// Why transactions count as applied that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Their unit was lost, and nobody will have them.
    Lost,
    /// Their rows were copied.
    Copied,
}

/// All logs, as the server notes them.
pub(crate) async fn read(session: &mut Session<'_>) -> Result<Vec<Gtid>, Error> {
    match session.kind() {
        Kind::MariaDb => mariadb::applied::read(session).await,
        Kind::MySql => mysql::applied::read(session).await,
    }
}

/// Changes what is noted. All links stand still for that moment, with all that they received applied: the server wants it so,
/// and who stops one throws away what it received. The caller holds the lock of links; the one called `stays` does not go on.
pub(crate) async fn change(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    stays: Option<&str>,
    passed: Passed,
    change: impl FnOnce(Vec<Gtid>) -> Vec<Gtid> + Send,
) -> Result<(), Error> {
    let running = halt(db).await?;
    let was = read(session).await?;
    let list = change(was.clone());
    match session.kind() {
        Kind::MariaDb => mariadb::applied::note(session, list).await?,
        Kind::MySql => mysql::applied::note(session, &was, &list, passed).await?,
    }
    let going: Vec<_> = running
        .into_iter()
        .filter(|name| Some(name.as_str()) != stays)
        .collect();
    go_on(session, &going).await
}

/// Has all links stand still, with all that they received applied; those that ran. The caller holds the lock of links. All at
/// once: one that has a part of what another one has too is waited for by that one, until it stops.
pub(crate) async fn stand_still(db: &MySqlFamily) -> Result<Vec<String>, Error> {
    of_all(db, async |session, name| cut::stand_still(session, name).await).await
}

/// The same for a moment: what was received is applied only where it would be lost else.
pub(crate) async fn halt(db: &MySqlFamily) -> Result<Vec<String>, Error> {
    match db.server.dialect.kind {
        Kind::MariaDb => stand_still(db).await,
        Kind::MySql => of_all(db, async |session, name| mysql::channel::halt(session, name).await).await,
    }
}

/// Does the same to every link, at once; those of which it says yes.
async fn of_all(
    db: &MySqlFamily,
    to_one: impl AsyncFn(&mut Session<'_>, &str) -> Result<bool, Error>,
) -> Result<Vec<String>, Error> {
    let each = status::names(db).await?.into_iter().map(async |name| {
        let mut session = db.server.session().await?;
        let ran = to_one(&mut session, &name).await?;
        session.keep();
        Ok(ran.then_some(name))
    });
    let ran: Vec<Option<String>> = join_all(each).await.into_iter().collect::<Result<_, Error>>()?;
    Ok(ran.into_iter().flatten().collect())
}

/// Lets links that stood still go on.
pub(crate) async fn go_on(session: &mut Session<'_>, links: &[String]) -> Result<(), Error> {
    for name in links {
        status::start(session, name).await?;
    }
    Ok(())
}

/// Takes nothing more of what these units wrote, by whatever link it comes. The caller holds the lock of links.
pub(crate) async fn close(db: &MySqlFamily, session: &mut Session<'_>, units: &[UnitName]) -> Result<(), Error> {
    let (list, known) = (read(session).await?, links::known(session).await?);
    let open = |link: &&links::Known| {
        units.contains(&link.from) && !Gtid::of(&list, link.log).is_some_and(|at| is_closed(&at))
    };
    let closing: Vec<_> = known.iter().filter(open).collect();
    if closing.is_empty() {
        return Ok(());
    }
    for link in &closing {
        cut::note_applied(session, &link.from).await?;
    }
    let logs: Vec<_> = closing.iter().map(|link| link.log).collect();
    change(db, session, None, Passed::Lost, |list| closed(list, &logs)).await
}

/// These logs closed, those too of which nothing ever came.
fn closed(mut list: Vec<Gtid>, logs: &[Log]) -> Vec<Gtid> {
    for log in logs {
        match list.iter_mut().find(|at| at.log == *log) {
            Some(at) => at.seq = CLOSED,
            None => list.push(Gtid {
                log: *log,
                server: 1,
                seq: CLOSED,
            }),
        }
    }
    list
}

/// Closes the logs of units that are cut here, once what tells that their slots were opened elsewhere has passed: all that the
/// new owner had of them came before it. The caller holds the lock of links.
pub(crate) async fn close_passed(db: &MySqlFamily, session: &mut Session<'_>) -> Result<(), Error> {
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
        let list = closed(Gtid::list("1-1-5,2-7-9").unwrap(), &[Log::Domain(2), Log::Domain(3)]);
        let text: Vec<_> = list.iter().map(Gtid::to_string).collect();
        assert_eq!(text, ["1-1-5", "2-7-4611686018427387904", "3-1-4611686018427387904"]);
        assert!(!is_closed(&list[0]) && is_closed(&list[1]) && is_closed(&list[2]));
    }
}
