//! What a database remembers of the links into it, and what that says when a link is made or looked at again.

use super::connect::Session;
use super::peer::PeerSeen;
use super::wait::lsn;
use crate::driver::Peer;
use crate::error::Error;
use multiactive_core::incarnation::is_another;
use tokio_postgres::types::ToSql;

/// Notes that nothing before `position` is still to come by the link: it was applied, or it is missing for good, which is
/// the link's gap. A link that is made has no progress of its own before the first transaction, and openings wait for it.
pub(super) async fn begin(session: &Session<'_>, name: &str, position: &str, adopted: bool) -> Result<(), Error> {
    let sql = "INSERT INTO multiactive.applied AS a (name, progress) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET progress = CASE
                   WHEN $3 THEN greatest(a.progress::pg_lsn, excluded.progress::pg_lsn)::text ELSE excluded.progress END";
    let params: [&(dyn ToSql + Sync); 3] = [&name, &position, &adopted];
    session.change("noting where a link begins", sql, &params).await?;
    Ok(())
}

/// What this database remembers of a link.
pub(super) struct Noted {
    /// Whether it was made here before.
    pub(super) made: bool,
    /// The incarnation that it was made with.
    pub(super) incarnation: Option<String>,
    born: Option<String>,
    /// It was cut and is to begin with what the peer writes from now on; whether all before was compared.
    pub(super) anew: Option<bool>,
}

pub(super) async fn noted(session: &Session<'_>, name: &str) -> Result<Noted, Error> {
    // Of a link that was removed, only how far it had come is left.
    let sql = "SELECT l.name IS NOT NULL OR a.name IS NOT NULL, l.incarnation, l.born, l.anew
               FROM (SELECT $1::text AS name) n
               LEFT JOIN multiactive.link l USING (name) LEFT JOIN multiactive.applied a USING (name)";
    let row = session.row("reading what is known of a link", sql, &[&name]).await?;
    Ok(Noted {
        made: row.get(0),
        incarnation: row.get(1),
        born: row.get(2),
        anew: row.get(3),
    })
}

/// Why nothing is taken from the peer: it is another database than the one whose rows are here.
pub(super) fn other(from: &Peer, seen: &PeerSeen, known: &Noted) -> Option<String> {
    let told = seen.introduction.as_ref().map(|told| told.incarnation.as_str());
    let known = known.incarnation.as_deref();
    is_another(known, told).then(|| {
        let (seen, known) = (told.unwrap_or_default(), known.unwrap_or_default());
        format!(
            "{from}'s database is another one ({seen}) than the one whose rows are here ({known}): nothing is taken from \
             it, and nothing opens there, before a person has brought the rows back into it and says so in that database: \
             UPDATE multiactive.store SET incarnation = '{known}' (with the epochs that the status of its store names, \
             where it says more). The link is then made with a gap until the rows were compared",
            from = from.unit
        )
    })
}

/// Whether the peer goes on with rows that a person brought back into it since the link was made.
pub(super) fn reborn(seen: &PeerSeen, known: &Noted) -> bool {
    let told = seen.introduction.as_ref().map(|told| told.born.as_str());
    is_another(known.born.as_deref(), told)
}

/// Remembers that the link is made, and with which database: if it has to be made again, rows may be missing.
pub(super) async fn note(session: &Session<'_>, name: &str, from: &Peer, seen: &PeerSeen) -> Result<(), Error> {
    let sql = "INSERT INTO multiactive.link AS l (name, from_unit, incarnation, born) VALUES ($1, $2, $3, $4)
               ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, born = excluded.born, passed = NULL
               WHERE excluded.incarnation IS NOT NULL
                 AND (l.incarnation, l.born) IS DISTINCT FROM (excluded.incarnation, excluded.born)";
    let told = seen.introduction.as_ref();
    let (incarnation, born) = (
        told.map(|told| told.incarnation.as_str()),
        told.map(|told| told.born.as_str()),
    );
    let params: [&(dyn ToSql + Sync); 4] = [&name, &from.unit.as_str(), &incarnation, &born];
    session.change("noting a link", sql, &params).await?;
    Ok(())
}

/// Waits no more for the table that joined as `number` at the other end: it has left the publication again.
pub(super) async fn pass(session: &Session<'_>, name: &str, number: i32) -> Result<(), Error> {
    let sql = "UPDATE multiactive.link SET passed = greatest(passed, $2) WHERE name = $1";
    session
        .change("passing a table that left", sql, &[&name, &number])
        .await?;
    Ok(())
}

/// How far a link has come; `None` before its first transaction.
pub(super) async fn applied(session: &Session<'_>, name: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT pg_replication_origin_progress('pg_' || s.oid, true)::text
               FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
               WHERE d.datname = current_database() AND s.subname = $1::text::name";
    let rows = session.rows("reading how far a link has come", sql, &[&name]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// Whether this database had applied more of the peer's log, before the peer was asked, than there is of it; that becomes
/// the link's gap.
pub(super) async fn went_back(
    session: &Session<'_>,
    name: &str,
    from: &Peer,
    applied: Option<&str>,
    seen: &PeerSeen,
) -> Result<Option<String>, Error> {
    let Some(applied) = applied else {
        return Ok(None);
    };
    if lsn(applied)? <= lsn(&seen.position)? {
        return Ok(None);
    }
    let why = format!(
        "{from}'s log went back: {applied} of it is applied here, but it ends at {position}. {from} was restored from an \
         older state, has lost rows that are here, and what it writes up to {applied} will not come: once a person has \
         brought them back there, and said so there (UPDATE multiactive.store SET born = gen_random_uuid()), the link is \
         made anew; then compare the rows",
        from = from.unit,
        position = seen.position,
    );
    let sql = "UPDATE multiactive.link SET gap = coalesce(gap, $2), sound = NULL WHERE name = $1";
    session.change("noting a gap", sql, &[&name, &why]).await?;
    Ok(Some(why))
}

/// Somebody has compared the rows.
pub(super) async fn forget_gap(session: &Session<'_>, name: &str) -> Result<(), Error> {
    let sql =
        "UPDATE multiactive.link SET gap = NULL, sound = NULL, lacking = NULL WHERE name = $1 AND gap IS NOT NULL";
    session.change("forgetting a gap", sql, &[&name]).await?;
    Ok(())
}
