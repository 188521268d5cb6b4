//! From manifests to a served table, and Promotions to their ends, on real API servers.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use multiactive_api::{self as api, ROUTING_TABLE};
use serde_json::json;
use support::{NAMESPACE, Operator, World, condition, eventually, keyspace, namespaced, range, show, unit_object};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_deployment_from_manifests_to_promotions() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "one").await;
    world.shop().await;
    world.served().await;
    projections_are_equal_and_come_back(&world).await;
    a_promotion_moves_a_range(&world).await;
    refusals(&world).await;
    bad_ranges_keep_the_last_good_table(&world).await;
    a_unit_that_owns_slots_is_held(&world).await;
    statuses_have_caught_up(&world).await;
    operator.stop().await;
    let operator = a_restart_writes_nothing(&world).await;
    a_deleted_record_comes_back_above_all_epochs(&world).await;
    operator.stop().await;
}

async fn projections_are_equal_and_come_back(world: &World) {
    let copies: Api<api::RoutingTable> = Api::namespaced(world.member.clone(), NAMESPACE);
    let equal = async || {
        let (record, copy) = (world.table().await?, copies.get_opt(ROUTING_TABLE).await.unwrap()?);
        (record.spec == copy.spec).then_some(())
    };
    eventually("the member holds the record", equal).await;
    copies.delete(ROUTING_TABLE, &DeleteParams::default()).await.unwrap();
    eventually("the deleted copy is back", equal).await;
    let patch = Patch::Merge(json!({"spec": {"units": []}}));
    copies
        .patch(ROUTING_TABLE, &PatchParams::default(), &patch)
        .await
        .unwrap();
    eventually("the altered copy is put right", equal).await;
    let links: Api<api::ReplicationLink> = world.namespaced();
    eventually("both links run", async || {
        let links = links.list(&Default::default()).await.unwrap().items;
        let running = links
            .iter()
            .filter(|l| l.status.as_ref().is_some_and(|s| s.state.as_deref() == Some("Running")));
        (running.count() == 2).then_some(())
    })
    .await;
}

async fn a_promotion_moves_a_range(world: &World) {
    let select = json!({"type": "Ranges", "ranges": ["users-0"]});
    let spec = json!({"targetUnit": "north-1", "select": select, "mode": "Plan"});
    world.apply(namespaced("Promotion", "plan", spec)).await;
    let plan = world.ended("plan").await.plan.unwrap();
    assert_eq!(plan.blockers, Vec::<String>::new());
    assert_eq!(plan.moves[0].slots, "0-7");
    world
        .promote("move", "north-1", select.clone(), plan.expected_epoch)
        .await;
    let status = world.ended("move").await;
    assert_eq!(status.outcome.as_deref(), Some("Succeeded"), "{}", show(&status));
    assert_eq!(world.owners().await, ["0-7 north-1 Serving", "8-15 north-1 Serving"]);
    let steps: Vec<_> = status.history.iter().map(|entry| entry.step.as_str()).collect();
    let all = [
        "Check", "Prepare", "Verify", "Hold", "Fence", "Drain", "Commit", "Open", "Settle",
    ];
    assert_eq!(steps, all);
    assert_eq!(status.from.as_deref(), Some("east-1"));
    assert!(
        status.pause.is_some() && status.epoch.is_some() && status.waiting_for.is_none(),
        "{}",
        show(&status)
    );
    eprintln!(
        "pause of one promotion with doubles of agents: {}",
        status.pause.unwrap()
    );
    eventually("the finalizer is gone and the range says where it is", async || {
        let promotion: api::Promotion = world.namespaced().get("move").await.unwrap();
        let range: api::ShardRange = world.namespaced().get("users-0").await.unwrap();
        let status = range.status?;
        let there = status.active.as_deref() == Some("north-1") && status.away;
        (promotion.finalizers().is_empty() && there).then_some(())
    })
    .await;
}

