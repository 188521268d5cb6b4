//! A region's database of which the others hear nothing any more while it goes on: what it takes now is nowhere else.

use crate::region::{Engine, Region};
use crate::session::Session;
use anyhow::Result;

/// The user of the others' links and agents: `roles.sql`.
const OTHERS: &str = "multiactive_replication";

/// From now on nobody of the others comes in, and who is in has gone.
///
/// # Errors
///
/// Where the server refuses.
pub async fn begins(region: &Region) -> Result<()> {
    let mut session = Session::of(region).await?;
    match region.engine {
        Engine::PostgreSql => {
            let ends = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{OTHERS}'");
            // Committed first: whoever is ended comes back at once.
            session.run(&format!("ALTER ROLE {OTHERS} NOLOGIN")).await?;
            session.run(&ends).await?;
        }
        Engine::MariaDb | Engine::MySql => {
            session.run(&account("LOCK")).await?;
            let sql = format!("SELECT id FROM information_schema.processlist WHERE user = '{OTHERS}'");
            for id in session.rows(&sql).await?.into_iter().flatten() {
                // It may have ended by itself.
                let _ = session.run(&format!("KILL {id}")).await;
            }
        }
    }
    Ok(())
}

/// They come in again.
///
/// # Errors
///
/// Where the server refuses.
pub async fn ends(region: &Region) -> Result<()> {
    let sql = match region.engine {
        Engine::PostgreSql => format!("ALTER ROLE {OTHERS} LOGIN"),
        Engine::MariaDb | Engine::MySql => account("UNLOCK"),
    };
    Session::of(region).await?.run(&sql).await.map(drop)
}

/// Out of the log: each unit has its own accounts.
fn account(change: &str) -> String {
    format!("SET SESSION sql_log_bin = 0; ALTER USER {OTHERS}@'%' ACCOUNT {change}")
}
