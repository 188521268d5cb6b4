//! The real program killed at every failpoint, on either side of a promotion: the next one goes on, the promotion ends,
//! one unit is open, and no acknowledged row is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::world::World;
use crate::support::writes::Writes;
use crate::support::{namespace, shared_cluster};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use multiactive_agent::failpoints::FAILPOINTS;
use multiactive_core::slots::SlotSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// Which side has the failpoint, and at which passing it dies: those that every table passes, at several. No more often
/// than a promotion makes sure of: tables that follow each other quickly are applied as one.
const CASES: &[(Side, &str)] = &[
    (Side::Source, "fence-before"),
    (Side::Source, "fence-after"),
    (Side::Target, "follow-before"),
    (Side::Target, "follow-after"),
    (Side::Target, "drain-before"),
    (Side::Target, "drain-after"),
    (Side::Target, "open-before"),
    (Side::Target, "open-after"),
    (Side::Source, "apply-before:1"),
    (Side::Source, "apply-before:2"),
    (Side::Target, "apply-before:2"),
    (Side::Source, "apply-after:2"),
    (Side::Target, "apply-after:2"),
    (Side::Source, "told-routers:2"),
    (Side::Target, "told-routers:4"),
    (Side::Source, "status-before-write:1"),
    (Side::Source, "status-before-write:3"),
    (Side::Target, "status-before-write:4"),
    (Side::Source, "status-after-write:3"),
    (Side::Target, "status-after-write:4"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Source,
    Target,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_every_failpoint_goes_on_and_the_promotion_ends() {
    for name in FAILPOINTS {
        assert!(
            CASES.iter().any(|(_, case)| case.split(':').next() == Some(name)),
            "{name} is not killed at"
        );
    }
    let world = World::new(shared_cluster().await, "failpoints", &["east-1", "north-1"]).await;
    for unit in &world.units {
        namespace(&world.client, &format!("agent-{unit}")).await;
    }
    let settling = [world.agent("east-1").await, world.agent("north-1").await];
    world.publish(world.table()).await;
    world.all_to("east-1").await;
    for agent in settling {
        agent.stop().await;
    }
    let writes = Writes::start(&world, 3);
    let (mut owner, mut other) = ("east-1", "north-1");
    for (index, (side, failpoint)) in CASES.iter().enumerate() {
        let (mortal, safe) = match side {
            Side::Source => (owner, other),
            Side::Target => (other, owner),
        };
        let safe = world.agent(safe).await;
        let program = Program::start(&world, mortal, Some(failpoint));
        let died = tokio::spawn(program.revived());
        writes.more(5).await;
        let uid = world
            .begin(&format!("move-{index}"), other, SlotSet::range(0, 255))
            .await;
        for unit in &world.units {
            world.applied(unit).await;
        }
        world.until_drained(&uid).await;
        for unit in &world.units {
            world.applied(unit).await;
        }
        world.until_done(&uid).await;
        assert_eq!(world.accepts(other, "user-1").await, Ok(()), "{failpoint} at {side:?}");
        assert_eq!(
            world.accepts(owner, "user-1").await,
            Err("MA001".into()),
            "{failpoint} at {side:?}"
        );
        let revived = tokio::time::timeout(std::time::Duration::from_secs(10), died).await;
        let revived = revived
            .unwrap_or_else(|_| panic!("{failpoint} at {side:?}: it never died"))
            .unwrap();
        revived.terminate(&world).await;
        safe.stop().await;
        (owner, other) = (other, owner);
    }
    let settling = [world.agent("east-1").await, world.agent("north-1").await];
    world.settled().await;
    println!("{} failpoints, killed {} times", FAILPOINTS.len(), CASES.len());
    writes.all_are_in(&world, owner).await;
    for agent in settling {
        agent.stop().await;
    }
}

/// The program as a process.
struct Program {
    child: Child,
    unit: String,
    command: Box<dyn Fn() -> Command + Send>,
}

impl Program {
    fn start(world: &World, unit: &str, failpoint: Option<&str>) -> Program {
        let (kubeconfig, tls, namespace) = (world.kubeconfig.clone(), world.agent_tls(unit), world.namespace.clone());
        let name = unit.to_owned();
        let command = Box::new(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_multiactive-agent"));
            command
                .args(["--cluster", &name, "--namespaces", &namespace])
                .args(["--namespace", &format!("agent-{name}")])
                .args([
                    "--listen-routers",
                    "127.0.0.1:0",
                    "--listen",
                    "127.0.0.1:0",
                    "--tls-dir",
                ])
                .arg(&tls)
                .env("KUBECONFIG", &kubeconfig)
                .env("POD_NAME", format!("agent-{name}-0"))
                .env("RUST_LOG", "warn")
                .env_remove("POD_ROOT")
                .stdin(Stdio::null())
                .kill_on_drop(true);
            command
        });
        let mut first = command();
        if let Some(failpoint) = failpoint {
            first.env("MULTIACTIVE_FAILPOINT", failpoint);
        }
        Program {
            child: first.spawn().unwrap(),
            unit: unit.to_owned(),
            command,
        }
    }

    /// Waits until it has died of its failpoint, and starts it again without one.
    async fn revived(mut self) -> Program {
        let status = self.child.wait().await.unwrap();
        assert_eq!(status.signal(), Some(6), "it ends by abort: {status}");
        self.child = (self.command)().spawn().unwrap();
        self
    }

    /// Ends it as Kubernetes does; it gives its lease back.
    async fn terminate(mut self, world: &World) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.child.wait().await.unwrap().success());
        let leases: Api<Lease> = Api::namespaced(world.client.clone(), &format!("agent-{}", self.unit));
        let lease = leases.get("multiactive-agent").await.unwrap().spec.unwrap();
        assert_eq!(lease.holder_identity.unwrap_or_default(), "", "the lease is released");
    }
}
