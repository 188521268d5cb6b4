//! One task a MemberCluster: finds its credentials, connects, probes it, and says so in registry and status. A member
//! that hangs delays nobody else.

use super::access::{self, Access};
use super::probe::{self, Probe, Probes};
use super::{Health, Member, identity, lifecycle};
use crate::Context;
use crate::apply::{read, within};
use crate::conditions::{Readiness, is_ready, set_readiness};
use crate::error::Error;
use crate::metrics::MemberLabels;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::EventType;
use kube::{Api, Client, ResourceExt};
use multiactive_api::{AccessType, MemberCluster, MemberClusterStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often a member is asked, and its Secret read.
const EVERY: Duration = Duration::from_secs(10);
/// How soon it is asked again after a first failure.
const SOON: Duration = Duration::from_secs(2);

/// Numbers connections over all members.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// One member's task.
pub(super) struct Controller {
    pub(super) ctx: Arc<Context>,
    pub(super) name: String,
    pub(super) changed: Arc<Notify>,
    pub(super) hub_uid: String,
}

/// A connection and what it was made from.
struct Connection {
    source: Source,
    access: Access,
    number: u64,
    /// Which cluster answered, where it is the MemberCluster's.
    uid: Option<String>,
    version: Option<String>,
    /// Whether another cluster answered.
    stranger: bool,
}

/// What is known of the member itself, whatever the connection.
#[derive(Default)]
struct Known {
    /// Which cluster it is.
    uid: Option<String>,
    /// When it answered last.
    answered: Option<Timestamp>,
}

/// What a connection was made from.
#[derive(Clone, PartialEq, Eq)]
enum Source {
    InCluster,
    Kubeconfig(Vec<u8>),
}

impl Controller {
    /// Runs until `token` is cancelled.
    pub(super) async fn run(self, token: CancellationToken) {
        let mut probes = Probes::default();
        let (mut connection, mut known) = (None, Known::default());
        loop {
            let probe = match token.run_until_cancelled(self.probe(&mut connection, &mut known)).await {
                Some(probe) => probe,
                None => return,
            };
            let before = probes.ready;
            if let Some(verdict) = probes.take(probe) {
                self.register(connection.as_ref(), &verdict);
                self.tell(before, &verdict);
                if token
                    .run_until_cancelled(self.write_status(connection.as_ref(), &known, &verdict))
                    .await
                    .is_none()
                {
                    return;
                }
            }
            let leaving = self
                .object()
                .is_some_and(|object| object.metadata.deletion_timestamp.is_some());
            let pause = if leaving || probes.wavers() { SOON } else { EVERY };
            tokio::select! {
                () = token.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn object(&self) -> Option<Arc<MemberCluster>> {
        self.ctx.hub.members.get("", &self.name)
    }

    /// Connects where needed, and asks.
    async fn probe(&self, connection: &mut Option<Connection>, known: &mut Known) -> Probe {
        let Some(object) = self.object() else {
            return failed("Gone", "the MemberCluster is being deleted".to_owned());
        };
        let source = match self.source(&object).await {
            Ok(source) => source,
            Err(probe) => return probe,
        };
        if connection.as_ref().is_none_or(|known| known.source != source) {
            match connect(source).await {
                Ok(new) => *connection = Some(new),
                // The last good connection goes on serving; the verdict says what is wrong with the new one.
                Err(error) => {
                    let from = secret(&object, &self.ctx.namespace);
                    let from = from.map_or_else(String::new, |secret| format!("{secret}: "));
                    return Probe::Misconfigured {
                        reason: error.reason(),
                        message: format!("{from}{error}"),
                    };
                }
            }
        }
        let Some(connection) = connection.as_mut() else {
            return failed("NotConnected", "there is no connection yet".to_owned());
        };
        match ask(&connection.access.client).await {
            Ok(uid) => {
                if let Some(message) = identity::changed(&object, known.uid.as_deref(), &uid) {
                    (connection.stranger, connection.uid) = (true, None);
                    let reason = "ClusterChanged";
                    return Probe::Misconfigured { reason, message };
                }
                connection.stranger = false;
                known.uid = Some(uid.clone());
                known.answered = Some(Timestamp::now());
                if connection.version.is_none() {
                    let version = connection.access.client.apiserver_version();
                    let version = tokio::time::timeout(SOON, version).await;
                    connection.version = version.ok().and_then(Result::ok).map(|info| info.git_version);
                }
                connection.uid = Some(uid);
                Probe::Answered
            }
            Err(error) => {
                let secret = secret(&object, &self.ctx.namespace);
                probe::failed(&error, secret.as_deref(), connection.access.until, Timestamp::now())
            }
        }
    }

    async fn source(&self, object: &MemberCluster) -> Result<Source, Probe> {
        let access = &object.spec.access;
        let wanted = match access.kind {
            AccessType::InCluster => return Ok(Source::InCluster),
            AccessType::Kubeconfig => access.kubeconfig.as_ref(),
        };
        let misconfigured = |reason, message| Probe::Misconfigured { reason, message };
        let Some(wanted) = wanted else {
            let message = "spec.access.kubeconfig is missing".to_owned();
            return Err(misconfigured("KubeconfigInvalid", message));
        };
        let namespace = wanted.namespace.as_deref().unwrap_or(&self.ctx.namespace);
        let api: Api<Secret> = Api::namespaced(self.ctx.client.clone(), namespace);
        let secret = match read(&api, &wanted.secret).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                let message = format!("Secret {namespace}/{} does not exist: create it", wanted.secret);
                return Err(misconfigured("SecretNotFound", message));
            }
            Err(error) => return Err(failed("SecretUnreadable", error.chain())),
        };
        let data = secret.data.unwrap_or_default();
        match data.get(&wanted.key) {
            Some(bytes) => Ok(Source::Kubeconfig(bytes.0.clone())),
            None => {
                let message = format!("Secret {namespace}/{} has no key {}", wanted.secret, wanted.key);
                Err(misconfigured("SecretKeyNotFound", message))
            }
        }
    }

    fn register(&self, connection: Option<&Connection>, verdict: &Readiness) {
        let (Some(object), Some(connection)) = (self.object(), connection) else {
            return;
        };
        if connection.stranger {
            // Nobody works with it, not over an older connection either: that may end at the same address.
            self.ctx.members.remove(&self.name);
        }
        let labels = MemberLabels {
            member: self.name.clone(),
        };
        let ready = i64::from(verdict.is_ready());
        self.ctx.metrics.member_ready.get_or_create(&labels).set(ready);
        let Some(uid) = connection.uid.clone() else { return };
        self.ctx.members.put(Member {
            name: self.name.clone(),
            client: connection.access.client.clone(),
            config: connection.access.config.clone(),
            connection: connection.number,
            hub: uid == self.hub_uid,
            uid,
            allowed_namespaces: object.spec.allowed_namespaces.clone(),
            agent_namespace: object.spec.agent_namespace.clone(),
            health: probe::health(verdict),
        });
    }

    /// Log and event when readiness flips.
    fn tell(&self, before: Option<bool>, verdict: &Readiness) {
        if before == Some(verdict.is_ready()) {
            return;
        }
        let Some(object) = self.object() else { return };
        // After a restart of the operator nothing flipped.
        let known = object.status.as_ref().and_then(|status| is_ready(&status.conditions));
        match probe::health(verdict) {
            Health::Ready => tracing::info!(member = self.name, "member ready"),
            Health::NotReady { reason, message } => {
                tracing::warn!(member = self.name, reason, message, "member not ready")
            }
        }
        if known == Some(verdict.is_ready()) {
            return;
        }
        match probe::health(verdict) {
            Health::Ready => {
                let note = "the cluster answers".to_owned();
                self.ctx.event(&*object, EventType::Normal, "MemberReady", note);
            }
            Health::NotReady { message, .. } => {
                self.ctx.event(&*object, EventType::Warning, "MemberNotReady", message);
            }
        }
    }

    async fn write_status(&self, connection: Option<&Connection>, known: &Known, verdict: &Readiness) {
        let Some(object) = self.object() else { return };
        if crate::status::is_paused(&*object) {
            return;
        }
        let leaving = object.metadata.deletion_timestamp.is_some();
        let holders = if leaving {
            lifecycle::holders(&self.ctx, &self.name)
        } else {
            None
        };
        lifecycle::finalizer(&self.ctx, &object, holders.is_some()).await;
        let held = holders.map(|message| Readiness::Stalled {
            reason: "OwnsSlots",
            message,
        });
        if let Some(Readiness::Stalled { reason, message }) = &held {
            let told = object
                .status
                .iter()
                .flat_map(|status| &status.conditions)
                .any(|c| c.reason == *reason);
            if !told {
                self.ctx.event(&*object, EventType::Warning, reason, message.clone());
            }
        }
        let verdict = held.as_ref().unwrap_or(verdict);
        let now = Timestamp::now();
        let status = next_status(&object, connection, known.answered, verdict, &self.hub_uid, now);
        if object.status.as_ref() == Some(&status) {
            return;
        }
        let api: Api<MemberCluster> = Api::all(self.ctx.client.clone());
        self.ctx.metrics.wrote("status");
        match crate::status::write(&api, &*object, &status).await {
            Ok(_) => {}
            Err(error) if crate::status::is_overtaken(&error) => {}
            Err(error) => tracing::warn!(member = self.name, error = error.chain(), "status was not written"),
        }
    }
}

fn next_status(
    object: &MemberCluster,
    connection: Option<&Connection>,
    answered: Option<Timestamp>,
    verdict: &Readiness,
    hub_uid: &str,
    now: Timestamp,
) -> MemberClusterStatus {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    set_readiness(&mut status.conditions, verdict, object.metadata.generation, now);
    if let Some(connection) = connection.filter(|connection| !connection.stranger) {
        status.credentials_until = connection.access.until.map(Time);
        if let Some(uid) = &connection.uid {
            status.hub = uid == hub_uid;
            status.cluster_uid = Some(uid.clone());
        }
        status.version = connection.version.clone().or(status.version);
    }
    // While it answers that is now, which nobody needs to write.
    status.last_seen = match verdict.is_ready() {
        true => None,
        false => status.last_seen.or(answered.map(Time)),
    };
    status
}

/// Where the kubeconfig of a member is, for people; `None` where it has none.
fn secret(object: &MemberCluster, namespace: &str) -> Option<String> {
    let access = &object.spec.access;
    let wanted = match access.kind {
        AccessType::InCluster => return None,
        AccessType::Kubeconfig => access.kubeconfig.as_ref()?,
    };
    let namespace = wanted.namespace.as_deref().unwrap_or(namespace);
    Some(format!("key {} of Secret {namespace}/{}", wanted.key, wanted.secret))
}

fn failed(reason: &'static str, message: String) -> Probe {
    Probe::Failed { reason, message }
}

async fn connect(source: Source) -> Result<Connection, access::AccessError> {
    let access = match &source {
        Source::InCluster => access::in_cluster().await?,
        Source::Kubeconfig(bytes) => {
            let text = std::str::from_utf8(bytes);
            let text = text.map_err(|error| access::AccessError::Malformed(error.to_string()))?;
            access::from_kubeconfig(text).await?
        }
    };
    Ok(Connection {
        source,
        access,
        number: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        uid: None,
        version: None,
        stranger: false,
    })
}

/// The uid of the cluster's kube-system namespace: a read that needs valid credentials.
pub(super) async fn ask(client: &Client) -> Result<String, Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let error = |source| Error::Read {
        kind: "Namespace".into(),
        name: "kube-system".to_owned(),
        source: Box::new(source),
    };
    let namespace = within(
        || "reading Namespace kube-system".to_owned(),
        api.get("kube-system"),
        error,
    )
    .await?;
    Ok(namespace.uid().unwrap_or_default())
}
