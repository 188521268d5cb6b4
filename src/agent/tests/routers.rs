//! The routers' listener over real TLS: who may speak, what is remembered, who is told what and when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::support::router::{Router, hello};
use jiff::{SignedDuration, Timestamp};
use multiactive_agent::lease::Boards;
use multiactive_agent::routers::{RouterHub, UnitKey, UnitRouters, serve};
use multiactive_core::epoch::Epoch;
use multiactive_core::wire::{AgentToRouter, Answer, Applied, KeyspaceApplied, PROTOCOL, Question, RouterHello};
use multiactive_runtime::certs::{Ca, TlsFiles, agent_name, router_name};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const FIRST: Epoch = Epoch::new(1, 7);
const SECOND: Epoch = Epoch::new(1, 8);

/// Every store stands at this table.
fn all(epoch: Epoch) -> Applied {
    let keyspaces = Vec::new();
    Applied { epoch, keyspaces }
}

struct Listener {
    at: SocketAddr,
    hub: RouterHub,
    dir: tempfile::TempDir,
    ca: Ca,
    token: CancellationToken,
}

impl Listener {
    async fn start() -> Listener {
        let now = Timestamp::now();
        let day = SignedDuration::from_hours(24);
        let ca = Ca::generate("test", now - day, now + day).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tls = files(&ca, dir.path(), &agent_name("east"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, hub, token) = (
            listener.local_addr().unwrap(),
            RouterHub::default(),
            CancellationToken::new(),
        );
        tokio::spawn(serve(listener, tls, (hub.clone(), Boards::default()), token.clone()));
        Listener {
            at,
            hub,
            dir,
            ca,
            token,
        }
    }

    /// A unit of which no router is a pod.
    fn unit(&self, unit: &str) -> UnitRouters {
        let unit = self.hub.unit(&UnitKey {
            namespace: "shop".into(),
            unit: unit.into(),
        });
        unit.pods_running(&Default::default());
        unit
    }

    async fn connect(&self, certified: &str, hello: &RouterHello) -> std::io::Result<Router> {
        let tls = files(&self.ca, self.dir.path(), &router_name(certified, "shop"));
        Router::connect(&tls, self.at, "east", hello).await
    }
}

fn files(ca: &Ca, dir: &Path, name: &str) -> TlsFiles {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let now = Timestamp::now();
    let issued = ca
        .issue(&[name.to_owned()], now, now + SignedDuration::from_hours(1))
        .unwrap();
    std::fs::write(dir.join("ca.crt"), ca.cert_pem()).unwrap();
    std::fs::write(dir.join("tls.crt"), issued.cert_pem).unwrap();
    std::fs::write(dir.join("tls.key"), issued.key_pem).unwrap();
    TlsFiles::open(dir).unwrap()
}

/// Waits until the registry holds this.
async fn known(unit: &UnitRouters, name: &str, is: impl Fn(Option<&multiactive_agent::routers::Router>) -> bool) {
    let mut registry = unit.subscribe();
    let seen = registry.wait_for(|registry| is(registry.get(name)));
    tokio::time::timeout(std::time::Duration::from_secs(20), seen)
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test]
async fn a_router_is_told_the_applied_table_when_it_connects_and_at_each_change_never_an_older_one() {
    let listener = Listener::start().await;
    let unit = listener.unit("east-1");
    unit.applied(&all(FIRST));
    let mut router = listener
        .connect("east-1", &hello("shop", "east-1", "r-1"))
        .await
        .unwrap();
    assert_eq!(router.told().await, Some(FIRST), "on connect");
    unit.applied(&all(SECOND));
    assert_eq!(router.told().await, Some(SECOND), "at a change");
    unit.applied(&all(FIRST));
    let mut late = listener
        .connect("east-1", &hello("shop", "east-1", "r-2"))
        .await
        .unwrap();
    assert_eq!(late.told().await, Some(SECOND), "an older table is not told");
    let other = listener.unit("east-2");
    other.applied(&all(Epoch::new(1, 9)));
    unit.applied(&all(Epoch::new(1, 10)));
    assert_eq!(
        router.told().await,
        Some(Epoch::new(1, 10)),
        "words are for the unit's own routers"
    );
}

#[tokio::test]
async fn a_router_is_told_of_each_keyspace_by_itself() {
    let listener = Listener::start().await;
    let unit = listener.unit("east-1");
    let of = |keyspace: &str, epoch| Applied {
        epoch: Epoch::NEVER,
        keyspaces: vec![KeyspaceApplied {
            keyspace: keyspace.into(),
            epoch,
        }],
    };
    assert!(unit.applied(&of("users", SECOND)));
    let mut router = listener
        .connect("east-1", &hello("shop", "east-1", "r-1"))
        .await
        .unwrap();
    let told = router.applied().await.unwrap();
    let keyspaces = ["users", "carts"].map(|keyspace| told.of(&keyspace.into()));
    assert_eq!((told.epoch, keyspaces), (Epoch::NEVER, [SECOND, Epoch::NEVER]));
    assert!(!unit.applied(&of("users", FIRST)), "an older table is no news");
    assert!(unit.applied(&of("carts", FIRST)));
    let told = router.applied().await.unwrap();
    let keyspaces = ["users", "carts"].map(|keyspace| told.of(&keyspace.into()));
    assert_eq!(keyspaces, [SECOND, FIRST]);
}

#[tokio::test]
async fn reports_are_remembered_and_a_lost_connection_is_not_a_goodbye() {
    let listener = Listener::start().await;
    let unit = listener.unit("east-1");
    let uid = "op".into();
    let mut router = listener
        .connect("east-1", &hello("shop", "east-1", "r-1"))
        .await
        .unwrap();
    router.report(FIRST, &[(&uid, 3)]).await;
    known(&unit, "r-1", |router| {
        router.is_some_and(|router| router.epoch == Some(FIRST))
    })
    .await;
    assert_eq!(unit.subscribe().borrow().in_flight(&uid, FIRST), Some(3));
    drop(router);
    known(&unit, "r-1", |router| {
        router.is_some_and(|router| router.connection.is_none())
    })
    .await;
    assert_eq!(
        unit.subscribe().borrow().in_flight(&uid, FIRST),
        None,
        "unknown while it is away"
    );
    let router = listener
        .connect("east-1", &hello("shop", "east-1", "r-1"))
        .await
        .unwrap();
    known(&unit, "r-1", |router| {
        router.is_some_and(|router| router.connection.is_some())
    })
    .await;
    router.goodbye().await;
    known(&unit, "r-1", |router| router.is_none()).await;
}

#[tokio::test]
async fn who_is_not_the_unit_that_it_claims_is_not_heard() {
    let listener = Listener::start().await;
    let unit = listener.unit("east-1");
    unit.applied(&all(FIRST));
    let stranger = RouterHello {
        protocol: PROTOCOL + 1,
        ..hello("shop", "east-1", "r-1")
    };
    for (certified, hello, why) in [
        ("north-1", hello("shop", "east-1", "r-1"), "another unit's certificate"),
        ("east-1", hello("other", "east-1", "r-1"), "another namespace"),
        ("east-1", stranger, "another protocol"),
    ] {
        let mut router = listener.connect(certified, &hello).await.unwrap();
        assert_eq!(router.told().await, None, "{why}");
        assert!(unit.subscribe().borrow().get("r-1").is_none(), "{why}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_a_line_that_is_too_long_ends_the_connection() {
    let listener = Listener::start().await;
    let unit = listener.unit("east-1");
    unit.applied(&all(FIRST));
    let now = Timestamp::now();
    let other = Ca::generate("other", now, now + SignedDuration::from_hours(1)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let forged = files(&other, dir.path(), &router_name("east-1", "shop"));
    assert!(
        Router::connect(&forged, listener.at, "east", &hello("shop", "east-1", "r-1"))
            .await
            .is_err()
    );
    let mut long = listener
        .connect("east-1", &hello("shop", "east-1", "r-2"))
        .await
        .unwrap();
    assert_eq!(long.told().await, Some(FIRST));
    long.raw(&[b'x'; multiactive_core::wire::MAX_LINE + 10]).await;
    assert_eq!(long.told().await, None);
    known(&unit, "r-2", |router| {
        router.is_some_and(|router| router.connection.is_none())
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_ends_closes_its_connections() {
    let listener = Listener::start().await;
    let unit = listener.unit("east-1");
    unit.applied(&all(FIRST));
    let mut router = listener
        .connect("east-1", &hello("shop", "east-1", "r-1"))
        .await
        .unwrap();
    assert_eq!(router.told().await, Some(FIRST));
    listener.token.cancel();
    assert_eq!(router.told().await, None);
}

#[tokio::test]
async fn an_agent_says_first_that_it_answers_and_of_a_lease_that_it_does_not_know_nothing() {
    let listener = Listener::start().await;
    listener.unit("east-1").applied(&all(FIRST));
    let mut router = listener
        .connect("east-1", &hello("shop", "east-1", "r-1"))
        .await
        .unwrap();
    assert_eq!(router.word().await, Some(AgentToRouter::Answers));
    assert_eq!(router.ask(Question::Lease).await, Answer::Lease { left_ms: None });
}