async fn refusals(world: &World) {
    let select = json!({"type": "Ranges", "ranges": ["users-0"]});
    let now = world.epoch().await;
    world.promote("again", "north-1", select.clone(), now).await;
    assert_eq!(world.outcome("again").await, "Refused/AlreadyOwner");
    world.promote("stale", "east-1", select.clone(), 1).await;
    assert_eq!(world.outcome("stale").await, "Refused/Stale");
    world.promote("nowhere", "west-1", select.clone(), now).await;
    assert_eq!(world.outcome("nowhere").await, "Refused/UnknownUnit");
    let mut cordoned = unit_object("east-1", "east");
    cordoned["spec"]["cordoned"] = true.into();
    world.apply(cordoned).await;
    world.promote("cordoned", "east-1", select.clone(), now).await;
    assert_eq!(world.outcome("cordoned").await, "Refused/TargetCordoned");
    world.apply(unit_object("east-1", "east")).await;

    let promotions: Api<api::Promotion> = world.namespaced();
    promotions.delete("move", &DeleteParams::default()).await.unwrap();
    eventually("it is deleted", async || {
        promotions.get_opt("move").await.unwrap().is_none().then_some(())
    })
    .await;
    world.promote("move", "north-1", select.clone(), now).await;
    assert_eq!(world.outcome("move").await, "Refused/AlreadyDone");

    // Two on the same slots at once: one moves them, the other is refused, or comes later and is stale.
    let now = world.epoch().await;
    let (_, _) = tokio::join!(
        world.promote("first", "east-1", select.clone(), now),
        world.promote(
            "second",
            "east-1",
            json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "0-3"}}),
            now
        ),
    );
    let mut both = [world.outcome("first").await, world.outcome("second").await];
    both.sort();
    let second = both[0].as_str();
    assert!(
        both[1] == "Succeeded" && ["Refused/SlotsBusy", "Refused/Stale"].contains(&second),
        "{both:?}"
    );
}

async fn bad_ranges_keep_the_last_good_table(world: &World) {
    let before = world.owners().await;
    for (bad, reason) in [
        (range("users-0", 0, 9, "east-1"), "RangesOverlap"),
        (range("users-0", 0, 5, "east-1"), "RangesLeaveGap"),
        (range("users-0", 0, 7, "west-1"), "UnknownUnit"),
    ] {
        world.apply(bad).await;
        let status = eventually(&format!("the keyspace says {reason}"), async || {
            let keyspace: api::Keyspace = world.namespaced().get("users").await.unwrap();
            let status = keyspace.status?;
            let found = condition(&status.conditions, "Ready")?;
            (found == format!("False {reason}")).then_some(status)
        })
        .await;
        let message = &status.conditions[0].message;
        assert!(
            message.contains("users-0") && message.contains("last good table"),
            "{message}"
        );
        assert_eq!(world.owners().await, before);
    }
    world.apply(range("users-0", 0, 7, "east-1")).await;
    world.apply(keyspace()).await;
    eventually("the keyspace is Ready again", async || {
        let keyspace: api::Keyspace = world.namespaced().get("users").await.unwrap();
        condition(&keyspace.status?.conditions, "Ready")?
            .eq("True Published")
            .then_some(())
    })
    .await;
    assert_eq!(world.owners().await, before);
}

async fn a_unit_that_owns_slots_is_held(world: &World) {
    let units: Api<api::Unit> = world.namespaced();
    units.delete("north-1", &DeleteParams::default()).await.unwrap();
    eventually("the unit says what to do", async || {
        let unit = units.get("north-1").await.unwrap();
        condition(&unit.status?.conditions, "Ready")?
            .eq("False OwnsSlots")
            .then_some(())
    })
    .await;
    let members: Api<api::MemberCluster> = Api::all(world.hub.clone());
    members.delete("north", &DeleteParams::default()).await.unwrap();
    eventually("the member says what to do", async || {
        let member = members.get("north").await.unwrap();
        condition(&member.status?.conditions, "Ready")?
            .eq("False OwnsSlots")
            .then_some(())
    })
    .await;
    let now = world.epoch().await;
    world
        .promote("empty-north", "east-1", json!({"type": "Unit", "unit": "north-1"}), now)
        .await;
    assert_eq!(world.outcome("empty-north").await, "Succeeded");
    // Ranges are told of last, for there may be thousands.
    let ranges: Api<api::ShardRange> = world.namespaced();
    eventually("the last range says so", async || {
        let status = ranges.get("users-1").await.unwrap().status?;
        (status.active.as_deref() == Some("east-1") && status.state.as_deref() == Some("Serving")).then_some(())
    })
    .await;
    eventually("both are gone", async || {
        let (unit, member) = (
            units.get_opt("north-1").await.unwrap(),
            members.get_opt("north").await.unwrap(),
        );
        (unit.is_none() && member.is_none()).then_some(())
    })
    .await;
    let assignments: Api<api::UnitAssignment> = Api::namespaced(world.member.clone(), NAMESPACE);
    assert!(
        assignments.get_opt("north-1").await.unwrap().is_none(),
        "its assignment stayed in the member"
    );
    world.apply(support::member_cluster("north")).await;
    world.apply(unit_object("north-1", "north")).await;
    eventually("the unit is back", async || {
        let unit = units.get("north-1").await.unwrap();
        condition(&unit.status?.conditions, "Ready")?
            .eq("True Standby")
            .then_some(())
    })
    .await;
}

