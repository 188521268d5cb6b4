//! A world of a test's own with the shop on it, ready to be taken apart.

use crate::bench::audit::Audit;
use crate::catalog;
use crate::install::{AGENT_PORT, Install};
use crate::kube_ext::wait_for;
use crate::promotion::{create, ended};
use crate::region::{Engine, NAMESPACE, Region};
use crate::world::{Databases, Network, World};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::{Api, Client};
use multiactive_api::{MemberCluster, PromotionStatus, ROUTING_TABLE, RoutingTable};
use multiactive_core::table::RoutingTable as Owners;
use serde_json::Value;
use shop::check::{Findings, check};
use shop::database::read;
use shop::load::{Load, LoadOptions, Record};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, interval};

/// The regions of every stage; the first is the hub.
pub const REGIONS: [&str; 3] = ["east", "north", "south"];

/// How long any one thing may take that a test waits for, on a slow machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// For how long a user rests after an order. Two dozen of them send a hundred orders a second; more of them make a small machine
/// late, and with it everything that a test waits for, and find nothing more.
pub const THINK: Duration = Duration::from_millis(200);

/// What may differ from stage to stage.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether operator and agents look for a failpoint in a file.
    pub failpoints: bool,
    /// What operators, agents and routers log, as in `RUST_LOG`.
    pub logs: Option<String>,
    /// Whether each API server notes every write and who made it.
    pub audit: bool,
    /// Whether databases flush to the disk, as whoever measures them must. One disk stands for those of three cities, and
    /// what is killed is processes, never the machine.
    pub fsync: bool,
    /// The engine of all databases.
    pub engine: Engine,
    /// Whether the way to each database can be lost.
    pub wired: bool,
    /// Whether the clock of each database can be set.
    pub clocks: bool,
    /// What of the shop runs on it.
    pub shop: Shop,
}

/// What of the shop runs on a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shop {
    /// Its orders, divided by users.
    #[default]
    Orders,
    /// Its catalog alone, and nothing is divided: a server of MariaDB or MySQL is a member of one store.
    Catalog,
    /// Catalog and prices, two cities that back each other up, and the hub's region as their backup site.
    BackupSite,
}

/// A fleet of this process with the shop on it. Dropping it ends everything.
pub struct Stage {
    /// Clusters and databases.
    pub world: World,
    /// How the shop was brought there.
    pub install: Install,
    /// An administrator's client of the hub.
    pub hub: Client,
    /// What each API server wrote down, where that was asked for.
    pub audit: Option<Audit>,
    /// A folder for what is only needed while it runs.
    pub scratch: tempfile::TempDir,
    /// How many loads there were.
    loads: AtomicU32,
    /// Given back last.
    _turn: MutexGuard<'static, ()>,
}

/// Stages of one process stand one after the other: they would have the same addresses.
static TURN: Mutex<()> = Mutex::const_new(());

impl Stage {
    /// Starts everything and waits until all of it is Ready.
    ///
    /// # Errors
    ///
    /// Where something does not start or become ready.
    pub async fn up() -> Result<Self> {
        let failpoints = true;
        Self::up_with(Options {
            failpoints,
            ..Options::default()
        })
        .await
    }

