//! A world for the agent's tests: a real API server with the real definitions, a real PostgreSQL for each unit with the
//! roles that we ask users for, agents, routers over real TLS. The test plays the operator: it records steps with the
//! core's own functions and publishes the table.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

pub mod failover;
pub mod router;
pub mod slow;
pub mod steps;
pub mod world;
pub mod writes;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use multiactive_fleet::cluster::{Cluster, Options};
use multiactive_fleet::postgres::{Options as DatabaseOptions, Postgres as Server};
use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The definitions' group.
pub const TESTER: &str = "test";

const ROLES: &str = include_str!("../../../stores/src/postgres/roles.sql");

const SHOP: &str = "
    CREATE ROLE shop_owner NOLOGIN;
    CREATE ROLE shop_app LOGIN PASSWORD 'change me';
";

pub const TABLES: &str = "
    CREATE TABLE orders (id text PRIMARY KEY, user_id text NOT NULL);
    ALTER TABLE orders OWNER TO shop_owner;
    GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO shop_app;
    GRANT USAGE ON SCHEMA public TO shop_app;
";

/// The API server that the tests of one file share.
pub async fn shared_cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| new_cluster("agent-tests")).await
}

/// An API server of its own, with our definitions.
pub async fn new_cluster(name: &str) -> Cluster {
    multiactive_runtime::logs::init();
    let cluster = Cluster::start(Options::api_server_only(name)).await.unwrap();
    let client = cluster.client().await.unwrap();
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for crd in multiactive_api::crd::all().unwrap() {
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply(TESTER), &Patch::Apply(&crd))
            .await
            .unwrap();
        await_condition(api.clone(), &name, is_crd_established()).await.unwrap();
    }
    cluster
}

/// Creates a namespace.
pub async fn namespace(client: &Client, name: &str) {
    let mut object = Namespace::default();
    object.metadata.name = Some(name.to_owned());
    let created = Api::all(client.clone()).create(&PostParams::default(), &object).await;
    created.unwrap();
}

/// Writes the Secret of a unit's store: these keys and no others.
pub async fn secret(client: &Client, namespace: &str, name: &str, pairs: &[(&str, &str)]) {
    // Not stringData: keys that it does not name any more would stay.
    let data = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    let mut object = Secret {
        data: Some(data.collect()),
        ..Secret::default()
    };
    object.metadata.name = Some(name.to_owned());
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::apply(TESTER).force(), &Patch::Apply(&object))
        .await
        .unwrap();
}

/// A server with the database `shop`, its roles and an empty table `orders`.
pub async fn database() -> Server {
    let server = Server::start(DatabaseOptions::default()).await.unwrap();
    let client = session(&server, "postgres", "postgres").await.unwrap();
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

/// A session as this user.
pub async fn session(
    server: &Server,
    user: &str,
    database: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&server.url(user, database), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A superuser in the database `shop`.
pub async fn admin(server: &Server) -> tokio_postgres::Client {
    session(server, "postgres", "shop").await.unwrap()
}

/// Asks until there is an answer.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(not_yet) => assert!(start.elapsed() < LIMIT, "waited in vain for {what}: {not_yet:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
