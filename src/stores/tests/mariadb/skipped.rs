//! A server of MariaDB skips a transaction in silence where a link was stopped in the midst of passing over another one.

use crate::support::*;
use mysql_async::prelude::Queryable;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_was_stopped_while_it_passed_over_a_transaction_skips_no_other() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut here = admin(&north.server).await;
    // As the server leaves it where a link is stopped in the midst of what another one has brought.
    let name = channels(&mut here).await.remove(0).name;
    for sql in [
        STOP_LINKS.to_owned(),
        format!("SET SESSION default_master_connection = '{name}'"),
        "SET GLOBAL sql_slave_skip_counter = 1".to_owned(),
    ] {
        here.query_drop(sql).await.unwrap();
    }
    let mut writer = app(&east.server).await;
    for id in ["first", "second"] {
        insert(&mut writer, id, &key_of(1, 0)).await.unwrap();
    }
    running(north, east).await;
    rows_everywhere(&members, 2).await;
}