    /// As [`Stage::up`], otherwise.
    ///
    /// # Errors
    ///
    /// As [`Stage::up`].
    pub async fn up_with(options: Options) -> Result<Self> {
        let turn = TURN.lock().await;
        let began = Instant::now();
        let network = Network::of_this_process();
        let scratch = tempfile::tempdir()?;
        let audit = options.audit.then(|| Audit::new(scratch.path())).transpose()?;
        let args = |region: &str| audit.as_ref().map_or_else(Vec::new, |audit| audit.args(region));
        let databases = Databases {
            engine: options.engine,
            fsync: options.fsync,
            wired: options.wired,
            clocks: options.clocks,
        };
        let world = World::start_with(&REGIONS, network, None, databases, args).await?;
        let started = began.elapsed();
        let install = Install {
            regions: world.regions.clone(),
            network,
            scratch: scratch.path().to_owned(),
            failpoints: options.failpoints,
            logs: options.logs,
            agent_port: AGENT_PORT,
        };
        install.platform().await?;
        let installed = began.elapsed();
        match options.shop {
            Shop::Orders => {
                install.shop().await?;
                install.ready(|_| {}).await?;
            }
            Shop::Catalog => {
                install.units_and_workload().await?;
                catalog::add(&install).await?;
            }
            Shop::BackupSite => {
                install.units_and_workload().await?;
                let stores = [catalog::CATALOG, catalog::PRICES];
                catalog::add_all(&install, &stores, "examples/shop/backup-site").await?;
            }
        }
        let hub = install.hub()?.client().await?;
        println!(
            "the stage stands after {:.1?}: servers after {started:.1?}, our programs after {installed:.1?}",
            began.elapsed()
        );
        Ok(Self {
            world,
            install,
            hub,
            audit,
            scratch,
            loads: AtomicU32::default(),
            _turn: turn,
        })
    }

    /// The region of this name.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn region(&self, name: &str) -> Result<&Region> {
        self.world
            .regions
            .iter()
            .find(|region| region.name == name)
            .with_context(|| format!("no region {name}"))
    }

    /// Orders of many users through every router, until it is stopped.
    ///
    /// # Errors
    ///
    /// Where the load cannot start.
    pub fn load(&self, users: u32) -> Result<Load> {
        let load = self.loads.fetch_add(1, Ordering::Relaxed);
        self.load_of(shop::load::users(users, &load.to_string()))
    }

    /// Orders of these users through every router, until it is stopped.
    ///
    /// # Errors
    ///
    /// Where the load cannot start.
    pub fn load_of(&self, users: Vec<String>) -> Result<Load> {
        let routers = self.world.regions.iter().map(Region::router).collect();
        Load::start(LoadOptions {
            routers,
            users,
            think: self.think(),
        })
    }

    /// How long a customer waits after each order.
    fn think(&self) -> Duration {
        let engine = self.world.regions.first().map(|hub| hub.engine).unwrap_or_default();
        THINK * engine.pace()
    }

    /// Orders of these users through the routers of these regions, until it is stopped.
    ///
    /// # Errors
    ///
    /// Where there is no such region, or the load cannot start.
    pub fn load_through(&self, regions: &[&str], users: &[String]) -> Result<Load> {
        let router = |name: &&str| self.region(name).map(Region::router);
        Load::start(LoadOptions {
            routers: regions.iter().map(router).collect::<Result<_>>()?,
            users: users.to_vec(),
            think: self.think(),
        })
    }

    /// The table as the hub holds it.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub async fn table(&self) -> Result<Owners> {
        owners(&self.hub).await
    }

    /// Those of these users whose slots a unit owns.
    ///
    /// # Errors
    ///
    /// Where the table cannot be read.
    pub async fn users_of(&self, all: &[String], unit: &str) -> Result<Vec<String>> {
        Ok(users_of(&self.table().await?, all, unit))
    }

    /// Waits until a MemberCluster is Ready, or not.
    ///
    /// # Errors
    ///
    /// Where that does not happen in time.
    pub async fn until_member(&self, member: &str, ready: bool) -> Result<()> {
        let members: Api<MemberCluster> = Api::all(self.hub.clone());
        let wanted = if ready { "True" } else { "False" };
        wait_for(&members, member, LIMIT, |object| {
            let mut conditions = object.status.as_ref()?.conditions.iter();
            conditions
                .find(|condition| condition.type_ == "Ready" && condition.status == wanted)
                .map(drop)
        })
        .await
        .with_context(|| format!("{member} is Ready={wanted}"))
    }

    /// Moves slots and waits until they have moved.
    ///
    /// # Errors
    ///
    /// Where the Promotion ends otherwise, or not in time.
    pub async fn moved(&self, name: &str, target: &str, select: Value, verify: &str) -> Result<PromotionStatus> {
        create(&self.hub, name, target, select, verify).await?;
        let status = ended(&self.hub, name, LIMIT).await?;
        ensure!(status.outcome.as_deref() == Some("Succeeded"), "{name}: {status:?}");
        Ok(status)
    }

    /// Looks for every acknowledged order; the units are given a moment to hold the same.
    ///
    /// # Errors
    ///
    /// Where a database cannot be read, or an order is not where it belongs.
    pub async fn examine(&self, record: &Record) -> Result<()> {
        let findings = examine(&self.world.regions, &self.table().await?, record).await?;
        ensure!(findings.clean(), "{findings:?}");
        Ok(())
    }

    /// Stops a load, none of whose requests may have failed and none of whose orders may be lost.
    ///
    /// # Errors
    ///
    /// What failed or was lost.
    pub async fn judge(&self, load: Load) -> Result<Record> {
        let record = load.stop().await;
        println!("{}", record.summary());
        let failed = record.attempts.iter().filter(|attempt| attempt.order.is_none());
        let failed: Vec<_> = failed.take(3).collect();
        ensure!(
            record.failures() == 0,
            "{} requests failed, the first: {failed:?}; crashes of databases: {:?}",
            record.failures(),
            self.world.crashes()
        );
        self.examine(&record).await?;
        Ok(record)
    }
}

