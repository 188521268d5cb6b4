//! Checksums tell equal members from others.

use super::support::*;
use super::*;

/// Every member has the same rows, by slot and by range of keys.
pub(super) async fn equal_checksums(members: &[Member]) {
    until("equal checksums", async || {
        let mut all = Vec::new();
        for member in members {
            all.push(
                member
                    .driver
                    .checksum(&support::all(), &KeyRange::default(), LONG)
                    .await
                    .unwrap(),
            );
        }
        if all.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(())
        } else {
            Err("they differ".to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_find_each_kind_of_difference() {
    let member = alone().await;
    set_all(&member.driver, true, 1).await;
    let admin = admin(&member.server).await;
    for number in 0..50 {
        insert(&admin, &number.to_string(), &key_of(number % 5, usize::from(number)))
            .await
            .unwrap();
    }
    let slots = SlotSet::range(0, 9);
    let everything = KeyRange::default();
    let sum = async |range: &KeyRange| member.driver.checksum(&slots, range, LONG).await.unwrap();
    let before = sum(&everything).await;
    assert_eq!((before.rows, before.sums.len()), (50, 10));
    assert!(before.sums[&0] != 0 && before.sums[&9] == 0, "{before:?}");
    assert_eq!(sum(&everything).await, before, "twice the same");

    // Two ranges of keys make the whole.
    let low = KeyRange {
        from: None,
        to: Some("u3".to_owned()),
    };
    let high = KeyRange {
        from: Some("u3".to_owned()),
        to: None,
    };
    let (low, high) = (sum(&low).await, sum(&high).await);
    assert!(low.rows > 0 && high.rows > 0);
    assert_eq!(low.rows + high.rows, before.rows);
    for slot in slots.iter() {
        assert_eq!(
            low.sums[&slot].wrapping_add(high.sums[&slot]),
            before.sums[&slot],
            "slot {slot}"
        );
    }
    for (what, sql, undo) in [
        (
            "a value",
            "UPDATE orders SET amount = 2 WHERE id = '7'",
            "UPDATE orders SET amount = 1 WHERE id = '7'",
        ),
        ("a row less", "DELETE FROM orders WHERE id = '7'", ""),
    ] {
        admin.batch_execute(sql).await.unwrap();
        let after = sum(&everything).await;
        let differing: Vec<_> = slots
            .iter()
            .filter(|slot| after.sums[slot] != before.sums[slot])
            .collect();
        assert_eq!(differing, [2], "{what}");
        admin.batch_execute(undo).await.unwrap();
    }
}
