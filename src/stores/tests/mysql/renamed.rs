//! A server of MySQL that has another name than before, as a copy without its `auto.cnf`, or one that was restored.

use crate::support::*;
use multiactive_stores::Driver;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_name_goes_on_as_another_database() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    insert(&mut app(&east.server).await, "before", "u1").await.unwrap();
    rows_everywhere(&members, 1).await;
    let before = east.driver.progress().await.unwrap();
    east.server.stop().await;
    std::fs::remove_file(east.server.data().join("auto.cnf")).unwrap();
    east.server.restart().await.unwrap();
    let seen = east.driver.inspect().await.unwrap();
    assert!(
        seen.open.is_empty() && seen.lease.is_none(),
        "it begins closed: {seen:?}"
    );
    let after = east.driver.progress().await.unwrap();
    assert_eq!(
        after.covers(&before),
        None,
        "positions of two logs are not compared: {after:?}"
    );
    let link = running(north, east).await;
    assert!(
        link.gap.is_some_and(|gap| gap.contains("goes on as another database")),
        "what it wrote before may be missing"
    );
    lease(&east.driver).await;
    east.driver.apply(epoch(1), &[open(all(), 1)], LIMITS).await.unwrap();
    insert(&mut app(&east.server).await, "after", "u1").await.unwrap();
    rows_everywhere(&members, 2).await;
}
