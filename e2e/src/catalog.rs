//! The shop's stores with a single writer, its catalog and its prices: how they come to a fleet, and those who change and read them.

use crate::databases::run;
use crate::http::Http;
use crate::install::Install;
use crate::kube_ext::wait_for;
use crate::region::{Engine, NAMESPACE, Region};
use crate::world::root;
use anyhow::{Context, Result, ensure};
use kube::{Api, Client};
use multiactive_api::{DataStore, WriterStatus};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;
use shop::catalog::Item;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The name of its DataStore, and of its database.
pub const CATALOG: &str = "catalog";

/// The name of the prices' DataStore, and of its database.
pub const PRICES: &str = "prices";

/// The name of the DataStore of the profiles, which several units write, and of its database.
pub const PROFILES: &str = "profiles";

/// What carries a place in a store's log.
const PLACE: &str = "x-multiactive-place";

/// How a region's database of `store` is reached as `postgres`, where it is one of PostgreSQL.
pub fn database(region: &Region, store: &str) -> tokio_postgres::Config {
    let mut config = region.database();
    config.dbname(store);
    config
}

/// Makes the catalog's database in every region, and applies its manifests on the hub.
///
/// # Errors
///
/// Where a server or kubectl refuses.
pub async fn add(install: &Install) -> Result<()> {
    add_all(install, &[CATALOG], "examples/shop/catalog").await
}

/// Makes a database of each of `stores` in every region, and applies a folder's manifests on the hub.
///
/// # Errors
///
/// Where a server or kubectl refuses.
pub async fn add_all(install: &Install, stores: &[&str], folder: &str) -> Result<()> {
    for region in &install.regions {
        for store in stores {
            match region.engine {
                Engine::PostgreSql => prepare_postgres(region, store).await?,
                Engine::MariaDb | Engine::MySql => prepare_mysql_family(region, store).await?,
            }
        }
    }
    let folder = install.moved(folder)?;
    let folder = folder.to_str().context("a path that is no text")?;
    install
        .kubectl(install.hub()?, &["apply", "-k", folder])
        .await
        .map(drop)
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))
}

async fn prepare_postgres(region: &Region, store: &str) -> Result<()> {
    // The roles are the server's, and there already; their rights are each database's.
    let rights = file(Engine::PostgreSql.roles())?;
    let rights = rights.lines().filter(|line| !line.starts_with("CREATE ROLE"));
    let rights = rights
        .collect::<Vec<_>>()
        .join("\n")
        .replace("DATABASE shop", &format!("DATABASE {store}"));
    let (schema, table) = match store {
        PROFILES => ("examples/shop/sql/profiles.sql", "profiles"),
        _ => ("examples/shop/sql/catalog.sql", "items"),
    };
    let schema = file(schema)?;
    run(&region.database(), &format!("CREATE DATABASE {store}")).await?;
    let database = database(region, store);
    run(&database, &rights).await.context("the documented rights")?;
    run(&database, "GRANT CREATE ON SCHEMA public TO shop_owner").await?;
    run(&database, &format!("SET ROLE shop_owner; {schema}")).await?;
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO shop_app");
    run(&database, &grant).await
}

async fn prepare_mysql_family(region: &Region, store: &str) -> Result<()> {
    let server = Conn::new(region.mysql_family()).await;
    let mut server = server.context("connecting to the server")?;
    let rights = file(region.engine.roles())?;
    let rights = rights.lines().filter(|line| line.contains("ON shop.*"));
    let rights = rights.map(|line| line.replace("ON shop.*", &format!("ON {store}.*")));
    let begin = [
        "SET SESSION sql_log_bin = 0".to_owned(),
        format!("CREATE DATABASE {store} CHARACTER SET utf8mb4"),
    ];
    let table = [
        format!("USE {store}"),
        file("examples/shop/sql/catalog_mysql_family.sql")?,
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {store}.* TO shop_app@'%'"),
    ];
    for sql in begin.into_iter().chain(rights).chain(table) {
        server.query_drop(sql).await.context("the store's database")?;
    }
    Ok(server.disconnect().await?)
}

