//! Which database a member is, told to its peers, and what proves that one is not what it was.
//!
//! An empty database has another incarnation; one that was restored from an older state has the same, but its log is behind
//! what the others have of it. After either, the same positions in the log mean other rows.

use super::connect::Session;
use super::names::{self, ident, literal, publication};
use super::wait::lsn;
use super::{Postgres, peer};
use crate::driver::{Peer, StoreSpec};
use crate::error::Error;
use futures::future::join_all;
use std::time::Duration;
use tokio::time::timeout;

/// How long a peer may take to say how far it has come: one that is away holds up nothing.
const PATIENCE: Duration = Duration::from_secs(1);

const OPENED: &str = "opened";
const NEW: &str = "never opened";

/// What a member's publication says of its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Introduction {
    /// Which database it is.
    pub(super) incarnation: String,
    /// Since when it goes on by itself: another one has another log, though all rows were brought into it.
    pub(super) born: String,
    /// Whether a slot was ever open there.
    pub(super) opened: bool,
}

impl Introduction {
    /// From the publication's comment; `None` for what is none of ours.
    pub(super) fn parse(comment: &str) -> Option<Self> {
        let mut words = comment.strip_prefix("multiactive: ")?.split(", ");
        let (incarnation, born, opened) = (words.next()?, words.next()?, words.next()?);
        let opened = match opened {
            OPENED => true,
            NEW => false,
            _ => return None,
        };
        Some(Self {
            incarnation: incarnation.to_owned(),
            born: born.to_owned(),
            opened,
        })
    }
}

/// Says on the publication which database this is. Only where it does not say so: it takes a lock.
pub(super) async fn introduce(session: &Session<'_>, spec: &StoreSpec) -> Result<(), Error> {
    let sql = "SELECT told FROM multiactive.introduction() told
               WHERE told IS DISTINCT FROM (SELECT obj_description(p.oid, 'pg_publication') FROM pg_publication p
                                            WHERE p.pubname = $1)";
    let rows = session
        .rows("reading which database this is", sql, &[&publication(spec)])
        .await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let comment: String = row.get(0);
    let sql = format!(
        "COMMENT ON PUBLICATION {} IS {}",
        ident(&publication(spec)),
        literal(&comment)
    );
    session.batch("telling which database this is", &sql).await
}

/// Which of the peers have applied more of this member's log than there is of it: in words. A peer that does not answer
/// proves nothing.
pub(super) async fn went_back(pg: &Postgres, peers: &[Peer]) -> Result<Vec<String>, Error> {
    let each = peers.iter().map(|peer| async move {
        let name = names::link(&pg.spec, &pg.spec.unit, &peer.unit);
        let asked = peer::progress_of(pg, peer, &name);
        match timeout(PATIENCE, asked).await {
            Ok(Ok(progress)) => progress.map(|progress| (peer, progress)),
            Ok(Err(error)) => {
                tracing::info!(peer = %peer.unit, error = error.explain(), "a peer does not say how far it has come");
                None
            }
            Err(_) => None,
        }
    });
    let known: Vec<_> = join_all(each).await.into_iter().flatten().collect();
    if known.is_empty() {
        return Ok(Vec::new());
    }
    // Read last: what the peers have was in the log before.
    let session = pg.server.session().await?;
    let sql = "SELECT pg_current_wal_insert_lsn()::text";
    let own: String = session.row("reading the position", sql, &[]).await?.get(0);
    session.keep();
    let mut beyond = Vec::new();
    for (peer, progress) in known {
        if lsn(&progress)? > lsn(&own)? {
            beyond.push(format!(
                "{} has applied this database's log up to {progress}, but it ends at {own}",
                peer.unit
            ));
        }
    }
    Ok(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_that_is_none_of_ours_says_nothing() {
        for (comment, want) in [
            ("multiactive: a-b, c-d, opened", Some(("a-b", "c-d", true))),
            ("multiactive: a-b, c-d, never opened", Some(("a-b", "c-d", false))),
            ("multiactive: a-b", None),
            ("multiactive: a-b, c-d, perhaps", None),
            ("the shop's tables", None),
        ] {
            let got = Introduction::parse(comment);
            let got = got
                .as_ref()
                .map(|told| (told.incarnation.as_str(), told.born.as_str(), told.opened));
            assert_eq!(got, want, "{comment}");
        }
    }
}
