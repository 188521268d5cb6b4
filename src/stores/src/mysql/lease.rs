//! Where MySQL keeps the write lease. It has nothing that is seen at once in every isolation level and waits for nobody, as a
//! sequence of MariaDB is: a plain read of a row may be that of an old snapshot, and a locking one holds up who extends it.
//!
//! So writers find it in a wheel, with one row for each second in which it is valid: they read that of the second that is now.
//! An old snapshot shows an older lease, which ends earlier: whoever finds it over looks again, at what was committed last, with
//! a lock that lasts as long as his transaction; a serializable one always does. Whoever extends the lease writes the rows of the
//! seconds to come, and so waits for nobody.

use crate::error::Error;
use crate::family::connect::Session;

/// How many seconds there are, more than the longest lease has; and the row that has the lease as it is.
const WHEEL: i64 = 4096;

/// Sets the lease. The lock of leases is held.
pub(crate) async fn set(session: &mut Session<'_>, value: i64) -> Result<(), Error> {
    const SETTING: &str = "setting the write lease";
    let sql = "SELECT held, multiactive.clock() DIV 1000000 FROM multiactive.lease";
    let (held, now): (i64, i64) = session.row(SETTING, sql, ()).await?;
    let (until, ends) = (value >> 21, value & ((1 << 21) - 1) == 0);
    session.batch(SETTING, "START TRANSACTION").await?;
    let sql = "UPDATE multiactive.lease SET held = ?";
    session.change(SETTING, sql, (value,)).await?;
    // This second's row may be locked by a writer: it says no more than was true when he looked.
    match (ends, until > held >> 21) {
        // Who has looked in this second is ended next.
        (true, _) => turn(session, "TRUE", value).await?,
        (false, true) => {
            let seconds = (now..=until / 1000).map(|second| (second % WHEEL).to_string());
            let seconds = std::iter::once(WHEEL.to_string()).chain(seconds);
            let seconds: Vec<_> = seconds.take(4096).collect();
            turn(session, &format!("second IN ({})", seconds.join(", ")), value).await?;
        }
        // The clock was set back, and those seconds come again: nothing of the old lease may be left.
        (false, false) => {
            let sql = "UPDATE multiactive.wheel SET held = ?";
            session.change(SETTING, sql, (value,)).await.map(drop)?;
        }
    }
    session.batch(SETTING, "COMMIT").await
}

/// Writes those seconds that nobody has locked.
async fn turn(session: &mut Session<'_>, which: &str, value: i64) -> Result<(), Error> {
    const SETTING: &str = "setting the write lease";
    let sql = format!("SELECT second FROM multiactive.wheel WHERE {which} FOR UPDATE SKIP LOCKED");
    let free: Vec<i64> = session.told(SETTING, &sql).await?;
    let free: Vec<_> = free.iter().map(i64::to_string).collect();
    if free.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE multiactive.wheel SET held = {value} WHERE second IN ({})",
        free.join(", ")
    );
    session.batch(SETTING, &sql).await
}
