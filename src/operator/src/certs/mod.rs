//! Certificates of routers and agents: one authority in the hub, one Secret for each unit and each member's agent.
//!
//! The Secrets in members are read by name, again and again: the operator has no right to list or watch Secrets there.

mod authority;
mod leaf;
mod plan;

pub use authority::CA_SECRET;

use crate::Context;
use crate::apply::{apply, read};
use crate::error::Error;
use authority::CaSecret;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use leaf::{Leaf, issue, look, trust};
use multiactive_runtime::certs::{agent_name, router_name};
use plan::{CaStep, LeafStep, Leaves, ca_step, leaf_step};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// The Secret of a member's agent.
pub const AGENT_SECRET: &str = "multiactive-agent-tls";

/// How often the Secrets are looked at when nothing else changes.
const EVERY: Duration = Duration::from_secs(30);
/// How soon after a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// How many Secrets are looked at at a time.
const AT_ONCE: usize = 16;

/// The Secret of a unit's routers.
pub fn router_secret(unit: &str) -> String {
    format!("{unit}-router-tls")
}

/// Runs until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    token.run_until_cancelled(keep(ctx)).await;
}

async fn keep(ctx: Arc<Context>) {
    let mut changes = ctx.hub.changes();
    let mut members = ctx.members.subscribe();
    ctx.hub.wait_until_ready().await;
    let mut keeper = Keeper {
        ctx,
        told: BTreeMap::new(),
    };
    loop {
        let pause = match keeper.pass(Timestamp::now()).await {
            Ok(true) => EVERY,
            Ok(false) => AGAIN,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "certificates could not be looked after, trying again"
                );
                AGAIN
            }
        };
        let deadline = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) if matches!(&*change.kind, "Unit" | "MemberCluster") => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
                changed = members.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
    }
}

struct Keeper {
    ctx: Arc<Context>,
    /// What was said last of a Secret that could not be written: said once.
    told: BTreeMap<(String, String, String), String>,
}

/// A leaf as a pass found it; the Secret is unknown where its member did not answer.
struct Found {
    leaf: Leaf,
    secret: Option<Option<Secret>>,
}

impl Keeper {
    /// Looks at everything once; returns whether all of it is as it should be.
    async fn pass(&mut self, now: Timestamp) -> anyhow::Result<bool> {
        let secrets: Api<Secret> = Api::namespaced(self.ctx.client.clone(), &self.ctx.namespace);
        let leaves = self.leaves();
        let found: Vec<Found> = {
            let work: Vec<_> = leaves.into_iter().map(|leaf| self.find(leaf)).collect();
            futures::stream::iter(work).buffered(AT_ONCE).collect().await
        };
        let stored: Option<Secret> = read(&secrets, CA_SECRET).await?;
        let mut ca = stored.as_ref().and_then(CaSecret::read);
        if let Some(new) = self.advance(ca.as_ref(), &found, now)? {
            let mut secret = new.write();
            secret.metadata.resource_version = stored.as_ref().and_then(Secret::resource_version);
            apply(&secrets, &secret).await?;
            ca = Some(new);
        }
        let Some(ca) = ca else { return Ok(false) };
        let mut complete = true;
        for found in &found {
            complete &= self.settle(found, &ca, now).await;
        }
        Ok(complete)
    }

    /// The authorities after this pass, where they change.
    fn advance(&self, ca: Option<&CaSecret>, found: &[Found], now: Timestamp) -> anyhow::Result<Option<CaSecret>> {
        let all = |test: &dyn Fn(&plan::LeafSeen) -> bool| {
            found.iter().all(|found| match (&found.secret, ca) {
                (Some(Some(secret)), Some(ca)) => test(&look(secret, &found.leaf, ca, now)),
                _ => false,
            })
        };
        let leaves = Leaves {
            all_trust: all(&|seen| seen.trusts),
            all_current: all(&|seen| seen.of_current),
        };
        let step = ca_step(ca.and_then(CaSecret::authorities), leaves, now);
        if step != CaStep::Keep {
            tracing::info!(?step, "the authority changes");
        }
        Ok(CaSecret::after(ca, step, now)?)
    }

