//! Leader election on a Lease: who works, so that operators do not do the same twice.
//!
//! It keeps no two of them from deciding: clocks and pauses can make two leaders for a moment. The compare-and-swap
//! of the ledger does that.

use crate::kubernetes::text;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// For how long a lease holds after its last renewal.
const DURATION: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often others look.
const RENEW: Duration = Duration::from_secs(2);
/// Without a renewal for this long the leader stops, before another may begin.
const GIVE_UP: Duration = Duration::from_secs(7);
/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(3);

/// One candidate for one Lease.
#[derive(Clone)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    leads_on_when_silent: bool,
}

/// How leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// On request; the lease was released if it was held.
    Released,
    /// The lease could not be renewed, or another holds it.
    Lost,
}

/// What was seen of the lease, and when that was new, by this machine's clock alone.
#[derive(Clone, Debug, Default, PartialEq)]
struct Watched {
    holder: Option<String>,
    renewed: Option<MicroTime>,
    since: Option<Instant>,
}

/// Whether the lease may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Ours,
    Free,
    Taken,
}

impl Watched {
    /// Takes note of the lease; its age counts from when it was first seen as it is.
    fn see(&mut self, lease: Option<&LeaseSpec>, identity: &str, now: Instant) -> Claim {
        let holder = lease
            .and_then(|l| l.holder_identity.clone())
            .filter(|holder| !holder.is_empty());
        let renewed = lease.and_then(|l| l.renew_time.clone());
        if self.since.is_none() || self.holder != holder || self.renewed != renewed {
            *self = Self {
                holder,
                renewed,
                since: Some(now),
            };
        }
        let seconds = lease
            .and_then(|l| l.lease_duration_seconds)
            .and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        match &self.holder {
            None => Claim::Free,
            Some(holder) if holder == identity => Claim::Ours,
            Some(_) if self.since.is_some_and(|since| now.duration_since(since) >= duration) => Claim::Free,
            Some(_) => Claim::Taken,
        }
    }
}

