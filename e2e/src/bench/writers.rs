//! Writers of the range that is switched by hand: the shop's users without the shop, each with a session to both
//! servers. One that is refused waits until it is told where the range is.

use super::by_hand::{ByHand, FENCED};
use super::figures::Sample;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;

/// An order that was taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    began: Instant,
    took: Duration,
    refusals: usize,
}

/// What the writers saw.
#[derive(Clone, Debug, Default)]
pub struct Written(Vec<Taken>);

impl Written {
    /// How many orders were taken.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How often a writer was refused.
    pub fn refusals(&self) -> usize {
        self.0.iter().map(|taken| taken.refusals).sum()
    }

    /// How long orders took.
    pub fn times(&self) -> Sample {
        self.0.iter().map(|taken| taken.took).collect()
    }

    /// The longest time of an order that was under way between the two moments; `None` where none was.
    pub fn longest(&self, from: Instant, to: Instant) -> Option<Duration> {
        let during = self
            .0
            .iter()
            .filter(|taken| taken.began <= to && taken.began + taken.took >= from);
        during.map(|taken| taken.took).max()
    }
}

/// Writers at work.
pub struct Writers {
    token: CancellationToken,
    tasks: JoinSet<Result<()>>,
    written: Arc<Mutex<Written>>,
}

impl Writers {
    /// Starts `users` writers, each of which rests for `think` after an order.
    ///
    /// # Errors
    ///
    /// Where a server cannot be reached.
    pub async fn start(by_hand: &ByHand, users: u32, think: Duration) -> Result<Self> {
        let (token, written) = (CancellationToken::new(), Arc::new(Mutex::new(Written::default())));
        let mut tasks = JoinSet::new();
        for number in 0..users {
            let [first, second] = by_hand.configs();
            let writer = Writer {
                user: format!("u{number}"),
                sessions: [connect(&first).await?, connect(&second).await?],
                owner: by_hand.owner(),
                think,
            };
            tasks.spawn(writer.order_until(token.clone(), Arc::clone(&written)));
        }
        Ok(Self { token, tasks, written })
    }

    /// Lets each finish its order, and hands over what they saw.
    ///
    /// # Errors
    ///
    /// What went wrong at a writer, other than the fence.
    pub async fn stop(mut self) -> Result<Written> {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(std::mem::take(&mut *self.written.lock().await))
    }
}

async fn connect(config: &Config) -> Result<Client> {
    let (session, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(session)
}

struct Writer {
    user: String,
    sessions: [Client; 2],
    owner: watch::Receiver<usize>,
    think: Duration,
}

impl Writer {
    async fn order_until(mut self, token: CancellationToken, written: Arc<Mutex<Written>>) -> Result<()> {
        let mut seq = 1;
        while !token.is_cancelled() {
            let taken = self.order(seq).await?;
            written.lock().await.0.push(taken);
            seq += 1;
            tokio::select! {
                () = token.cancelled() => {}
                () = tokio::time::sleep(self.think) => {}
            }
        }
        Ok(())
    }

    async fn order(&mut self, seq: i64) -> Result<Taken> {
        let (began, mut refusals) = (Instant::now(), 0);
        loop {
            let owner = *self.owner.borrow_and_update();
            match self.attempt(owner, seq).await {
                Ok(()) => break,
                Err(error) if error.code().map(|code| code.code()) == Some(FENCED) => {
                    refusals += 1;
                    self.owner.changed().await?;
                }
                Err(error) => bail!("an order by hand: {error}"),
            }
        }
        Ok(Taken {
            began,
            took: began.elapsed(),
            refusals,
        })
    }

    /// The shop's transaction.
    async fn attempt(&mut self, side: usize, seq: i64) -> Result<(), tokio_postgres::Error> {
        let transaction = self.sessions[side].transaction().await?;
        let last = "SELECT coalesce(max(seq), 0) FROM orders WHERE user_id = $1";
        let prev: i64 = transaction.query_one(last, &[&self.user]).await?.get(0);
        let insert =
            "INSERT INTO orders (id, user_id, seq, prev, unit) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let (id, unit) = (format!("{seq}-{}", self.user), side.to_string());
        transaction
            .execute(insert, &[&id, &self.user, &seq, &prev, &unit])
            .await?;
        transaction.commit().await
    }
}