    /// Brings one Secret to what it should be; returns whether it is.
    async fn settle(&mut self, found: &Found, ca: &CaSecret, now: Timestamp) -> bool {
        let Found {
            leaf,
            secret: Some(secret),
        } = found
        else {
            return false;
        };
        let Some(api) = self.api(leaf) else { return false };
        let step = leaf_step(secret.as_ref().map(|secret| look(secret, leaf, ca, now)), now);
        let wanted = match (step, secret) {
            (LeafStep::Keep, _) => None,
            (LeafStep::Trust, Some(known)) => trust(leaf, ca, known),
            (LeafStep::Issue(_) | LeafStep::Trust, _) => match issue(leaf, ca, now) {
                Ok(secret) => Some(secret),
                Err(error) => {
                    self.tell(leaf, Some(crate::error::chain(&error)));
                    return false;
                }
            },
        };
        if let Some(wanted) = wanted {
            if let Err(error) = apply(&api, &wanted).await {
                self.tell(leaf, Some(error.chain()));
                return false;
            }
            tracing::info!(
                member = leaf.cluster,
                namespace = leaf.namespace,
                secret = leaf.secret,
                ?step,
                "written"
            );
        }
        self.tell(leaf, None);
        true
    }

    /// Every Secret that shall exist in a member that is known.
    fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        for unit in self.ctx.hub.units.all() {
            let (name, namespace) = (unit.name_any(), unit.namespace().unwrap_or_default());
            let member = self.ctx.members.get(&unit.spec.cluster);
            if member.is_some_and(|member| !member.allows(&namespace)) {
                continue;
            }
            leaves.push(Leaf {
                cluster: unit.spec.cluster.clone(),
                secret: router_secret(&name),
                name: router_name(&name, &namespace),
                namespace,
            });
        }
        for member in self.ctx.hub.members.all() {
            let cluster = member.name_any();
            leaves.push(Leaf {
                namespace: member.spec.agent_namespace.clone(),
                secret: AGENT_SECRET.to_owned(),
                name: agent_name(&cluster),
                cluster,
            });
        }
        leaves
    }

    async fn find(&self, leaf: Leaf) -> Found {
        let secret = match self.api(&leaf) {
            Some(api) => read(&api, &leaf.secret)
                .await
                .map_err(|error| self.unread(&leaf, &error))
                .ok(),
            None => None,
        };
        Found { leaf, secret }
    }

    fn unread(&self, leaf: &Leaf, error: &Error) {
        let error = error.chain();
        tracing::warn!(
            member = leaf.cluster,
            namespace = leaf.namespace,
            secret = leaf.secret,
            error,
            "not read"
        );
    }

    fn api(&self, leaf: &Leaf) -> Option<Api<Secret>> {
        let member = self.ctx.members.get(&leaf.cluster).filter(|member| member.is_ready())?;
        Some(Api::namespaced(member.client.clone(), &leaf.namespace))
    }

    /// An event where a Secret cannot be written, once for each reason.
    fn tell(&mut self, leaf: &Leaf, problem: Option<String>) {
        let key = (leaf.cluster.clone(), leaf.namespace.clone(), leaf.secret.clone());
        let Some(problem) = problem else {
            self.told.remove(&key);
            return;
        };
        if self.told.get(&key) == Some(&problem) {
            return;
        }
        tracing::warn!(
            member = leaf.cluster,
            namespace = leaf.namespace,
            secret = leaf.secret,
            problem,
            "not written"
        );
        if let Some(member) = self.ctx.hub.members.get("", &leaf.cluster) {
            let note = format!("Secret {} in namespace {}: {problem}", leaf.secret, leaf.namespace);
            self.ctx
                .event(&*member, EventType::Warning, "CertificateNotWritten", note);
        }
        self.told.insert(key, problem);
    }
}
