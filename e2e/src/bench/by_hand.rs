//! The switchover as a careful person does it with SQL, on the same servers: fence the range where it is, wait until its
//! last write is on the other side, open it there.
//!
//! A database of its own with two servers' worth of everything that this takes: the shop's table, a fence trigger with
//! the right locking, a subscription in each direction, a marker row. Its sessions are open and its statements ready,
//! so this is the least that it can take.

use crate::databases::run;
use crate::region::Region;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls, Statement};

/// The database.
const DATABASE: &str = "by_hand";
/// What the fence answers.
pub const FENCED: &str = "HF001";
/// How long the last write may take to the other side.
const LIMIT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE marker (number bigint PRIMARY KEY);
    CREATE TABLE fence (open boolean NOT NULL);
    CREATE FUNCTION check_fence() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        may boolean;
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7411, 1);
        SELECT open INTO may FROM fence;
        IF NOT may THEN
            RAISE EXCEPTION 'the range is fenced here' USING ERRCODE = 'HF001';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION check_fence();
    CREATE PUBLICATION by_hand FOR TABLE orders, marker";

struct Side {
    config: Config,
    session: Client,
    arrived: Statement,
}

/// One range on two servers, open on one of them.
pub struct ByHand {
    sides: [Side; 2],
    owner: Arc<watch::Sender<usize>>,
    moves: i64,
}

/// How long each part of a switchover took.
#[derive(Clone, Copy, Debug)]
pub struct Switchover {
    /// Until no write of the range can commit at the source any more.
    pub fence: Duration,
    /// Until the other side has the last of them.
    pub wait: Duration,
    /// Until it takes writes.
    pub open: Duration,
}

impl Switchover {
    /// From the first statement to the last.
    pub fn pause(self) -> Duration {
        self.fence + self.wait + self.open
    }
}

impl ByHand {
    /// Database, table, fence and links on both; the range is open on the first.
    ///
    /// # Errors
    ///
    /// Where a server refuses.
    pub async fn prepare(regions: [&Region; 2], schema: &str) -> Result<Self> {
        for (index, region) in regions.iter().enumerate() {
            run(
                region.database().dbname("postgres"),
                &format!("CREATE DATABASE {DATABASE}"),
            )
            .await?;
            let open = index == 0;
            let sql = format!("{schema}; {SCHEMA}; INSERT INTO fence VALUES ({open})");
            run(&config(region), &sql).await.context("the hand-made fence")?;
        }
        for (here, there) in [(regions[0], regions[1]), (regions[1], regions[0])] {
            let connection = format!(
                "host={} port={} dbname={DATABASE} user=postgres password={}",
                there.address, there.database_port, there.database_password
            );
            let link = format!(
                "CREATE SUBSCRIPTION by_hand_{} CONNECTION '{connection}' PUBLICATION by_hand
                 WITH (origin = none, copy_data = false, synchronous_commit = on)",
                here.name
            );
            run(&config(here), &link).await.context("the hand-made link")?;
        }
        let sides = [side(regions[0]).await?, side(regions[1]).await?];
        let owner = Arc::new(watch::Sender::new(0));
        let mut made = Self { sides, owner, moves: 0 };
        // There and back: links that begin are no part of what is measured.
        for _ in 0..2 {
            made.switch().await.context("the first switchovers by hand")?;
        }
        Ok(made)
    }

    /// Moves the range to the other side.
    ///
    /// # Errors
    ///
    /// Where a server refuses, or the last write does not arrive.
    pub async fn switch(&mut self) -> Result<Switchover> {
        let from = *self.owner.borrow();
        let (source, target) = (&self.sides[from], &self.sides[1 - from]);
        self.moves += 1;
        let fence = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(7411, 1); UPDATE fence SET open = false;
             INSERT INTO marker VALUES ({}); COMMIT",
            self.moves
        );
        let began = Instant::now();
        source.session.batch_execute(&fence).await.context("fencing by hand")?;
        let fenced = began.elapsed();
        loop {
            let row = target.session.query_one(&target.arrived, &[&self.moves]).await?;
            if row.get(0) {
                break;
            }
            ensure!(
                began.elapsed() < LIMIT,
                "the last write did not arrive within {LIMIT:?}"
            );
        }
        let arrived = began.elapsed();
        target.session.batch_execute("UPDATE fence SET open = true").await?;
        let opened = began.elapsed();
        self.owner.send_replace(1 - from);
        Ok(Switchover {
            fence: fenced,
            wait: arrived - fenced,
            open: opened - arrived,
        })
    }

    /// How the two servers are reached.
    pub fn configs(&self) -> [Config; 2] {
        [self.sides[0].config.clone(), self.sides[1].config.clone()]
    }

    /// Where the range is; told at once, which nobody does by hand.
    pub fn owner(&self) -> watch::Receiver<usize> {
        self.owner.subscribe()
    }

    /// How many orders each side holds.
    ///
    /// # Errors
    ///
    /// Where a server does not answer.
    pub async fn orders(&self) -> Result<[i64; 2]> {
        let count = async |side: &Side| -> Result<i64> {
            Ok(side.session.query_one("SELECT count(*) FROM orders", &[]).await?.get(0))
        };
        Ok([count(&self.sides[0]).await?, count(&self.sides[1]).await?])
    }
}

fn config(region: &Region) -> Config {
    region.database().dbname(DATABASE).clone()
}

async fn side(region: &Region) -> Result<Side> {
    let config = config(region);
    let (session, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let arrived = session
        .prepare("SELECT count(*) = 1 FROM marker WHERE number = $1")
        .await?;
    Ok(Side {
        config,
        session,
        arrived,
    })
}
