//! Crashes under load, in a mesh without filters: whoever is killed, what was acknowledged is everywhere in the end, once.

use super::support::*;
use multiactive_core::slots::SlotSet;
use multiactive_stores::Driver;
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Writes to slots of one unit until it is told to stop, through crashes; keeps what was acknowledged.
async fn write(port_of: Arc<Member>, first: u16, stop: Arc<AtomicBool>, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        let url = format!("{}?prefer_socket=false", port_of.server.url("shop_app", "shop"));
        let Ok(mut client) = mysql_async::Conn::from_url(url).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            round += 1;
            let id = format!("{}-{first}-{round}", port_of.unit);
            let key = key_of(first + round % 40, 0);
            if insert(&mut client, &id, &key).await.is_err() || stop.load(Ordering::SeqCst) {
                break;
            }
            acknowledged.lock().unwrap().insert(id);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_what_was_acknowledged_is_everywhere() {
    let members: Vec<_> = mesh(&["east-1", "north-1", "south-1"])
        .await
        .into_iter()
        .map(Arc::new)
        .collect();
    let slots = |number: usize| SlotSet::range(80 * number as u16, 80 * number as u16 + 79);
    let (stop, acknowledged) = (
        Arc::new(AtomicBool::new(false)),
        Arc::<Mutex<BTreeSet<String>>>::default(),
    );
    let mut writers = Vec::new();
    for (number, member) in members.iter().enumerate() {
        member
            .driver
            .apply(epoch(1), &[open(slots(number), 1)], LIMITS)
            .await
            .unwrap();
        for half in [0, 40] {
            let first = 80 * number as u16 + half;
            writers.push(tokio::spawn(write(
                member.clone(),
                first,
                stop.clone(),
                acknowledged.clone(),
            )));
        }
    }
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let number = round % 3;
        let victim = &members[number];
        victim.server.kill_9().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        victim.server.restart().await.unwrap();
        let before = acknowledged.lock().unwrap().len();
        assert!(before > 0);
        victim
            .driver
            .apply(epoch(1), &[open(slots(number), 1)], LIMITS)
            .await
            .unwrap();
        lease(&victim.driver).await;
        // Its links are made again one after the other; the first brings what the second one lacks.
        for from in members.iter().filter(|from| from.unit != victim.unit) {
            running(victim, from).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    for to in &members {
        for from in members.iter().filter(|from| from.unit != to.unit) {
            running(to, from).await;
        }
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 300, "only {} writes", acknowledged.len());
    for member in &members {
        let what = format!("what was acknowledged at {}", member.unit);
        until(&what, async || {
            let ids: Vec<String> = admin(&member.server)
                .await
                .query("SELECT id FROM shop.orders")
                .await
                .unwrap();
            let ids: BTreeSet<_> = ids.into_iter().collect();
            let missing = acknowledged.difference(&ids).count();
            if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} missing"))
            }
        })
        .await;
    }
    // And they are the same rows, those too whose writer got no answer.
    until("equal rows", async || {
        let range = Default::default();
        let mut sums = Vec::new();
        for member in &members {
            sums.push(
                member
                    .driver
                    .checksum(&all(), &range, Duration::from_secs(10))
                    .await
                    .unwrap(),
            );
        }
        if sums.windows(2).all(|two| two[0] == two[1]) {
            Ok(())
        } else {
            Err("they differ".to_owned())
        }
    })
    .await;
}
