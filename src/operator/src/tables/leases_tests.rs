//! Tests of what is believed of a lost unit's lease.

use super::*;
use crate::fixtures::object;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use multiactive_api::{DataStore, Unit, UnitAssignment};
use serde_json::{Value, json};

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A lease of 10 s that was renewed so often, in the object of this uid, sealed at this epoch.
fn held_lease(uid: &str, renewals: u64, sealed: Option<u64>) -> HeldLease {
    let mut annotations = json!({"multiactive.io/granted": "1.2", "multiactive.io/renewals": renewals.to_string()});
    if let Some(at) = sealed {
        annotations["multiactive.io/sealed-by"] = json!("fo");
        annotations["multiactive.io/sealed-at"] = json!(format!("1.{at}"));
    }
    let object: LeaseObject = serde_json::from_value(json!({
        "metadata": {"name": "shop.a", "uid": uid, "resourceVersion": "5", "annotations": annotations,
            "labels": {"multiactive.io/write-lease": "true"}},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 10},
    }))
    .unwrap();
    held(&object).unwrap()
}

fn noted(uid: &str, renewal: u64, seen: i64) -> Noted {
    Noted {
        object: Some(uid.to_owned()),
        renewal,
        seen: seconds(seen),
        positions: Vec::new(),
        earlier: Vec::new(),
    }
}

/// Unit a, declared so, told so and with such a report; it holds the store `orders`.
fn inputs(declared: &str, told: &str, generation: i64, mut status: Value) -> Inputs {
    let spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1", "onLeaseLoss": declared});
    let lease = json!({"mode": told, "duration": "10s"});
    let mut report: UnitAssignment = object(
        "UnitAssignment",
        "a",
        json!({"unit": "a", "cluster": "c", "lease": lease}),
    );
    status["observedGeneration"] = json!(generation);
    report.status = Some(serde_json::from_value(status).unwrap());
    let store: DataStore = object(
        "DataStore",
        "orders",
        json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL"}, "tables": [],
            "members": [{"unit": "a", "address": "h:1", "credentials": "s"}]}),
    );
    Inputs {
        units: vec![Arc::new(object::<Unit>("Unit", "a", spec))],
        stores: vec![Arc::new(store)],
        reports: [("a".into(), Arc::new(report))].into(),
        ..Inputs::default()
    }
}

fn well() -> Inputs {
    let status = json!({"lease": {"state": "Held"}, "stores": [{"name": "orders", "ready": true}]});
    inputs("Fence", "Fence", 1, status)
}

#[test]
fn a_sealed_lease_is_over_a_patience_after_its_last_renewal_was_seen_and_unknown_where_nobody_saw_it() {
    let patience = Terms::new(seconds(10)).unwrap().patience();
    let sealed = held_lease("one", 7, Some(9));
    let at = Epoch::new(1, 9);
    for (seen, now, want) in [
        (
            vec![noted("one", 7, 100), noted("one", 6, 90)],
            seconds(104),
            LeaseEnd::In(patience - seconds(4)),
        ),
        (
            vec![noted("one", 7, 100)],
            seconds(100) + patience,
            LeaseEnd::Ago(seconds(0)),
        ),
        (
            vec![noted("one", 7, 100)],
            seconds(103) + patience,
            LeaseEnd::Ago(seconds(3)),
        ),
        // Only an earlier one was seen, one of another object, a later one, or none.
        (vec![noted("one", 6, 100)], seconds(900), LeaseEnd::Unknown),
        (vec![noted("two", 7, 100)], seconds(900), LeaseEnd::Unknown),
        (vec![noted("one", 8, 100)], seconds(900), LeaseEnd::Unknown),
        (vec![], seconds(900), LeaseEnd::Unknown),
    ] {
        let got = lease_seen(&"a".into(), &well(), &sealed, &seen, Fences::Seen(None), now);
        assert_eq!(got.sealed, Some((at, want)), "{seen:?} at {now:#}");
    }
    let never = held_lease("one", 0, Some(9));
    let got = lease_seen(
        &"a".into(),
        &well(),
        &never,
        &[noted("one", 0, 100)],
        Fences::Seen(None),
        seconds(900),
    );
    assert_eq!(got.sealed, Some((at, LeaseEnd::Unknown)), "it was made anew");
    let open = lease_seen(
        &"a".into(),
        &well(),
        &held_lease("one", 7, None),
        &[noted("one", 7, 1)],
        Fences::Seen(None),
        seconds(900),
    );
    assert_eq!(open.sealed, None);
}

