//! Transactions that count as applied and are not: those that a unit wrote while it was lost, and those whose rows were copied.
//!
//! The server passes over them wherever they come from. It cannot hand them on either, and refuses whoever asks for them: so a
//! peer says which they are. Those of a lost unit nobody needs: whoever receives from here passes over them too. Those whose
//! rows were copied come to others by the link from their own unit, and until they have, no link from here goes on there.

use crate::error::Error;
use crate::family::applied::Passed;
use crate::family::connect::Session;
use crate::family::gtid::Log;
use multiactive_core::ids::UnitName;
use mysql_async::params;

/// The transactions of both sets.
macro_rules! both {
    ($one:literal, $other:literal) => {
        concat!("GTID_SUBTRACT(", $one, ", GTID_SUBTRACT(", $one, ", ", $other, "))")
    };
}

/// What a peer cannot hand on, as sets: all, those of lost units, and those whose rows it copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AtPeer {
    gone: String,
    lost: String,
    copied: String,
}

/// What this session's server says of itself.
pub(crate) async fn at_peer(session: &mut Session<'_>) -> Result<AtPeer, Error> {
    let sql = "SELECT @@global.gtid_purged,
                      IFNULL((SELECT GROUP_CONCAT(p.gtids) FROM multiactive.passed_over p WHERE NOT p.copied), ''),
                      IFNULL((SELECT GROUP_CONCAT(p.gtids) FROM multiactive.passed_over p WHERE p.copied), '')";
    let (gone, lost, copied) = session.row("looking at what the peer passed over", sql, ()).await?;
    Ok(AtPeer { gone, lost, copied })
}

/// Counts those of a set as applied here that are not. No link that has some of them runs.
pub(crate) async fn pass_over(session: &mut Session<'_>, set: &str, why: Passed) -> Result<(), Error> {
    let sql = "SELECT REPLACE(GTID_SUBTRACT(?, @@global.gtid_executed), '\n', '')";
    let set: String = session.row("looking for what is not applied", sql, (set,)).await?;
    if set.is_empty() {
        return Ok(());
    }
    // In this order: whoever finds that it cannot be had from here learns why.
    let sql = "INSERT INTO multiactive.passed_over (gtids, copied, at) VALUES (?, ?, SYSDATE(6))";
    let params = (&set, why == Passed::Copied);
    session.change("noting what is passed over", sql, params).await?;
    let sql = format!("SET GLOBAL gtid_purged = '+{set}'");
    session.batch("passing over transactions", &sql).await?;
    tracing::warn!(set, "counted as applied");
    Ok(())
}

/// What it means for a link that its peer cannot hand on something.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Over {
    /// What has to come from elsewhere first.
    pub(crate) waits: Option<String>,
    /// Whether the peer does not keep something any more.
    pub(crate) is_gone: bool,
    /// Whether it has rows that come here from nobody any more: a copy brings them.
    pub(crate) lacks: bool,
}

/// Passes over what the peer did, where it is of a lost unit; `cut`: the logs of those that are cut off here.
pub(crate) async fn over(
    session: &mut Session<'_>,
    from: &UnitName,
    there: &AtPeer,
    cut: &[Log],
) -> Result<Over, Error> {
    const LOOKING: &str = "looking at what the peer passed over";
    let sql = "SELECT GTID_SUBTRACT(?, @@global.gtid_executed)";
    let missing: String = session.row(LOOKING, sql, (&there.gone,)).await?;
    if missing.is_empty() {
        return Ok(Over::default());
    }
    let sql = concat!(
        "SELECT ",
        both!(":missing", ":lost"),
        ", ",
        both!(":missing", ":copied"),
        ",
                      GTID_SUBTRACT(GTID_SUBTRACT(:missing, :lost), :copied)"
    );
    let params = params! {"missing" => &missing, "lost" => &there.lost, "copied" => &there.copied};
    let (lost, copied, rest): (String, String, String) = session.row(LOOKING, sql, params).await?;
    pass_over(session, &lost, Passed::Lost).await?;
    let cut: Vec<_> = cut.iter().map(|log| format!("{log}:1-9223372036854775806")).collect();
    let sql = concat!("SELECT ", both!(":copied", ":cut"), ", GTID_SUBTRACT(:copied, :cut)");
    let params = params! {"copied" => copied, "cut" => cut.join(",")};
    let (orphaned, copied): (String, String) = session.row(LOOKING, sql, params).await?;
    let waits = (!copied.is_empty()).then(|| {
        format!(
            "{from} copied the rows of {copied} from their own unit, and cannot hand that on: it has yet to come here by the link \
             from there"
        )
    });
    // The gap is noted before.
    Ok(Over {
        waits,
        is_gone: !rest.is_empty(),
        lacks: !orphaned.is_empty(),
    })
}

/// Passes over what the peer copied from units that are cut off here; the link's gap says that their rows are missing.
pub(crate) async fn over_orphaned(session: &mut Session<'_>, there: &AtPeer, cut: &[Log]) -> Result<(), Error> {
    let cut: Vec<_> = cut.iter().map(|log| format!("{log}:1-9223372036854775806")).collect();
    let sql = concat!("SELECT ", both!(":copied", ":cut"));
    let params = params! {"copied" => &there.copied, "cut" => cut.join(",")};
    let orphaned: String = session.row("looking at what the peer passed over", sql, params).await?;
    pass_over(session, &orphaned, Passed::Lost).await
}

/// Passes over what a link has received, or is about to, of logs of which nothing more is taken: `set` is what it has.
pub(crate) async fn closed(session: &mut Session<'_>, set: &str) -> Result<(), Error> {
    let Some(closed) = closed_logs(session).await? else {
        return Ok(());
    };
    let sql = concat!("SELECT ", both!("?", "?"));
    let tail: String = session
        .row("looking for what a lost unit wrote", sql, (set, set, closed))
        .await?;
    pass_over(session, &tail, Passed::Lost).await
}

/// What is not to be applied of logs that are closed, as a set; `None` where none is.
pub(crate) async fn closed_logs(session: &mut Session<'_>) -> Result<Option<String>, Error> {
    let sql = "SELECT GTID_SUBTRACT(GROUP_CONCAT(CONCAT(c.log, ':', c.upto + 1, '-9223372036854775806')), @@global.gtid_executed)
               FROM multiactive.closed c";
    session.row("looking for closed logs", sql, ()).await
}
