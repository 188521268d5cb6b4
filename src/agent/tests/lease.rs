//! The write lease of a unit, kept by real agents in a real database: who cannot renew it stops writing in time or goes on,
//! as was asked for, and a seal ends it for good.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::router::Router;
use crate::support::slow::Slow;
use crate::support::world::{Running, World};
use crate::support::{admin, secret, shared_cluster, until};
use http::Uri;
use jiff::SignedDuration;
use multiactive_agent::lease::Hub;
use multiactive_api::{LeaseReport, LeaseState, UnitAssignmentStatus};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::lease::{Lease, Seal, Terms};
use multiactive_core::promotion::Progress;
use multiactive_core::wire::{Answer, Question};
use multiactive_ledger::{Commit, HeldLease, KubernetesLeases, LeaseLedger};
use multiactive_runtime::kube_client::{Patience, from_kubeconfig};
use serde_json::json;
use std::time::{Duration, Instant};

const LENGTH: SignedDuration = SignedDuration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(5);

/// A unit with a lease in the ledger, and the ledger.
struct Leased {
    world: World,
    leases: KubernetesLeases,
    unit: UnitName,
}

impl Leased {
    /// The lease is in the namespace of the unit here.
    async fn new(name: &str, mode: &str, duration: &str) -> Self {
        let world = World::new(shared_cluster().await, name, &["east-1"]).await;
        let lease = json!({"mode": mode, "duration": duration});
        world
            .assign_leased("east-1", json!([world.store("orders", "orders", "east-1")]), lease)
            .await;
        let leases = KubernetesLeases::new(world.client.clone(), name);
        let unit = UnitName::from("east-1");
        let first = Lease::first(unit.clone(), Epoch::NEVER);
        let written = leases.write(name, None, &first, LENGTH, LIMIT).await;
        assert!(matches!(written, Commit::Committed(_)), "{written:?}");
        Self { world, leases, unit }
    }

    fn hub(&self) -> Hub {
        Hub::Leases(Box::new(self.leases.clone()))
    }

    async fn held(&self) -> HeldLease {
        self.leases
            .read(&self.world.namespace, &self.unit)
            .await
            .unwrap()
            .unwrap()
    }

    /// Writes over the lease, as the operator does: again where an agent came first.
    async fn change(&self, with: impl Fn(&Lease) -> Option<Lease>) {
        until("the lease to be written", || async {
            let held = self.held().await;
            let Some(next) = with(&held.lease) else { return Ok(()) };
            let written = self
                .leases
                .write(&self.world.namespace, Some(&held.version), &next, LENGTH, LIMIT)
                .await;
            match written {
                Commit::Committed(_) => Ok(()),
                Commit::Conflict | Commit::Refused(_) | Commit::Unknown(_) => Err(written),
            }
        })
        .await;
    }

    /// Waits until the database answers a write so.
    async fn answers(&self, want: Result<(), &str>) {
        until(&format!("writes to be answered by {want:?}"), || async {
            let got = self.world.accepts("east-1", "u").await;
            if got == want.map_err(str::to_owned) {
                Ok(())
            } else {
                Err(got)
            }
        })
        .await;
    }

    /// How long the lease still lets writes pass, by the database's own clock.
    async fn left(&self) -> Duration {
        let superuser = admin(self.world.database("east-1")).await;
        let sql = "SELECT greatest(0, (last_value >> 21) - extract(epoch FROM clock_timestamp()) * 1000)::float8
                   FROM multiactive.lease";
        let left: f64 = superuser.query_one(sql, &[]).await.unwrap().get(0);
        Duration::from_secs_f64(left / 1000.0)
    }

    /// How long the agent tells routers that the lease goes on: never longer than the database has it.
    async fn told(&self, agent: &Running) -> Duration {
        let before = self.left().await;
        let mut router = Router::of(&self.world, agent.routers, "east-1").await;
        let answer = router.ask(Question::Lease).await;
        let Answer::Lease { left_ms } = answer else {
            panic!("{answer:?}")
        };
        let told = Duration::from_millis(left_ms.expect("it knows"));
        // It may have been lengthened in between.
        let after = self.left().await;
        assert!(
            told <= before.max(after) + Duration::from_millis(500),
            "{told:?}, {before:?}, {after:?}"
        );
        told
    }

