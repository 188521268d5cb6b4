//! A real PostgreSQL for each member, with the roles of `roles.sql` and no right more: what works here works with those. It is
//! 18, or what `$MULTIACTIVE_POSTGRES` says, 16 or 17: the same tests hold there, with a function that these have.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod writers;

#[path = "../common/mod.rs"]
mod common;
pub use common::*;
use multiactive_core::ids::UnitName;
pub use multiactive_fleet::postgres::Release;
use multiactive_fleet::postgres::{Options, Postgres as Server};
use multiactive_stores::driver::{KeyspaceSpec, Link, LinkState, Peer, StoreSpec, TableSpec};
use multiactive_stores::postgres::Access;
use multiactive_stores::{Driver, Postgres};
use std::collections::BTreeMap;
use tokio_postgres::{Client, NoTls};

const ROLES: &str = include_str!("../../src/postgres/roles.sql");

const SHOP: &str = "
    CREATE ROLE shop_owner NOLOGIN;
    CREATE ROLE shop_app LOGIN PASSWORD 'change me';
";

const TABLES: &str = "
    CREATE TABLE orders (id text PRIMARY KEY, user_id text NOT NULL, amount integer NOT NULL DEFAULT 1);
    ALTER TABLE orders OWNER TO shop_owner;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON orders TO shop_app;
";

/// One unit's database.
pub struct Member {
    pub server: Server,
    pub driver: Postgres,
    pub unit: UnitName,
}

/// A server with the database `shop`, its roles and an empty table `orders`.
pub async fn shop() -> Server {
    shop_with(Options::default()).await
}

/// The release that the tests run on.
pub fn release() -> Release {
    match std::env::var("MULTIACTIVE_POSTGRES").as_deref() {
        Ok("17") => Release::Seventeen,
        Ok("16") => Release::Sixteen,
        other => {
            assert_eq!(other.unwrap_or("18"), "18", "MULTIACTIVE_POSTGRES may be 16, 17 or 18");
            Release::Newest
        }
    }
}

pub async fn shop_with(options: Options) -> Server {
    shop_of(Options {
        release: release(),
        ..options
    })
    .await
}

/// As [`shop_with`], of the release that the options name.
pub async fn shop_of(options: Options) -> Server {
    let server = Server::start(options).await.unwrap();
    let client = client(&server, "postgres", "postgres").await;
    client.batch_execute("CREATE DATABASE shop").await.unwrap();
    let client = admin(&server).await;
    for sql in [SHOP, ROLES, TABLES] {
        client
            .batch_execute(&sql.replace("change me", server.password()))
            .await
            .unwrap();
    }
    server
}

