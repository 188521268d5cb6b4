//! Looks into the databases while something happens: whether a slot is ever open for writes in two units at one instant, whoever
//! orders there or not.

use crate::region::{Engine, Region};
use crate::session::Session;
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// How often each database is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// The slots of users that admit writes now, each with the epoch of its grant.
fn open(engine: Engine) -> &'static str {
    match engine {
        Engine::PostgreSql => {
            "SELECT slot, epoch FROM multiactive.slot
             WHERE keyspace = 'users' AND open AND server_start = pg_postmaster_start_time()
               AND (SELECT h.until FROM multiactive.held() h) IS NOT NULL"
        }
        Engine::MariaDb | Engine::MySql => {
            "SELECT s.slot, p.epoch FROM multiactive.slot s JOIN multiactive.stamp p ON p.slot = s.slot
             WHERE s.open AND NOT @@global.read_only AND multiactive.lease_left() > 0"
        }
    }
}

/// Somebody who looks.
pub struct OpenSlots {
    stop: CancellationToken,
    task: JoinHandle<Looked>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// How often all databases were looked at.
    pub times: usize,
    /// The slots that were open in two units at one instant, and in which.
    pub twice: BTreeSet<(i32, String, String)>,
}

/// One database, and what was open there at the last look.
struct Place {
    region: Region,
    session: Option<Session>,
    open: BTreeMap<i32, i64>,
}

impl OpenSlots {
    /// Begins to look at these regions' databases.
    pub fn watch(regions: &[Region]) -> Self {
        let place = |region: &Region| Place {
            region: region.clone(),
            session: None,
            open: BTreeMap::new(),
        };
        let places = regions.iter().map(place).collect();
        let stop = CancellationToken::new();
        let task = tokio::spawn(look(places, stop.clone()));
        Self { stop, task }
    }

    /// Ends it, and gives what was seen.
    ///
    /// # Errors
    ///
    /// Where looking came to grief.
    pub async fn stop(mut self) -> Result<Looked> {
        self.stop.cancel();
        Ok((&mut self.task).await?)
    }
}

/// Whoever does not come to its end looks no further.
impl Drop for OpenSlots {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn look(mut places: Vec<Place>, stop: CancellationToken) -> Looked {
    let mut looked = Looked::default();
    let mut tick = interval(EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        for index in 0..places.len() {
            let open = places[index].look().await;
            let before = std::mem::replace(&mut places[index].open, open);
            looked.twice.extend(twice(&places, index, &before));
        }
        looked.times += 1;
    }
    looked
}

/// Open in one unit before and after it was seen open in another, by the same grant: so it was open in both when that was seen.
fn twice(places: &[Place], index: usize, before: &BTreeMap<i32, i64>) -> Vec<(i32, String, String)> {
    let here = &places[index];
    let stayed = here.open.iter().filter(|(slot, epoch)| before.get(slot) == Some(epoch));
    let stayed: Vec<i32> = stayed.map(|(slot, _)| *slot).collect();
    let others = places.iter().enumerate().filter(|(other, _)| *other != index);
    let both = others.flat_map(|(_, there)| {
        let open = stayed.iter().filter(|slot| there.open.contains_key(slot));
        open.map(|slot| (*slot, here.region.unit(), there.region.unit()))
    });
    both.collect()
}

impl Place {
    /// What is open now. In a database that does not answer nothing is known to be, and nothing is said of it.
    async fn look(&mut self) -> BTreeMap<i32, i64> {
        let found = self.ask().await;
        if found.is_err() {
            self.session = None;
        }
        found.unwrap_or_default()
    }

    async fn ask(&mut self) -> Result<BTreeMap<i32, i64>> {
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(Session::of(&self.region).await?),
        };
        let rows = session.rows(open(self.region.engine)).await?;
        let pair = |row: &Vec<String>| {
            ensure!(row.len() == 2, "{row:?}");
            Ok((row[0].parse()?, row[1].parse()?))
        };
        rows.iter().map(pair).collect()
    }
}