/// Waits until the store is Ready and its writer is as wanted.
///
/// # Errors
///
/// Where that is not so within `limit`.
pub async fn until_writer(
    hub: &Client,
    store: &str,
    limit: Duration,
    is: impl Fn(&WriterStatus) -> bool,
) -> Result<WriterStatus> {
    let stores: Api<DataStore> = Api::namespaced(hub.clone(), NAMESPACE);
    wait_for(&stores, store, limit, |store| {
        let status = store.status.as_ref()?;
        let ready = status
            .conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        status.writer.clone().filter(|writer| ready && is(writer))
    })
    .await
    .with_context(|| format!("the writer of {store}"))
}

/// Those who change and read the items of a store.
pub struct Customers {
    token: CancellationToken,
    tasks: JoinSet<()>,
    record: Arc<Mutex<Seen>>,
    changes: Arc<AtomicUsize>,
}

/// What they saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every change that was acknowledged, in the order of its item.
    pub changed: Vec<Item>,
    /// When the first change that each unit made was acknowledged.
    pub first: std::collections::BTreeMap<String, jiff::Timestamp>,
    /// What went wrong with a change, and when.
    pub failed_changes: Vec<(jiff::Timestamp, String)>,
    /// How many reads were answered, by the region that was asked and the unit that answered.
    pub answered: std::collections::BTreeMap<(String, String), usize>,
    /// What went wrong with a read: the region that was asked, and why.
    pub failed_reads: Vec<(String, String)>,
}

impl Customers {
    /// One who changes an item of his own for each of `items`, through every router in turn, and one who reads in each region.
    pub fn start(regions: &[Region], store: &'static str, items: &[String]) -> Self {
        let (token, record) = (CancellationToken::new(), Arc::new(Mutex::new(Seen::default())));
        let changes: Arc<AtomicUsize> = Arc::default();
        let mut tasks = JoinSet::new();
        let routers: Vec<String> = regions.iter().map(Region::router).collect();
        let engine = regions.first().map(|region| region.engine).unwrap_or_default();
        let pause = Duration::from_millis(100) * engine.pace();
        for (offset, sku) in items.iter().cloned().enumerate() {
            let (routers, token, record, changes) = (routers.clone(), token.clone(), record.clone(), changes.clone());
            tasks.spawn(async move {
                let (http, mut turn) = (Http::default(), offset);
                while !token.is_cancelled() {
                    let began = jiff::Timestamp::now();
                    let changed = change(&http, &routers[turn % routers.len()], store, &sku).await;
                    turn += 1;
                    let mut seen = record.lock().await;
                    match changed {
                        Ok(item) => {
                            changes.fetch_add(1, Ordering::Relaxed);
                            let now = jiff::Timestamp::now();
                            seen.first.entry(item.unit.clone()).or_insert(now);
                            seen.changed.push(item);
                        }
                        Err(error) => seen.failed_changes.push((began, format!("{error:#}"))),
                    }
                    drop(seen);
                    rest(&token, pause).await;
                }
            });
        }
        for region in regions {
            let (name, router, sku) = (region.name.clone(), region.router(), items[0].clone());
            let (token, record) = (token.clone(), record.clone());
            tasks.spawn(async move {
                let http = Http::default();
                while !token.is_cancelled() {
                    let answer = read(&http, &router, store, &sku).await;
                    let mut seen = record.lock().await;
                    match answer {
                        Ok((_, unit)) => *seen.answered.entry((name.clone(), unit)).or_default() += 1,
                        Err(error) => seen.failed_reads.push((name.clone(), format!("{error:#}"))),
                    }
                    drop(seen);
                    rest(&token, pause).await;
                }
            });
        }
        Self {
            token,
            tasks,
            record,
            changes,
        }
    }

    /// Waits until so many more changes were acknowledged.
    pub async fn more(&self, changes: usize) {
        let goal = self.changes.load(Ordering::Relaxed) + changes;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while self.changes.load(Ordering::Relaxed) < goal {
            tick.tick().await;
        }
    }

    /// Lets everybody finish what is under way.
    pub async fn stop(mut self) -> Seen {
        self.token.cancel();
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.record.lock().await)
    }
}

