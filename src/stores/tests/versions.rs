//! Releases before 18 as members: what they cannot compute is refused in words, and they follow newer ones and are followed.
//! Whether everything else holds on one of them, the other tests say: `make test-versions` runs those on it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod support;

use multiactive_core::hash::Function;
use multiactive_fleet::postgres::{Options, Postgres as Server};
use multiactive_stores::driver::StoreSpec;
use multiactive_stores::{Driver, Error, Postgres};
use std::time::Duration;
use support::*;

async fn shop_on(release: Release) -> Server {
    let options = Options {
        release,
        ..Options::default()
    };
    shop_of(options).await
}

fn spec_with(function: Function, unit: &str, peers: &[&str]) -> StoreSpec {
    let mut spec = spec(unit, peers);
    spec.keyspace.function = function;
    spec
}

#[ignore = "make test-versions: older releases come by npm"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_a_server_has_not_built_in_is_refused_with_what_to_do() {
    for (release, number) in [(Release::Sixteen, "16."), (Release::Seventeen, "17.")] {
        let server = shop_on(release).await;
        let crc32 = Postgres::new(spec_with(Function::Crc32, "east-1", &[]), access(&server));
        let told = crc32.install().await.unwrap_err();
        assert!(matches!(told, Error::FunctionMissing { .. }), "{told}");
        assert_eq!(told.reason(), "FunctionMissing");
        let told = told.explain();
        let version = format!("PostgreSQL {number}");
        for part in [
            "store orders",
            "unit east-1",
            "keyspace users",
            "Crc32",
            version.as_str(),
            "upgrade that server to PostgreSQL 18",
            "Md5",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let untouched = "SELECT to_regnamespace('multiactive') IS NULL";
        let row = admin(&server).await.query_one(untouched, &[]).await.unwrap();
        assert!(row.get::<_, bool>(0), "nothing was installed");

        let md5 = Postgres::new(spec_with(Function::Md5, "east-1", &[]), access(&server));
        md5.install().await.unwrap();
        assert!(md5.inspect().await.unwrap().version.starts_with(number));
        // One that has it now would lose it: it was restored on an older server.
        let seen = crc32.inspect().await.unwrap_err();
        assert!(matches!(seen, Error::FunctionMissing { .. }), "{seen}");
    }
}

#[ignore = "make test-versions: older releases come by npm"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_different_releases_follow_each_other() {
    let units = ["east-1", "north-1", "south-1"];
    let releases = [Release::Sixteen, Release::Seventeen, Release::Newest];
    let mut members = Vec::new();
    for (unit, release) in units.into_iter().zip(releases) {
        let server = shop_on(release).await;
        let peers: Vec<_> = units.into_iter().filter(|peer| *peer != unit).collect();
        let driver = Postgres::new(spec_with(Function::Md5, unit, &peers), access(&server));
        driver.install().await.unwrap();
        lease(&driver).await;
        let unit = unit.into();
        members.push(Member { server, driver, unit });
    }
    link_all(&members).await;
    // Everyone owns all in turn, the oldest first and last: what each writes is everywhere before the next one opens.
    let mut at = 1;
    set_all(&members[0].driver, true, at).await;
    let mut rows = 0;
    for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2)] {
        let app = app(&members[from].server).await;
        for number in 0..20 {
            insert(&app, &format!("{at}-{number}"), &format!("u{number}"))
                .await
                .unwrap();
            rows += 1;
        }
        let uid = op(&format!("move-{at}"));
        let fenced = members[from]
            .driver
            .fence(&uid, epoch(at + 1), &all(), LIMITS)
            .await
            .unwrap();
        let positions = [fenced.position];
        for member in members.iter().filter(|member| member.unit != members[from].unit) {
            let waited = member
                .driver
                .wait_for(&uid, epoch(at + 1), &positions, true, Duration::from_secs(30))
                .await;
            assert_eq!(
                waited.unwrap(),
                multiactive_stores::driver::Waited::Reached,
                "{}",
                member.unit
            );
        }
        at += 2;
        let mut brought = open(all(), at);
        brought.brought_by = Some(uid);
        members[to].driver.apply(epoch(at), &[brought], LIMITS).await.unwrap();
        extend(&members[to].driver, Duration::from_secs(1800))
            .await
            .expect("a lease");
    }
    rows_everywhere(&members, rows).await;
}
