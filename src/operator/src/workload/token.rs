//! Clients that act as a team: short-lived tokens of the ServiceAccount `multiactive-deployer` of a namespace.

use super::trouble::{Cause, Trouble};
use crate::apply::CALL_LIMIT;
use crate::members::Member;
use http::HeaderValue;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use multiactive_runtime::kube_client::{ClientError, Patience, authorized};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// The ServiceAccount whose rights a team's workloads have.
pub const DEPLOYER: &str = "multiactive-deployer";

/// How long a token shall live: the shortest that the API allows.
const LIFE: Duration = Duration::from_secs(600);
/// How soon a renewal that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Member and namespace.
type Key = (String, String);

/// The clients, one for each member and namespace.
#[derive(Default)]
pub struct Deployers(Mutex<HashMap<Key, Arc<Place>>>);

/// One client, or the last trouble with getting it. Who waits for the lock waits for one request, not for its own.
type Place = tokio::sync::Mutex<State>;

#[derive(Default)]
struct State {
    deployer: Option<Deployer>,
    /// When the last request was refused or not answered, and why.
    trouble: Option<(Instant, Trouble)>,
}

/// A client whose token is renewed ahead for as long as it is kept here.
struct Deployer {
    connection: u64,
    client: Client,
    _renewal: AbortOnDropHandle<()>,
}

impl Deployers {
    /// The client that acts as the team of `namespace` in `member`.
    ///
    /// # Errors
    ///
    /// Why the member gave no token.
    pub async fn client(&self, member: &Member, namespace: &str) -> Result<Client, Trouble> {
        let key = (member.name.clone(), namespace.to_owned());
        let place = Arc::clone(self.lock().entry(key).or_default());
        let came = Instant::now();
        let mut state = place.lock().await;
        if let Some(known) = state
            .deployer
            .as_ref()
            .filter(|known| known.connection == member.connection)
        {
            return Ok(known.client.clone());
        }
        // What another was told while this one waited holds for both.
        if let Some((_, trouble)) = state.trouble.as_ref().filter(|(at, _)| *at >= came) {
            return Err(trouble.clone());
        }
        match make(member, namespace).await {
            Ok(deployer) => {
                let client = deployer.client.clone();
                state.deployer = Some(deployer);
                state.trouble = None;
                Ok(client)
            }
            Err(trouble) => {
                state.trouble = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }

    /// Forgets a client whose token was refused, such as after its account was made anew.
    pub fn forget(&self, cluster: &str, namespace: &str) {
        self.lock().remove(&(cluster.to_owned(), namespace.to_owned()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make(member: &Member, namespace: &str) -> Result<Deployer, Trouble> {
    let first = request(member, namespace).await?;
    let token = Arc::new(Mutex::new(first.header));
    let client = build(member, &token).map_err(|error| {
        let why = crate::error::chain(&error);
        Trouble::new(
            Cause::Unreachable,
            format!("no client for member {} can be made: {why}", member.name),
        )
    })?;
    let renewal = tokio::spawn(renew(member.clone(), namespace.to_owned(), token, first.renew_in));
    Ok(Deployer {
        connection: member.connection,
        client,
        _renewal: AbortOnDropHandle::new(renewal),
    })
}

struct Token {
    header: HeaderValue,
    renew_in: Duration,
}

async fn renew(member: Member, namespace: String, token: Arc<Mutex<HeaderValue>>, first: Duration) {
    let mut pause = first;
    loop {
        tokio::time::sleep(pause).await;
        pause = match request(&member, &namespace).await {
            Ok(new) => {
                *token.lock().unwrap_or_else(PoisonError::into_inner) = new.header;
                new.renew_in
            }
            Err(trouble) => {
                tracing::warn!(member = member.name, namespace, %trouble, "no new token, keeping the old");
                TRY_AGAIN
            }
        };
    }
}

async fn request(member: &Member, namespace: &str) -> Result<Token, Trouble> {
    let cluster = &member.name;
    let accounts: Api<ServiceAccount> = Api::namespaced(member.client.clone(), namespace);
    let wanted = TokenRequest {
        spec: TokenRequestSpec {
            // No audience: the API server's own.
            audiences: Vec::new(),
            expiration_seconds: i64::try_from(LIFE.as_secs()).ok(),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let post = PostParams::default();
    let call = accounts.create_token_request(DEPLOYER, &post, &wanted);
    let answer = match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(refused(&error, cluster, namespace)),
        Err(_) => {
            return Err(Trouble::new(
                Cause::Unreachable,
                format!("member {cluster} did not answer"),
            ));
        }
    };
    let unusable = || {
        Trouble::new(
            Cause::Unreachable,
            format!("member {cluster} gave a token that cannot be used"),
        )
    };
    let status = answer.status.ok_or_else(unusable)?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", status.token)).map_err(|_| unusable())?;
    header.set_sensitive(true);
    Ok(Token {
        header,
        renew_in: renew_in(Timestamp::now(), status.expiration_timestamp.0),
    })
}

/// Two thirds of what is left, but never at once: a clock that is wrong must not make a storm.
fn renew_in(now: Timestamp, until: Timestamp) -> Duration {
    let left = u64::try_from(until.as_second().saturating_sub(now.as_second())).unwrap_or(0);
    Duration::from_secs((left * 2 / 3).max(TRY_AGAIN.as_secs()))
}

fn refused(error: &kube::Error, cluster: &str, namespace: &str) -> Trouble {
    let kube::Error::Api(status) = error else {
        let why = crate::error::chain(error);
        return Trouble::new(Cause::Unreachable, format!("member {cluster} did not answer: {why}"));
    };
    match status.code {
        404 => Trouble::new(
            Cause::AccountMissing,
            format!(
                "there is no ServiceAccount {DEPLOYER} in namespace {namespace} of member {cluster}; create the \
                 namespace and the account there, with the rights of the team"
            ),
        ),
        403 => Trouble::new(
            Cause::MissingRight,
            format!(
                "the operator's account in member {cluster} may not create serviceaccounts/token of {DEPLOYER} in \
                 namespace {namespace}; add the namespace to the chart's member.namespaces there"
            ),
        ),
        _ => Trouble::new(
            Cause::Unreachable,
            format!("member {cluster} gave no token: {}", status.message),
        ),
    }
}

fn build(member: &Member, token: &Arc<Mutex<HeaderValue>>) -> Result<Client, ClientError> {
    let token = Arc::clone(token);
    // Watches are silent for long; every other call has its own limit.
    authorized(member.config.clone(), Patience::WATCHES, move || {
        token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_ahead_and_never_in_a_storm() {
        for (left, want) in [(600, 400), (9, 6), (3, 5), (0, 5), (-100, 5)] {
            let now = Timestamp::from_second(1_000).unwrap();
            let until = Timestamp::from_second(1_000 + left).unwrap();
            assert_eq!(renew_in(now, until), Duration::from_secs(want), "{left} s left");
        }
    }
}