/// The table as a hub holds it.
///
/// # Errors
///
/// Where it cannot be read.
pub async fn owners(hub: &Client) -> Result<Owners> {
    let api: Api<RoutingTable> = Api::namespaced(hub.clone(), NAMESPACE);
    Ok(Owners::try_from(&api.get(ROUTING_TABLE).await?.spec)?)
}

/// Those of these users whose slots a unit owns.
pub fn users_of(table: &Owners, all: &[String], unit: &str) -> Vec<String> {
    let Some(keyspace) = table.keyspace(&"users".into()) else {
        return Vec::new();
    };
    let owner = |user: &&String| {
        let slot = multiactive_core::hash::Function::Crc32.slot(user.as_bytes(), keyspace.slots);
        let span = keyspace.span_of(slot);
        span.is_some_and(|span| span.is_owned_by(&unit.into()))
    };
    all.iter().filter(owner).cloned().collect()
}

/// Looks for every acknowledged order in the databases of `regions`, by the owners of `table`.
///
/// # Errors
///
/// Where a database cannot be read.
pub async fn examine(regions: &[Region], table: &Owners, record: &Record) -> Result<Findings> {
    let spans = table
        .keyspace(&"users".into())
        .context("the table has no keyspace users")?;
    let owner_of = |user: &str| {
        let slot = multiactive_core::hash::Function::Crc32.slot(user.as_bytes(), spans.slots);
        spans
            .span_of(slot)
            .and_then(|span| span.owner.as_ref())
            .map(|owner| owner.as_str())
    };
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut tick = interval(Duration::from_millis(100));
    loop {
        let mut units = BTreeMap::new();
        for region in regions {
            units.insert(region.unit(), read(&region.place()).await?);
        }
        let findings = check(record, &units, owner_of);
        if findings.clean() || Instant::now() > deadline {
            return Ok(findings);
        }
        tick.tick().await;
    }
}

/// Waits until the load has had `more` further orders acknowledged.
pub async fn orders(load: &Load, more: usize) {
    let goal = load.acknowledged().await + more;
    let mut tick = interval(Duration::from_millis(20));
    while load.acknowledged().await < goal {
        tick.tick().await;
    }
}

/// Waits until a unit has acknowledged an order that was begun after `since`.
///
/// # Errors
///
/// Where that does not happen in time.
pub async fn acknowledges(load: &Load, unit: &str, since: Timestamp) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut tick = interval(Duration::from_millis(50));
    while !load
        .record()
        .await
        .attempts
        .iter()
        .any(|attempt| attempt.began > since && attempt.order.as_ref().is_some_and(|order| order.unit == unit))
    {
        ensure!(Instant::now() < deadline, "no order at {unit} since {since}");
        tick.tick().await;
    }
    Ok(())
}
