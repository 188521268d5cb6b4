//! A real server for each member, with the users of `roles.sql` and no right more: what works here works with those.

#[path = "../common/mod.rs"]
mod common;
pub use crate::engine::*;
pub use common::*;
use multiactive_core::ids::UnitName;
use multiactive_stores::access::Access;
use multiactive_stores::driver::{KeyspaceSpec, Link, LinkState, Peer, StoreSpec, TableSpec};
use multiactive_stores::{Driver, MySqlFamily};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;

const SHOP: &str = "
    CREATE DATABASE shop CHARACTER SET utf8mb4;
    CREATE TABLE shop.orders (id VARCHAR(190) PRIMARY KEY, user_id VARCHAR(190) NOT NULL, amount INT NOT NULL DEFAULT 1);
    CREATE USER shop_app@'%' IDENTIFIED BY 'change me';
    GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO shop_app@'%'";

/// One unit's server.
pub struct Member {
    pub server: Server,
    pub driver: MySqlFamily,
    pub unit: UnitName,
}

/// A server with the database `shop`, its users and an empty table `orders`.
pub async fn shop() -> Server {
    shop_with(&[]).await
}

/// The same with more settings.
pub async fn shop_with(settings: &[(&str, &str)]) -> Server {
    let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    shop_of(Options {
        settings: settings.collect(),
        ..Options::default()
    })
    .await
}

/// The same made otherwise.
pub async fn shop_of(options: Options) -> Server {
    let server = Server::start(options).await.unwrap();
    let mut admin = admin(&server).await;
    for sql in [ROLES, SHOP].into_iter().chain(FUNCTIONS) {
        admin
            .query_drop(sql.replace("change me", server.password()))
            .await
            .unwrap();
    }
    server
}

pub async fn client(server: &Server, user: &str) -> Conn {
    Conn::from_url(format!("{}?prefer_socket=false", server.url(user, "")))
        .await
        .unwrap()
}

/// Root, whose writes stay out of the log.
pub async fn admin(server: &Server) -> Conn {
    let mut admin = client(server, "root").await;
    admin.query_drop("SET SESSION sql_log_bin = 0").await.unwrap();
    admin
}

/// The application.
pub async fn app(server: &Server) -> Conn {
    let mut app = client(server, "shop_app").await;
    app.query_drop("USE shop").await.unwrap();
    app
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

pub fn driver(server: &Server, unit: &str, peers: &[&str]) -> MySqlFamily {
    new(spec(unit, peers), access(server))
}

/// A unit alone, installed and with a lease.
pub async fn alone() -> Member {
    installed(shop().await, "east-1", &[]).await
}

pub async fn installed(server: Server, unit: &str, peers: &[&str]) -> Member {
    let driver = driver(&server, unit, peers);
    driver.install().await.unwrap();
    lease(&driver).await;
    Member {
        server,
        driver,
        unit: unit.into(),
    }
}

/// Units with a running link each way, installed, all closed.
pub async fn mesh(units: &[&str]) -> Vec<Member> {
    let servers = futures::future::join_all(units.iter().map(|_| shop())).await;
    let mut members = Vec::new();
    for (server, unit) in servers.into_iter().zip(units) {
        let peers: Vec<_> = units.iter().filter(|peer| *peer != unit).copied().collect();
        members.push(installed(server, unit, &peers).await);
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

pub async fn insert(client: &mut Conn, id: &str, key: &str) -> Result<(), mysql_async::Error> {
    let sql = "INSERT INTO orders (id, user_id) VALUES (?, ?)";
    client.exec_drop(sql, (id, key)).await
}

/// The SQLSTATE of a failure.
pub fn code<T: std::fmt::Debug>(result: Result<T, mysql_async::Error>) -> String {
    let error = result.unwrap_err();
    if let mysql_async::Error::Server(error) = error {
        error.state
    } else {
        error.to_string()
    }
}

pub async fn count(client: &mut Conn) -> u64 {
    client
        .query_first("SELECT COUNT(*) FROM shop.orders")
        .await
        .unwrap()
        .unwrap()
}

/// Waits until every member has so many orders.
pub async fn rows_everywhere(members: &[Member], wanted: u64) {
    for member in members {
        let what = format!("{wanted} rows at {}", member.unit);
        until(&what, async || {
            let mut admin = admin(&member.server).await;
            let found = count(&mut admin).await;
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found} rows"))
            }
        })
        .await;
    }
}