    /// Waits until the agent says this of the lease.
    async fn says(&self, state: LeaseState) -> LeaseReport {
        let says = |status: &UnitAssignmentStatus| status.lease.clone().filter(|lease| lease.state == state);
        self.world.reported("east-1", &format!("lease {state:?}"), says).await
    }

    async fn serves(&self) {
        self.world.publish(self.world.table()).await;
        self.world.all_to("east-1").await;
        assert_eq!(
            self.world.accepts("east-1", "u").await,
            Ok(()),
            "who is ready admits writes"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_renew_stops_within_the_lease_and_goes_on_when_it_can() {
    let leased = Leased::new("lease-fence", "Fence", "5s").await;
    let agent = leased.world.replica("east-1", true, leased.hub()).await;
    leased.serves().await;
    leased.says(LeaseState::Held).await;
    let first = leased.held().await.lease;
    let progress: Progress = first.positions[&"orders".into()].parse().unwrap();
    assert!(progress.log.starts_with("east-1/") && progress.at > 0, "{progress}");
    until("a renewal", || async {
        let now = leased.held().await.lease.renewals;
        if now > first.renewals + 1 { Ok(()) } else { Err(now) }
    })
    .await;
    let cut = Instant::now();
    assert!(leased.told(&agent).await > Duration::ZERO);
    agent.hub.send_replace(Hub::None("cut off".to_owned()));
    leased.answers(Err("MA004")).await;
    assert_eq!(leased.told(&agent).await, Duration::ZERO);
    // From the last renewal, which came before the cut.
    assert!(cut.elapsed() < LENGTH.unsigned_abs(), "{:?}", cut.elapsed());
    let told = leased.says(LeaseState::Over).await;
    assert!(told.message.unwrap_or_default().contains("cut off"));
    agent.hub.send_replace(leased.hub());
    leased.answers(Ok(())).await;
    leased.says(LeaseState::Held).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_becomes_wrong_takes_no_lease_away() {
    let leased = Leased::new("lease-secret", "Fence", "5s").await;
    let (world, agent) = (&leased.world, leased.world.replica("east-1", true, leased.hub()).await);
    leased.serves().await;
    leased.says(LeaseState::Held).await;
    let superuser = admin(world.database("east-1")).await;
    let deadline = async || -> i64 {
        let sql = "SELECT last_value >> 21 FROM multiactive.lease";
        superuser.query_one(sql, &[]).await.unwrap().get(0)
    };
    let (right, name) = (world.database("east-1").password(), "east-1-db");
    for wrong in [
        vec![("username", "multiactive_agent"), ("password", "wrong")],
        vec![("username", "multiactive_agent")],
        vec![],
    ] {
        secret(&world.client, &world.namespace, name, &wrong).await;
        world.store_says("east-1", "what is wrong", |store| !store.ready).await;
        // Whatever was extended before is over by then.
        let over = deadline().await + 2 * i64::try_from(LENGTH.as_millis()).unwrap();
        until("the lease to be extended", || async {
            let now = deadline().await;
            if now > over { Ok(()) } else { Err(over - now) }
        })
        .await;
        assert_eq!(world.accepts("east-1", "u").await, Ok(()), "{wrong:?}");
        world.credentials("east-1", right).await;
        world
            .store_says("east-1", "that it is in hand", |store| store.ready)
            .await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_serving_goes_on_without_the_ledger_while_its_agent_lives() {
    let leased = Leased::new("lease-keep", "KeepServing", "5s").await;
    let agent = leased.world.agent("east-1").await;
    leased.serves().await;
    let told = leased.says(LeaseState::Alone).await;
    assert!(told.message.unwrap_or_default().contains("without the ledger"));
    agent.hub.send_replace(leased.hub());
    leased.says(LeaseState::Held).await;
    agent.hub.send_replace(Hub::None("cut off".to_owned()));
    leased.says(LeaseState::Alone).await;
    assert!(leased.told(&agent).await > Duration::ZERO);
    let began = Instant::now();
    until("it has gone on for longer than the lease", || async {
        assert_eq!(leased.world.accepts("east-1", "u").await, Ok(()));
        if began.elapsed() > LENGTH.unsigned_abs() {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    // A dead agent lengthens nothing.
    agent.abort().await;
    leased.answers(Err("MA004")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_ends_it_at_once_and_only_a_database_at_the_granted_table_takes_it_again() {
    for mode in ["Fence", "KeepServing"] {
        let leased = Leased::new(&format!("lease-seal-{}", mode.to_lowercase()), mode, "5s").await;
        let agent = leased.world.replica("east-1", true, leased.hub()).await;
        leased.serves().await;
        let seal = Seal {
            by: OperationUid("lost-east-1".to_owned()),
            at: leased.world.table().epoch,
        };
        leased.change(|lease| lease.sealed_by(&seal)).await;
        leased.says(LeaseState::Sealed).await;
        leased.answers(Err("MA004")).await;
        assert_eq!(leased.told(&agent).await, Duration::ZERO, "{mode}");
        // Cut off afterwards, it remembers.
        agent.hub.send_replace(Hub::None("cut off".to_owned()));
        let sealed = leased.held().await.lease;
        agent.hub.send_replace(leased.hub());
        // Granted at a table that its cluster has not heard of: its database may hold open what is another's by then.
        let next = leased.world.table().epoch.next();
        leased.change(|lease| lease.granted_at(next)).await;
        until("renewals", || async {
            let now = leased.held().await.lease.renewals;
            if now > sealed.renewals { Ok(()) } else { Err(now) }
        })
        .await;
        assert_eq!(
            leased.world.accepts("east-1", "u").await,
            Err("MA004".to_owned()),
            "{mode}"
        );
        let mut table = leased.world.table();
        table.epoch = next;
        leased.world.publish(table).await;
        leased.answers(Ok(())).await;
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_election_stands_between_a_unit_and_its_lease() {
    let leased = Leased::new("lease-replicas", "Fence", "5s").await;
    let leader = leased.world.replica("east-1", true, leased.hub()).await;
    let standby = leased.world.replica("east-1", false, leased.hub()).await;
    leased.serves().await;
    leader.abort().await;
    let began = Instant::now();
    until("it has gone on for longer than the lease", || async {
        assert_eq!(
            leased.world.accepts("east-1", "u").await,
            Ok(()),
            "after {:?}",
            began.elapsed()
        );
        if began.elapsed() > LENGTH.unsigned_abs() * 2 {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    standby.stop().await;
    leased.answers(Err("MA004")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_late_lengthens_nothing() {
    let leased = Leased::new("lease-late", "Fence", "40s").await;
    let cluster = shared_cluster().await;
    let mut kubeconfig = cluster.kubeconfig().clone();
    let server: Uri = kubeconfig["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let slow = Slow::to(server.authority().unwrap().as_str().parse().unwrap()).await;
    kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", slow.address));
    let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let client = from_kubeconfig(kubeconfig, Patience::REQUESTS).await.unwrap();
    let hub = Hub::Leases(Box::new(KubernetesLeases::new(client, &leased.world.namespace)));
    let agent = leased.world.replica("east-1", true, hub).await;
    leased.serves().await;

    // The renewal is written at once, and the reply comes late; what it gives is asked of the database itself.
    let late = Duration::from_secs(3);
    slow.answers_after(late);
    let before = leased.held().await.lease.renewals;
    let written = until("a renewal", || async {
        let held = leased.held().await;
        if held.lease.renewals > before {
            Ok(Instant::now())
        } else {
            Err(before)
        }
    })
    .await;
    let window = Terms::new(SignedDuration::from_secs(40))
        .unwrap()
        .window()
        .unsigned_abs();
    let first = leased.left().await;
    let left = until("the lease to be lengthened", || async {
        let left = leased.left().await;
        if left > first + late { Ok(left) } else { Err(left) }
    })
    .await;
    let since = written.elapsed();
    assert!(since >= late / 2, "the reply was late: {since:?}");
    assert!(
        left + since < window + late / 2,
        "{left:?} are left {since:?} after it was written, of {window:?}"
    );
    agent.stop().await;
}
