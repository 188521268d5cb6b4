//! Customers that ignore routers: they write to whatever database takes the write, and note every acknowledgement.

use super::session;
use super::world::World;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Writers under way.
pub struct Writes {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Acknowledged>>,
}

/// What one writer was told.
#[derive(Default)]
pub struct Acknowledged {
    /// Row and the unit that took it.
    pub rows: BTreeMap<String, String>,
    /// The longest time between two acknowledgements.
    pub pause: Duration,
}

impl Writes {
    /// Starts writers, each of one user.
    pub fn start(world: &World, writers: usize) -> Writes {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let urls: Vec<_> = world
            .units
            .iter()
            .map(|unit| (unit.clone(), world.database(unit).url("shop_app", "shop")))
            .collect();
        let tasks = (0..writers).map(|writer| tokio::spawn(write(writer, urls.clone(), stop.clone(), count.clone())));
        Writes {
            tasks: tasks.collect(),
            stop,
            count,
        }
    }

    /// Waits until this many more writes are acknowledged.
    pub async fn more(&self, writes: u64) {
        let until = self.count.load(Ordering::Relaxed) + writes;
        super::until("acknowledged writes", || async {
            let now = self.count.load(Ordering::Relaxed);
            if now >= until { Ok(()) } else { Err(now) }
        })
        .await;
    }

    /// Ends them; checks that each acknowledged row is in `owner` exactly as often as it was acknowledged: once.
    pub async fn all_are_in(self, world: &World, owner: &str) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut rows = BTreeMap::new();
        let mut pause = Duration::ZERO;
        for task in self.tasks {
            let acknowledged = task.await.unwrap();
            rows.extend(acknowledged.rows);
            pause = pause.max(acknowledged.pause);
        }
        assert!(!rows.is_empty(), "nobody wrote");
        let reader = session(world.database(owner), "postgres", "shop").await.unwrap();
        let present: std::collections::BTreeSet<String> = reader
            .query("SELECT id FROM orders", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let lost: Vec<_> = rows.iter().filter(|(id, _)| !present.contains(*id)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged rows are lost: {lost:?}",
            lost.len(),
            rows.len()
        );
        pause
    }
}

async fn write(
    writer: usize,
    urls: Vec<(String, String)>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Acknowledged {
    let mut sessions: Vec<Option<tokio_postgres::Client>> = urls.iter().map(|_| None).collect();
    let mut told = Acknowledged::default();
    let mut at = 0;
    let mut last = Instant::now();
    let user = format!("user-{writer}");
    for number in 0_u64.. {
        let id = format!("{writer}-{number}");
        while !stop.load(Ordering::Relaxed) {
            if take(&mut sessions[at], &urls[at].1, &id, &user).await {
                told.rows.insert(id, urls[at].0.clone());
                told.pause = told.pause.max(last.elapsed());
                last = Instant::now();
                count.fetch_add(1, Ordering::Relaxed);
                break;
            }
            at = (at + 1) % urls.len();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if stop.load(Ordering::Relaxed) {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    told
}

/// Whether the write was acknowledged. An id is never reused after an unknown outcome: the insert would fail.
async fn take(session: &mut Option<tokio_postgres::Client>, url: &str, id: &str, user: &str) -> bool {
    if session.as_ref().is_none_or(tokio_postgres::Client::is_closed) {
        let Ok((client, connection)) = tokio_postgres::connect(url, tokio_postgres::NoTls).await else {
            return false;
        };
        tokio::spawn(connection);
        *session = Some(client);
    }
    let Some(client) = session else { return false };
    let sql = "INSERT INTO orders (id, user_id) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
    client.execute(sql, &[&id, &user]).await.is_ok()
}