async fn rest(token: &CancellationToken, pause: Duration) {
    let _ = token.run_until_cancelled(tokio::time::sleep(pause)).await;
}

/// Changes an item through a router.
///
/// # Errors
///
/// Where it was not acknowledged.
pub async fn change(http: &Http, router: &str, store: &str, sku: &str) -> Result<Item> {
    changed_at(http, router, store, sku).await.map(|(item, _)| item)
}

/// As [`change`]; and the place in the store's log behind which a read shows it.
///
/// # Errors
///
/// Where it was not acknowledged, or no place was told.
pub async fn changed_at(http: &Http, router: &str, store: &str, sku: &str) -> Result<(Item, String)> {
    let response = http.call("PUT", &format!("{router}/{store}/{sku}")).await?;
    let body = String::from_utf8_lossy(response.body());
    ensure!(response.status().is_success(), "{}: {body}", response.status());
    let place = response.headers().get(PLACE).context("the place of the write")?;
    Ok((serde_json::from_str(&body)?, place.to_str()?.to_owned()))
}

/// Reads an item through a router: what it was, where there is one, and the unit that answered.
///
/// # Errors
///
/// Where it was not answered.
pub async fn read(http: &Http, router: &str, store: &str, sku: &str) -> Result<(Option<Item>, String)> {
    read_behind(http, router, store, sku, None).await
}

/// As [`read`], of what was written up to a place.
///
/// # Errors
///
/// Where it was not answered.
pub async fn read_behind(
    http: &Http,
    router: &str,
    store: &str,
    sku: &str,
    place: Option<&str>,
) -> Result<(Option<Item>, String)> {
    let mut request = http::Request::get(format!("{router}/{store}/{sku}"));
    if let Some(place) = place {
        request = request.header(PLACE, place);
    }
    let response = http.send(request.body("")?).await?;
    let body = String::from_utf8_lossy(response.body());
    ensure!(response.status().is_success(), "{}: {body}", response.status());
    let mut answer: Value = serde_json::from_str(&body)?;
    let unit = answer["answeredBy"].as_str().context("answeredBy")?.to_owned();
    Ok((serde_json::from_value(answer["item"].take())?, unit))
}

impl Seen {
    /// No change was made by two units, none is missing between others of its item, but for those that were lost.
    ///
    /// # Errors
    ///
    /// The first that is there twice, or missing.
    pub fn in_order(&self, items: &[String]) -> Result<()> {
        for sku in items {
            let versions = self
                .changed
                .iter()
                .filter(|item| item.sku == *sku)
                .map(|item| item.version);
            let versions: Vec<_> = versions.collect();
            let first = versions.first().context("no change")?;
            let want: Vec<_> = (*first..).take(versions.len()).collect();
            ensure!(versions == want, "{sku}: {versions:?}");
        }
        Ok(())
    }

    /// The reads that came to `region` and were answered by `unit`.
    pub fn answered(&self, region: &str, unit: &str) -> usize {
        self.answered
            .get(&(region.to_owned(), unit.to_owned()))
            .copied()
            .unwrap_or_default()
    }
}

/// What a region's database of `store` holds of these items.
///
/// # Errors
///
/// Where it cannot be read.
pub async fn held(region: &Region, store: &str, items: &[String]) -> Result<Vec<Item>> {
    let sql = "SELECT sku, version, unit FROM items ORDER BY sku";
    let all: Vec<(String, i64, String)> = match region.engine {
        Engine::PostgreSql => {
            let (client, connection) = database(region, store).connect(tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            let rows = client.query(sql, &[]).await?;
            drop(client);
            connection.await??;
            rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
        }
        Engine::MariaDb | Engine::MySql => {
            let mut client = Conn::new(region.mysql_family().db_name(Some(store))).await?;
            let rows = client.query(sql).await?;
            client.disconnect().await?;
            rows
        }
    };
    let all = all.into_iter().map(|(sku, version, unit)| Item { sku, version, unit });
    Ok(all.filter(|item| items.contains(&item.sku)).collect())
}
