//! What a member of MySQL copied it cannot hand on: nobody misses it by that.

use crate::support::*;
use crate::writers::stop_links;
use multiactive_stores::Driver;
use multiactive_stores::driver::LinkState;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_copied_comes_from_its_own_unit_before_the_peers_link_goes_on() {
    let members = mesh(&["east-1", "north-1", "south-1"]).await;
    let [east, north, south] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut writer = app(&east.server).await;
    insert(&mut writer, "first", &key_of(1, 0)).await.unwrap();
    rows_everywhere(&members, 1).await;
    for member in [north, south] {
        stop_links(member).await;
    }
    for id in ["second", "third"] {
        insert(&mut writer, id, &key_of(2, 0)).await.unwrap();
    }
    let copied = north.driver.reseed(&peer(east), Duration::from_secs(60)).await.unwrap();
    assert_eq!(copied.written, 2);
    running(north, east).await;
    let waits = |link: &multiactive_stores::driver::Link| matches!(&link.state, LinkState::Broken(why) if why.contains("copied the rows"));
    let link = linked(south, north, waits).await;
    assert_eq!(link.gap, None, "nothing is missing yet");
    running(south, east).await;
    rows_everywhere(&members, 3).await;
    running(south, north).await;
    // Where its own unit is lost, they come from nobody, which is a gap until they are copied.
    for member in [north, south] {
        stop_links(member).await;
    }
    insert(&mut writer, "fourth", &key_of(2, 0)).await.unwrap();
    north.driver.reseed(&peer(east), Duration::from_secs(60)).await.unwrap();
    south.driver.cut(&east.unit, &op("f"), epoch(2)).await.unwrap();
    let link = linked(south, north, |link| link.gap.is_some()).await;
    assert!(link.lacking.is_some(), "a copy ends it: {link:?}");
}