pub async fn client(server: &Server, user: &str, database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(user, database), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// A superuser in the database `shop`.
pub async fn admin(server: &Server) -> Client {
    client(server, "postgres", "shop").await
}

/// The application in the database `shop`.
pub async fn app(server: &Server) -> Client {
    client(server, "shop_app", "shop").await
}

pub fn spec(unit: &str, peers: &[&str]) -> StoreSpec {
    StoreSpec {
        namespace: "shop".to_owned(),
        store: "orders".into(),
        unit: unit.into(),
        keyspace: KeyspaceSpec {
            name: "users".into(),
            slots: SLOTS,
            function: function(),
            overrides: BTreeMap::from([("vip-1".to_owned(), 7)]),
        },
        tables: vec![TableSpec {
            name: "orders".to_owned(),
            shard_key: Some("user_id".to_owned()),
            last_write: None,
        }],
        peers: peers.iter().map(|peer| UnitName::from(*peer)).collect(),
    }
}

pub fn access(server: &Server) -> Access {
    Access {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        database: "shop".to_owned(),
        user: "multiactive_agent".to_owned(),
        password: server.password().to_owned(),
        tls: None,
    }
}

pub fn driver(server: &Server, unit: &str, peers: &[&str]) -> Postgres {
    Postgres::new(spec(unit, peers), access(server))
}

/// A unit alone, installed.
pub async fn alone() -> Member {
    installed(shop().await).await
}

/// A unit alone, whose commits survive a power failure.
pub async fn alone_durable() -> Member {
    let options = Options {
        fsync: true,
        ..Options::default()
    };
    installed(shop_with(options).await).await
}

async fn installed(server: Server) -> Member {
    let driver = driver(&server, "east-1", &[]);
    driver.install().await.unwrap();
    lease(&driver).await;
    Member {
        server,
        driver,
        unit: "east-1".into(),
    }
}

/// Units with a running link each way, installed, all closed.
pub async fn mesh(units: &[&str]) -> Vec<Member> {
    let servers = futures::future::join_all(units.iter().map(|_| shop())).await;
    let mut members = Vec::new();
    for (server, unit) in servers.into_iter().zip(units) {
        let peers: Vec<_> = units.iter().filter(|peer| *peer != unit).copied().collect();
        let driver = driver(&server, unit, &peers);
        driver.install().await.unwrap();
        lease(&driver).await;
        members.push(Member {
            server,
            driver,
            unit: (*unit).into(),
        });
    }
    link_all(&members).await;
    members
}

/// Makes every link and waits until each one runs.
pub async fn link_all(members: &[Member]) {
    for to in members {
        for from in members.iter().filter(|from| from.unit != to.unit) {
            running(to, from).await;
        }
    }
}

pub fn peer(member: &Member) -> Peer {
    Peer {
        unit: member.unit.clone(),
        host: "127.0.0.1".to_owned(),
        port: member.server.port(),
        user: "multiactive_replication".to_owned(),
        password: member.server.password().to_owned(),
    }
}

/// Calls `link` until the link runs.
pub async fn running(to: &Member, from: &Member) -> Link {
    linked(to, from, |link| link.state == LinkState::Running).await
}

/// Calls `link` until it is as wanted.
pub async fn linked(to: &Member, from: &Member, wanted: impl Fn(&Link) -> bool) -> Link {
    let peer = peer(from);
    until(&format!("the link {} to {}", from.unit, to.unit), async || {
        let link = to.driver.link(&peer).await.unwrap();
        if wanted(&link) {
            Ok(link)
        } else {
            Err(format!("{link:?}"))
        }
    })
    .await
}

pub async fn insert(client: &Client, id: &str, key: &str) -> Result<u64, tokio_postgres::Error> {
    client
        .execute("INSERT INTO orders (id, user_id) VALUES ($1, $2)", &[&id, &key])
        .await
}

/// The SQLSTATE of a failure.
pub fn code<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> String {
    result.unwrap_err().code().unwrap().code().to_owned()
}

pub async fn count(client: &Client) -> i64 {
    client
        .query_one("SELECT count(*) FROM orders", &[])
        .await
        .unwrap()
        .get(0)
}

/// Waits until every member has so many orders.
pub async fn rows_everywhere(members: &[Member], wanted: i64) {
    for member in members {
        let admin = admin(&member.server).await;
        until(&format!("{wanted} rows at {}", member.unit), async || {
            let found = count(&admin).await;
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found} rows"))
            }
        })
        .await;
    }
}

/// The name of the link between two members.
pub async fn name_of(to: &Member, from: &Member) -> String {
    let sql = "SELECT name FROM multiactive.link WHERE from_unit = $1";
    let row = admin(&to.server).await.query_one(sql, &[&from.unit.as_str()]).await;
    row.unwrap().get(0)
}

/// A link stops, as in a network that fails, once so many rows are here.
pub async fn stops(to: &Member, from: &Member, rows: i64) {
    let (here, name) = (admin(&to.server).await, name_of(to, from).await);
    until("the rows", async || match count(&here).await {
        found if found == rows => Ok(()),
        found => Err(format!("{found} rows")),
    })
    .await;
    let stop = format!("ALTER SUBSCRIPTION {name} DISABLE");
    here.batch_execute(&stop).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_subscription WHERE subname = $1::text::name AND pid IS NOT NULL";
    until("the link to stop", async || {
        match here.query_one(sql, &[&name]).await.unwrap().get::<_, i64>(0) {
            0 => Ok(()),
            workers => Err(format!("{workers} workers")),
        }
    })
    .await;
}
