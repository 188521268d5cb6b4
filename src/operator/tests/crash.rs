//! The operator's program, killed at each of its failpoints during a Promotion and started again: the Promotion ends,
//! and every slot has one owner that serves it.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use kube::api::Api;
use multiactive_api as api;
use multiactive_operator::failpoints::FAILPOINTS;
use serde_json::json;
use support::program::{Program, Start};
use support::{World, eventually};

const AT_EAST: &str = "0-7 east-1 Serving";
const AT_NORTH: &str = "0-7 north-1 Serving";

fn start(world: &World, failpoint: Option<&str>) -> Program {
    let kubeconfig = world.east.kubeconfig_path();
    let start = Start::new(&kubeconfig, "crash");
    Start { failpoint, ..start }.run()
}

/// Names and how often they are passed before the kill: the promotion's steps pass the same places again and again.
fn kills() -> Vec<String> {
    let steps = [
        "step-before-commit",
        "step-after-commit",
        "publish-before-write",
        "publish-after-write",
    ];
    let mut kills = Vec::new();
    for name in FAILPOINTS {
        let passings = if steps.contains(name) { 1..=5 } else { 1..=1 };
        kills.extend(passings.map(|n| format!("{name}:{n}")));
    }
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_effect_the_promotion_ends_and_every_slot_has_one_owner() {
    let world = World::start().await;
    world.agents();
    world.shop().await;
    let healthy = start(&world, None);
    world.served().await;
    drop(healthy);
    let kills = kills();
    assert!(kills.len() > 25, "{kills:?}");
    let (mut died, mut ends) = (0, std::collections::BTreeMap::new());
    for (index, kill) in kills.iter().enumerate() {
        let before = world.owners().await;
        let target = if before[0] == AT_EAST { "north-1" } else { "east-1" };
        let name = format!("p{index}");
        let mut program = start(&world, Some(kill));
        let epoch = world.epoch().await;
        world
            .promote(&name, target, json!({"type": "Ranges", "ranges": ["users-0"]}), epoch)
            .await;
        let promotions: Api<api::Promotion> = world.namespaced();
        let crashed = eventually(&format!("{kill}: the program dies or the Promotion ends"), async || {
            if let Some(status) = program.ended() {
                assert!(!status.success(), "{kill}: it ended by itself");
                return Some(true);
            }
            let promotion = promotions.get(&name).await.unwrap();
            let ended = promotion.status.is_some_and(|status| status.outcome.is_some());
            // Where the point lies behind the end, the finalizer's removal shows that it was passed.
            (ended && promotion.metadata.finalizers.is_none()).then_some(false)
        })
        .await;
        died += usize::from(crashed);
        drop(program);
        let again = start(&world, None);
        let outcome = world.outcome(&name).await;
        assert!(
            ["Succeeded", "Aborted/FenceBudget"].contains(&outcome.as_str()),
            "{kill}: {outcome}"
        );
        *ends.entry(outcome.clone()).or_insert(0) += 1;
        // Whatever became of it, every slot has one owner, which serves it: the target, or who had it before.
        let moved = match target {
            "north-1" => AT_NORTH,
            _ => AT_EAST,
        };
        let want = if outcome == "Succeeded" { moved } else { &before[0] };
        assert_eq!(
            world.owners().await,
            [want, "8-15 north-1 Serving"],
            "{kill}: {outcome}"
        );
        eventually(&format!("{kill}: the finalizer is gone"), async || {
            promotions
                .get(&name)
                .await
                .unwrap()
                .metadata
                .finalizers
                .is_none()
                .then_some(())
        })
        .await;
        drop(again);
    }
    println!(
        "{} kills at effects of a promotion, {died} took effect; ends: {ends:?}",
        kills.len()
    );
    assert!(
        died * 10 >= kills.len() * 8,
        "only {died} of {} kills took effect",
        kills.len()
    );
}