/// Until the statuses tell of the newest table and of the member that came back.
async fn statuses_have_caught_up(world: &World) {
    eventually("the statuses have caught up", async || {
        let epoch = format!("1.{}", world.epoch().await);
        for unit in ["east-1", "north-1"] {
            let unit: api::Unit = world.namespaced().get(unit).await.unwrap();
            unit.status?.applied.filter(|applied| *applied == epoch)?;
        }
        let links = world
            .namespaced::<api::ReplicationLink>()
            .list(&Default::default())
            .await;
        for link in links.unwrap() {
            let conditions = link.status?.conditions;
            let mut conditions = conditions.iter();
            conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
        }
        let region = Api::<api::Region>::all(world.hub.clone()).get("north").await.unwrap();
        (region.status?.ready_members == 1).then_some(())
    })
    .await;
}

/// Versions of everything that the operator writes in the hub and in the member, leases and events aside.
async fn versions(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    macro_rules! list {
        ($($api:expr),+) => {$(
            for object in $api.list(&Default::default()).await.unwrap().items {
                all.push(format!("{} {}", object.name_any(), object.resource_version().unwrap()));
            }
        )+};
    }
    list!(
        world.namespaced::<api::RoutingTable>(),
        world.namespaced::<api::Unit>(),
        world.namespaced::<api::Keyspace>(),
        world.namespaced::<api::ShardRange>(),
        world.namespaced::<api::DataStore>(),
        world.namespaced::<api::ReplicationLink>(),
        world.namespaced::<api::Promotion>(),
        world.namespaced::<api::UnitAssignment>(),
        Api::<api::MemberCluster>::all(world.hub.clone()),
        Api::<api::Region>::all(world.hub.clone()),
        Api::<api::RoutingTable>::namespaced(world.member.clone(), NAMESPACE),
        Api::<api::UnitAssignment>::namespaced(world.member.clone(), NAMESPACE)
    );
    all
}

async fn a_restart_writes_nothing(world: &World) -> Operator {
    // What was under way at the first look may be written after it, by the one before: that is not written at the next one.
    for turn in 1..=3 {
        let before = versions(world).await;
        let operator = Operator::start(&world.hub, "two").await;
        // It has looked at everything once it has done something new: a plan.
        let name = format!("after-restart-{turn}");
        let spec = json!({"targetUnit": "north-1", "select": {"type": "Unit", "unit": "east-1"}, "mode": "Plan"});
        world.apply(namespaced("Promotion", &name, spec)).await;
        eventually("the plan finds nothing in the way", async || {
            world.ended(&name).await.plan.map(drop)
        })
        .await;
        let own = format!("{name} ");
        let after = versions(world).await.into_iter().filter(|v| !v.starts_with(&own));
        let after: Vec<_> = after.collect();
        if after == before {
            return operator;
        }
        assert!(turn < 3, "{after:?} after {before:?}");
    }
    unreachable!("the last turn returns or fails")
}

async fn a_deleted_record_comes_back_above_all_epochs(world: &World) {
    let (owners, epoch) = (world.owners().await, world.epoch().await);
    let records: Api<api::RoutingTable> = world.namespaced();
    records.delete(ROUTING_TABLE, &DeleteParams::default()).await.unwrap();
    let table = eventually("the record is back", async || world.table().await).await;
    assert_eq!(world.owners().await, owners);
    assert!(
        table.spec.term == 2 && table.spec.epoch > epoch,
        "{}.{}",
        table.spec.term,
        table.spec.epoch
    );
    let events: Api<Event> = world.namespaced();
    eventually("it is told", async || {
        let all = events.list(&ListParams::default()).await.ok()?.items;
        let restored = |event: &Event| {
            let about = event.regarding.as_ref().and_then(|about| about.uid.as_ref());
            event.reason.as_deref() == Some("RecordRestored") && about == table.metadata.uid.as_ref()
        };
        all.iter().any(restored).then_some(())
    })
    .await;
}
