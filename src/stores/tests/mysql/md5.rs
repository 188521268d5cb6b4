//! A keyspace whose function is Md5 needs a component of the server.

use crate::support::*;
use multiactive_core::hash::Function;
use multiactive_stores::{Driver, Error};
use mysql_async::prelude::Queryable;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_the_keyspaces_function_is_refused_with_what_to_run() {
    let server = shop().await;
    let mut admin = admin(&server).await;
    let remove = "UNINSTALL COMPONENT 'file://component_classic_hashing'";
    admin.query_drop(remove).await.unwrap();
    let mut spec = spec("east-1", &[]);
    spec.keyspace.function = Function::Md5;
    let driver = new(spec, access(&server));
    let refused = driver.install().await;
    let Err(Error::Setting { name, wanted, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*name, "component_classic_hashing");
    let (_, statement) = wanted.split_once(": ").unwrap();
    admin.query_drop(statement).await.unwrap();
    driver.install().await.unwrap();
    let amiss = driver.inspect().await.unwrap().amiss;
    assert!(amiss.is_empty(), "{amiss:?}");
}
