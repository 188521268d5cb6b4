//! Two operators at one hub: one leads and the other writes nothing; where both lead for a moment, because one was
//! frozen or the lease was taken from it, the record takes each decision once.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multiactive_operator::LEASE;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use support::gate::Gate;
use support::history::History;
use support::program::{Program, Start};
use support::{SYSTEM, World, eventually, namespaced};

/// An operator and its way to the hub.
struct Candidate {
    identity: &'static str,
    way: Gate,
    program: Program,
}

impl Candidate {
    /// Starts it and waits until it has looked at the lease.
    async fn start(world: &World, dir: &Path, identity: &'static str) -> Self {
        let way = Gate::open(&world.east.kubeconfig_path(), dir, identity).await;
        let program = Start::new(&way.kubeconfig, identity).run();
        eventually(&format!("{identity} looks at the lease"), async || {
            (way.looks() > 0).then_some(())
        })
        .await;
        Self { identity, way, program }
    }

    async fn ends_in_failure(&mut self) {
        let status = eventually(&format!("{} ends", self.identity), async || self.program.ended()).await;
        assert!(
            !status.success(),
            "{} did not say that it lost the lease",
            self.identity
        );
    }

    /// How many commits of the record went through, and how many came too late.
    fn commits(&self) -> (usize, usize) {
        let writes = self.way.writes();
        let count = |code: &str| {
            let mut commits = writes.iter().filter(|line| line.contains("/routingtables/"));
            commits.by_ref().filter(|line| line.ends_with(code)).count()
        };
        (count("200"), count("409"))
    }
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.hub.clone(), SYSTEM)
}

async fn leader(world: &World) -> Option<String> {
    leases(world).get_opt(LEASE).await.unwrap()?.spec?.holder_identity
}

/// Moves users-0 to the unit that does not have it.
async fn to_and_fro(world: &World, name: &str) {
    let there = world.owners().await[0].contains("north-1");
    let target = if there { "east-1" } else { "north-1" };
    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    world.promote(name, target, range, world.epoch().await).await;
    assert_eq!(world.outcome(name).await, "Succeeded", "{name}");
    let want = [format!("0-7 {target} Serving"), "8-15 north-1 Serving".to_owned()];
    assert_eq!(world.owners().await, want, "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_what_another_decided_before_does_not_count() {
    let world = World::start().await;
    let (hub, member) = (History::follow(&world.hub), History::follow(&world.member));
    let dir = tempfile::tempdir().unwrap();
    world.agents();
    world.shop().await;
    let first = Candidate::start(&world, dir.path(), "first").await;
    world.served().await;
    let second = Candidate::start(&world, dir.path(), "second").await;
    to_and_fro(&world, "calm").await;
    assert_eq!(leader(&world).await.as_deref(), Some("first"));
    assert_eq!(second.way.writes(), [""; 0], "who does not lead writes nothing");

    frozen_before_its_commit(&world, first, &second).await;
    taken_from_the_leader(&world, dir.path(), second).await;

    let record = world.table().await.unwrap();
    let last = multiactive_core::table::RoutingTable::try_from(&record.spec).unwrap();
    for (name, history) in [("hub", &hub), ("member", &member)] {
        eventually(&format!("the {name} holds the last table"), async || {
            (history.tables().last() == Some(&last)).then_some(())
        })
        .await;
        history.grew();
    }
    println!("{} tables, the last of epoch {}", hub.tables().len(), last.epoch);
}

/// The leader is frozen when it has decided on the commit point of a Promotion and its write is on its way.
async fn frozen_before_its_commit(world: &World, mut first: Candidate, second: &Candidate) {
    first.way.keep(|table| table["operations"][0]["step"] == "Open");
    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    // Writes are held all the while: whoever leads next must still be within the budget, or it gives up.
    let spec = json!({"targetUnit": "east-1", "select": range, "expectedEpoch": world.epoch().await, "mode": "Execute",
        "budgets": {"fence": "2m", "drain": "2m"}});
    world.apply(namespaced("Promotion", "frozen", spec)).await;
    first.way.kept().await;
    first.program.freeze();
    assert_eq!(world.outcome("frozen").await, "Succeeded");
    assert_eq!(leader(world).await.as_deref(), Some("second"));
    to_and_fro(world, "without-the-first").await;

    let before = world.table().await.unwrap();
    assert_eq!(first.way.let_through().await, 409, "the late commit of the first");
    let noted = first.way.writes().len();
    first.program.thaw();
    first.ends_in_failure().await;
    assert_eq!(world.table().await.unwrap().metadata, before.metadata);
    let late = first.way.writes().split_off(noted);
    let counted: Vec<_> = late
        .iter()
        .filter(|line| line.ends_with(" 200") || line.ends_with(" 201"))
        .collect();
    assert!(counted.is_empty(), "the first wrote when it led no more: {late:?}");
    assert!(second.commits().0 > 0);
}

/// Somebody gives the lease to the other one while slots move: until the old leader looks again, both lead.
async fn taken_from_the_leader(world: &World, dir: &Path, mut leading: Candidate) {
    let mut moves = 0;
    for turn in 0..3 {
        let other = Candidate::start(world, dir, ["third", "fourth", "fifth"][turn]).await;
        let (before, patch) = (leading.commits(), json!({"spec": {"holderIdentity": other.identity}}));
        let params = PatchParams::default();
        leases(world).patch(LEASE, &params, &Patch::Merge(patch)).await.unwrap();
        let since = moves;
        let begun = Instant::now();
        while leading.program.ended().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{} leads on",
                leading.identity
            );
            moves += 1;
            to_and_fro(world, &format!("move-{moves}")).await;
        }
        leading.ends_in_failure().await;
        let (old, new) = (leading.commits(), other.commits());
        println!(
            "turn {turn}: {} moves; commits of the old leader {}, late {}; of the new one {}, late {}",
            moves - since,
            old.0 - before.0,
            old.1 - before.1,
            new.0,
            new.1
        );
        leading = other;
        eventually("the new one leads", async || {
            (leader(world).await.as_deref() == Some(leading.identity)).then_some(())
        })
        .await;
        moves += 1;
        to_and_fro(world, &format!("move-{moves}")).await;
    }
}
