//! Where a snapshot stands in MySQL's log, which the server does not tell: so both are taken while nobody writes.

use crate::error::Error;
use crate::family::connect::{Session, refusal};
use crate::family::gtid::Gtid;
use crate::family::logs::Logs;
use crate::family::snapshot::take;
use crate::until::Until;
use std::time::Duration;
use tokio::time::sleep;

/// How often all slots are asked for at once, before they are waited for: who waits has writers wait behind him.
const TRIES: u32 = 40;

/// Takes a snapshot and says where it stands, for the rows of the slots that are open there: their writers wait meanwhile. It has
/// what was committed to them by then, for a writer's locks last until his rows are seen; and that is within the place, for what
/// is in the log and not yet counted belongs to it.
pub(crate) async fn take_and_place(there: &mut Session<'_>, until: &Until) -> Result<Vec<Gtid>, Error> {
    let mut guard = there.beside().await?;
    hold_writers(&mut guard, until).await?;
    take(there, until.left()?).await?;
    let place = Logs::read(&mut guard).await?.all;
    guard.batch("letting writers go on", "ROLLBACK").await?;
    guard.keep();
    Ok(place)
}

/// Locks the slots that are open; whoever wrote to one has ended.
async fn hold_writers(guard: &mut Session<'_>, until: &Until) -> Result<(), Error> {
    for number in 1.. {
        let waits = if number % TRIES == 0 { "" } else { " NOWAIT" };
        let sql = format!("SELECT COUNT(*) INTO @multiactive_held FROM multiactive.slot WHERE open FOR UPDATE{waits}");
        guard.batch("holding writers", "START TRANSACTION").await?;
        match guard.batch("holding writers", &sql).await {
            Ok(()) => break,
            // 3572: somebody has one of them; 1205: he has had it for long; 1213: he waits for us, too.
            Err(error) if refusal(&error).is_some_and(|code| [1205, 1213, 3572].contains(&code)) => {}
            Err(error) => return Err(error),
        }
        guard.batch("holding writers", "ROLLBACK").await?;
        until.left()?;
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