impl Election {
    /// A candidate named `identity`, unique among the processes that run, for the Lease `name`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            leads_on_when_silent: false,
        }
    }

    /// Leads on while the server does not answer, until it is seen that another holds the lease: for work that must
    /// outlast the server and that something else keeps safe, as the databases' epochs do for agents.
    #[must_use]
    pub fn leading_on_when_silent(mut self) -> Self {
        self.leads_on_when_silent = true;
        self
    }

    /// Waits for the lease, then runs `work` until it ends, `shutdown` is cancelled or the lease is lost. The token
    /// that `work` gets is cancelled then, and it is waited for before the lease is released.
    pub async fn lead<F>(&self, shutdown: &CancellationToken, work: impl FnOnce(CancellationToken) -> F) -> Ended
    where
        F: Future<Output = ()>,
    {
        let Some(renewed) = shutdown.run_until_cancelled(self.acquire()).await else {
            return Ended::Released;
        };
        tracing::info!(identity = self.identity, lease = self.name, "leading");
        let token = shutdown.child_token();
        let mut work = std::pin::pin!(work(token.clone()));
        let lost = tokio::select! {
            () = &mut work => false,
            () = self.renew(renewed) => true,
        };
        if lost {
            tracing::error!(lease = self.name, "the lease was lost, stopping");
            token.cancel();
            // What still runs cannot do harm, the ledger compares; but it must not hold up the end.
            let _ = tokio::time::timeout(DURATION - GIVE_UP, work).await;
            return Ended::Lost;
        }
        self.release().await;
        Ended::Released
    }

    async fn acquire(&self) -> Instant {
        let mut watched = Watched::default();
        loop {
            let start = Instant::now();
            match self.attempt(&mut watched).await {
                Ok(true) => return start,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, error, "taking the lease failed, trying again"),
            }
            tokio::time::sleep_until(start + RENEW).await;
        }
    }

    /// Returns when the lease is lost.
    async fn renew(&self, mut renewed: Instant) {
        let mut watched = Watched::default();
        loop {
            let attempt = async {
                tokio::time::sleep(RENEW).await;
                let start = Instant::now();
                (start, self.attempt(&mut watched).await)
            };
            // An attempt that hangs must not outlast the time after which another may begin: it is left where it is.
            let answer = if self.leads_on_when_silent {
                Some(attempt.await)
            } else {
                tokio::time::timeout_at(renewed + GIVE_UP, attempt).await.ok()
            };
            match answer {
                Some((start, Ok(true))) => renewed = start,
                Some((_, Ok(false))) | None => return,
                Some((_, Err(error))) => {
                    tracing::warn!(lease = self.name, error, "renewing the lease failed, trying again");
                }
            }
        }
    }

    /// Takes or renews the lease if it is free or ours; whether it is ours now.
    async fn attempt(&self, watched: &mut Watched) -> Result<bool, String> {
        let found = limited(self.api.get_opt(&self.name)).await?;
        let claim = watched.see(
            found.as_ref().and_then(|l| l.spec.as_ref()),
            &self.identity,
            Instant::now(),
        );
        if claim == Claim::Taken {
            return Ok(false);
        }
        let params = PostParams::default();
        let now = MicroTime(Timestamp::now());
        let mut lease = found.clone().unwrap_or_default();
        lease.metadata.name = Some(self.name.clone());
        lease.metadata.managed_fields = None;
        let spec = lease.spec.get_or_insert_default();
        if claim != Claim::Ours {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        let written = match found {
            Some(_) => limited(self.api.replace(&self.name, &params, &lease)).await,
            None => limited(self.api.create(&params, &lease)).await,
        };
        written.map(|_| true)
    }

    async fn release(&self) {
        let Ok(Some(mut lease)) = limited(self.api.get_opt(&self.name)).await else {
            return;
        };
        lease.metadata.managed_fields = None;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match limited(self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => tracing::info!(lease = self.name, "the lease is released"),
            Err(error) => tracing::warn!(lease = self.name, error, "the lease was not released, it will expire"),
        }
    }
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| text(&error)),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    fn spec(holder: &str, second: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(Timestamp::from_second(second).unwrap())),
            lease_duration_seconds: Some(10),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_free_only_when_nobody_renewed_it_for_its_duration_by_our_clock() {
        let start = Instant::now();
        let mut watched = Watched::default();
        for (lease, seconds, want) in [
            (Some(spec("other", 1)), 0, Claim::Taken),
            (Some(spec("other", 1)), 9, Claim::Taken),
            (Some(spec("other", 2)), 10, Claim::Taken),
            (Some(spec("other", 2)), 19, Claim::Taken),
            (Some(spec("other", 2)), 20, Claim::Free),
            (Some(spec("me", 3)), 21, Claim::Ours),
            (Some(spec("", 4)), 22, Claim::Free),
            (None, 23, Claim::Free),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(watched.see(lease.as_ref(), "me", now), want, "{lease:?} at {seconds}");
        }
    }

    /// An API server that holds one Lease; `down` makes it answer 500, `hangs_at` not at all from then on.
    async fn serve(mut server: tower_test::mock::Handle<Request<Body>, Response<Body>>, state: Arc<Mutex<Server>>) {
        let mut unanswered = Vec::new();
        while let Some((request, reply)) = server.next_request().await {
            let method = request.method().clone();
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut state = state.lock().unwrap();
            if state.hangs_at.is_some_and(|at| at <= Instant::now()) {
                unanswered.push(reply);
                continue;
            }
            let (code, answer) = if state.down {
                (
                    500,
                    serde_json::json!({"kind": "Status", "code": 500, "reason": "InternalError"}),
                )
            } else if method == "GET" {
                match &state.lease {
                    Some(lease) => (200, lease.clone()),
                    None => (
                        404,
                        serde_json::json!({"kind": "Status", "code": 404, "reason": "NotFound"}),
                    ),
                }
            } else {
                let lease: Value = serde_json::from_slice(&body).unwrap();
                state.lease = Some(lease.clone());
                (200, lease)
            };
            let answer = Response::builder()
                .status(code)
                .body(Body::from(answer.to_string().into_bytes()));
            reply.send_response(answer.unwrap());
        }
    }

    #[derive(Default)]
    struct Server {
        lease: Option<Value>,
        down: bool,
        hangs_at: Option<Instant>,
    }

    fn election() -> (Election, Arc<Mutex<Server>>) {
        let (service, server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let state = Arc::new(Mutex::new(Server::default()));
        tokio::spawn(serve(server, Arc::clone(&state)));
        (Election::new(Client::new(service, "ns"), "ns", "operator", "me"), state)
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_released_at_the_end() {
        let (election, state) = election();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let seen = Arc::clone(&state);
        let ended = election
            .lead(&shutdown, |token| async move {
                assert_eq!(
                    seen.lock().unwrap().lease.as_ref().unwrap()["spec"]["holderIdentity"],
                    "me"
                );
                tokio::time::sleep(DURATION * 3).await;
                stop.cancel();
                token.cancelled().await;
            })
            .await;
        assert_eq!(ended, Ended::Released);
        let lease = state.lock().unwrap().lease.clone().unwrap();
        assert!(lease["spec"].get("holderIdentity").is_none(), "{lease}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
        let (election, state) = election();
        let shutdown = CancellationToken::new();
        let began = Instant::now();
        let ended = election
            .lead(&shutdown, |token| async move {
                state.lock().unwrap().down = true;
                token.cancelled().await;
            })
            .await;
        assert_eq!(ended, Ended::Lost);
        assert!(began.elapsed() < DURATION, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_stops_in_time_whatever_the_last_attempt_does() {
        // In tenths of a second: errors until then, no answer from then on.
        for hangs_after in (0..=70).step_by(5) {
            let (election, state) = election();
            let shutdown = CancellationToken::new();
            let began = Instant::now();
            let mut stopped = None;
            let ended = election
                .lead(&shutdown, |token| {
                    let mut state = state.lock().unwrap();
                    state.down = true;
                    state.hangs_at = Some(began + Duration::from_millis(100 * hangs_after));
                    let stopped = &mut stopped;
                    async move {
                        token.cancelled().await;
                        *stopped = Some(began.elapsed());
                    }
                })
                .await;
            assert_eq!(ended, Ended::Lost);
            let stopped = stopped.unwrap();
            assert!(
                stopped <= GIVE_UP,
                "hangs after {hangs_after}/10 s: stopped after {stopped:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_leads_on_when_silent_stops_when_another_holds_the_lease() {
        let (election, state) = election();
        let shutdown = CancellationToken::new();
        let server = Arc::clone(&state);
        let ended = election
            .leading_on_when_silent()
            .lead(&shutdown, |token| async move {
                server.lock().unwrap().down = true;
                tokio::time::sleep(DURATION * 6).await;
                assert!(!token.is_cancelled(), "the server is silent, nobody else leads");
                {
                    let mut server = server.lock().unwrap();
                    server.down = false;
                    if let Some(lease) = &mut server.lease {
                        lease["spec"]["holderIdentity"] = "another".into();
                    }
                }
                token.cancelled().await;
            })
            .await;
        assert_eq!(ended, Ended::Lost);
    }
}