#[test]
fn a_unit_fences_only_where_all_that_is_known_has_said_so_for_a_whole_lease() {
    let sealed = held_lease("one", 7, Some(9));
    for (since, want) in [
        (None, (Mode::KeepServing, false)),
        (Some(195), (Mode::KeepServing, true)),
        (Some(100), (Mode::Fence, false)),
    ] {
        let got = lease_seen(
            &"a".into(),
            &well(),
            &sealed,
            &[],
            Fences::Seen(since.map(seconds)),
            seconds(200),
        );
        assert_eq!((got.mode, got.fences_soon), want, "since {since:?}");
    }
    // What stands in the record of its failover was seen by an operator that is gone: nobody reports any more.
    let silent = Inputs {
        reports: BTreeMap::new(),
        ..well()
    };
    let (all, none) = (BTreeSet::from(["orders".into()]), BTreeSet::new());
    for (fences, want) in [
        (Fences::Recorded, (Mode::Fence, 0)),
        (Fences::Noted(&all), (Mode::Fence, 0)),
        // A store that came later: whether its database keeps the deadline nobody has said.
        (Fences::Noted(&none), (Mode::Fence, 1)),
        (Fences::Seen(None), (Mode::KeepServing, 1)),
    ] {
        let got = lease_seen(&"a".into(), &silent, &sealed, &[], fences, seconds(200));
        assert_eq!((got.mode, got.unenforced.len()), want, "{fences:?}");
    }
    let status = || json!({"lease": {"state": "Held"}, "stores": []});
    for (inputs, want) in [
        (inputs("Fence", "Fence", 1, status()), true),
        (inputs("KeepServing", "Fence", 1, status()), false),
        (inputs("Auto", "Fence", 1, status()), false),
        (inputs("Fence", "KeepServing", 1, status()), false),
        (inputs("Fence", "Fence", 0, status()), false),
        (Inputs::default(), false),
    ] {
        assert_eq!(fences(&"a".into(), &inputs), want, "{:?}", inputs.reports);
    }
}

#[test]
fn a_store_counts_as_without_a_deadline_unless_its_agent_had_it_in_hand_and_keeps_a_lease() {
    let lease = json!({"state": "Held"});
    for (status, unenforced_stores) in [
        (
            json!({"lease": lease, "stores": [{"name": "orders", "ready": true}]}),
            0,
        ),
        (
            json!({"lease": lease, "stores": [{"name": "orders", "ready": false, "reason": "Unreachable"}]}),
            0,
        ),
        (
            json!({"lease": lease, "stores": [{"name": "orders", "ready": false, "reason": "Other"}]}),
            1,
        ),
        (json!({"lease": lease, "stores": []}), 1),
        (json!({"stores": [{"name": "orders", "ready": true}]}), 1),
    ] {
        let inputs = inputs("Fence", "Fence", 1, status.clone());
        assert_eq!(unenforced(&"a".into(), &inputs).len(), unenforced_stores, "{status}");
    }
}

#[test]
fn what_an_earlier_table_wanted_is_not_written_over_what_a_later_one_did() {
    let sealed_at = |at| {
        LeaseWanted::Sealed(multiactive_core::lease::Seal {
            by: "fo".into(),
            at: Epoch::new(1, at),
        })
    };
    let granted_at = |at| LeaseWanted::Granted { at: Epoch::new(1, at) };
    let unit = "a".into();
    for (found, wanted, writes) in [
        (held_lease("one", 7, None), sealed_at(9), true),
        (held_lease("one", 7, None), sealed_at(1), false),
        (held_lease("one", 7, Some(9)), sealed_at(9), false),
        (held_lease("one", 7, Some(9)), sealed_at(11), true),
        (held_lease("one", 7, Some(9)), granted_at(9), false),
        (held_lease("one", 7, Some(9)), granted_at(10), true),
    ] {
        assert_eq!(
            next(Some(&found), &unit, &wanted).is_some(),
            writes,
            "{found:?} {wanted:?}"
        );
    }
    assert!(
        next(None, &unit, &granted_at(10)).is_none(),
        "one to grant is made elsewhere"
    );
    let (made, length) = next(None, &unit, &sealed_at(9)).unwrap();
    assert!(
        made.sealed.is_some() && length == LONGEST,
        "where there is none, one is made that nobody renews"
    );
}
