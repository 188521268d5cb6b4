//! Write leases in the hub: one Lease object for each unit, and for each member the right to renew those of its own units,
//! with a token of its own.
//!
//! The objects are in the operator's namespace: so it needs no right to make accounts and roles in those of teams.

mod access;
mod address;
mod renewals;

pub use address::HubAddress;
pub use renewals::{Noted, Renewals};

use address::Account;

use crate::Context;
use crate::apply::{FIELD_MANAGER, apply, delete, read, writing};
use crate::error::Error;
use crate::supervise::supervise;
use access::{Access, account_name};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::core::DeserializeGuard;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use multiactive_api::{HUB_ACCESS_SECRET, Unit};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::lease::Lease;
use multiactive_core::quarantine::{LeaseWanted, lease_wanted};
use multiactive_ledger::{
    Commit, KubernetesLeases, KubernetesLedger, LEASE_LABEL, LeaseLedger, Ledger, held, lease_name,
};
use multiactive_runtime::clock::boottime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How often all of it is looked at when nothing changes.
const EVERY: Duration = Duration::from_secs(60);
/// How soon after a failure.
const AGAIN: Duration = Duration::from_secs(3);
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// How long what was found in place is taken to be so.
const TRUSTED: Duration = Duration::from_secs(300);
/// For how long a token is asked for; half of that it outlasts an operator that is away.
const TOKEN: SignedDuration = SignedDuration::from_hours(8);
/// How long one write of a lease may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    token.run_until_cancelled(keep(ctx)).await;
}

async fn keep(ctx: Arc<Context>) {
    let changed = Arc::new(Notify::new());
    let _watch = AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&ctx), Arc::clone(&changed))));
    let mut changes = ctx.hub.changes();
    let mut members = ctx.members.subscribe();
    ctx.hub.wait_until_ready().await;
    ctx.leases.wait_until_ready().await;
    let mut keeper = Keeper {
        leases: KubernetesLeases::new(ctx.client.clone(), &ctx.namespace),
        ledger: KubernetesLedger::new(ctx.client.clone(), FIELD_MANAGER),
        ctx,
        settled: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    loop {
        members.mark_unchanged();
        let pause = if keeper.pass(Timestamp::now()).await {
            EVERY
        } else {
            AGAIN
        };
        let deadline = Instant::now() + pause;
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) if matches!(&*change.kind, "Unit" | "MemberCluster") => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
                found = members.changed() => match found {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = changed.notified() => break,
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Keeps the copies of the Lease objects; tells when one came or went. A renewal changes nothing for us.
async fn watch(ctx: Arc<Context>, changed: Arc<Notify>) {
    let metrics = ctx.metrics.clone();
    let follow = move || {
        let (ctx, changed) = (Arc::clone(&ctx), Arc::clone(&changed));
        async move {
            let api: Api<DeserializeGuard<LeaseObject>> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
            let known = AtomicUsize::new(0);
            let word = |namespace: &str, name: &str, _| {
                // A copy only lags: whoever holds a lease counts from before it.
                if let Some(Ok(found)) = ctx.leases.get(namespace, name).map(|object| held(&object)) {
                    ctx.renewals.note(name, &found, boottime());
                }
                let now = ctx.leases.count();
                if known.swap(now, Ordering::Relaxed) != now {
                    changed.notify_one();
                }
            };
            ctx.leases.run(api, word).await;
        }
    };
    supervise(metrics, "watch of leases", String::new(), follow).await;
}

struct Keeper {
    ctx: Arc<Context>,
    leases: KubernetesLeases,
    ledger: KubernetesLedger,
    /// What each member was found or brought to have, and when.
    settled: BTreeMap<String, (Access, Instant)>,
    /// What was said last of a member: said once.
    told: BTreeMap<String, String>,
}

impl Keeper {
    /// Looks at everything once; whether all of it is as it should be.
    async fn pass(&mut self, now: Timestamp) -> bool {
        let units = self.ctx.hub.units.all();
        let mut good = true;
        for unit in &units {
            good &= self.lease(unit).await;
        }
        good &= self.leave(&units).await;
        let members: Vec<_> = self
            .ctx
            .hub
            .members
            .all()
            .iter()
            .map(|member| member.name_any())
            .collect();
        self.settled.retain(|name, _| members.contains(name));
        for member in members {
            good &= self.member(&member, &units, now).await;
        }
        good
    }

    /// Makes the lease of a unit that has none: at the table of now, for what its databases hold open by older ones is not
    /// known.
    async fn lease(&self, unit: &Unit) -> bool {
        let (namespace, name) = (unit.namespace().unwrap_or_default(), UnitName(unit.name_any()));
        if self
            .ctx
            .leases
            .get(&self.ctx.namespace, &lease_name(&namespace, &name))
            .is_some()
        {
            return true;
        }
        let table = match self.ledger.read(&namespace).await {
            Ok(recorded) => recorded.map(|recorded| recorded.table),
            Err(error) => {
                tracing::warn!(namespace, unit = %name, %error, "no lease is made before the table is known");
                return false;
            }
        };
        let granted = table.as_ref().map_or(Epoch::NEVER, |table| table.epoch);
        // One that was taken away by hand while the table wants it sealed must not come back as one that may be renewed.
        let lease = match table.as_ref().map(|table| lease_wanted(table, &name)) {
            Some(LeaseWanted::Sealed(seal)) => Lease {
                sealed: Some(seal),
                ..Lease::first(name.clone(), Epoch::NEVER)
            },
            Some(LeaseWanted::Granted { .. }) | None => Lease::first(name.clone(), granted),
        };
        let length = multiactive_api::convert::lease_terms("spec.leaseDuration", &unit.spec.lease_duration);
        let length = length.unwrap_or_default().length();
        match self.leases.write(&namespace, None, &lease, length, LIMIT).await {
            Commit::Committed(_) => {
                tracing::info!(namespace, unit = %name, %granted, "a write lease was made");
                true
            }
            // It is there by now.
            Commit::Conflict => true,
            Commit::Refused(why) | Commit::Unknown(why) => {
                tracing::warn!(namespace, unit = %name, why, "a write lease was not made");
                false
            }
        }
    }

    /// Takes away the leases of units that are gone and own nothing.
    async fn leave(&self, units: &[Arc<Unit>]) -> bool {
        let is = |unit: &Arc<Unit>| lease_name(&unit.namespace().unwrap_or_default(), &UnitName(unit.name_any()));
        let wanted: BTreeSet<String> = units.iter().map(is).collect();
        let mut good = true;
        for object in self.ctx.leases.all() {
            let name = object.name_any();
            if wanted.contains(&name) || !object.labels().contains_key(LEASE_LABEL) {
                continue;
            }
            let Some((namespace, unit)) = name.split_once('.') else {
                continue;
            };
            // A copy that lacks a Unit proves nothing.
            let api: Api<Unit> = Api::namespaced(self.ctx.client.clone(), namespace);
            let (Ok(None), Ok(recorded)) = (read(&api, unit).await, self.ledger.read(namespace).await) else {
                good = false;
                continue;
            };
            let unit = UnitName(unit.to_owned());
            if recorded.is_some_and(|recorded| crate::units::is_needed(&unit, &recorded.table)) {
                continue;
            }
            good &= self.delete(&object).await;
        }
        good
    }

    async fn delete(&self, object: &LeaseObject) -> bool {
        let api: Api<LeaseObject> = Api::namespaced(self.ctx.client.clone(), &self.ctx.namespace);
        let deleted = delete(&api, object).await;
        if let Err(error) = &deleted {
            let lease = object.name_any();
            tracing::warn!(lease, error = error.chain(), "the lease of a unit that is gone stays");
        }
        deleted.is_ok()
    }

    /// Brings one member's way to the hub to what it shall be.
    async fn member(&mut self, name: &str, units: &[Arc<Unit>], now: Timestamp) -> bool {
        let Some(hub) = self.ctx.hub_address.clone() else {
            return true;
        };
        let own = units.iter().filter(|unit| unit.spec.cluster == name);
        let own = own.map(|unit| lease_name(&unit.namespace().unwrap_or_default(), &UnitName(unit.name_any())));
        let wanted = Access::new(name, &self.ctx.namespace, own.collect());
        let settled = self.settled.get(name);
        let trusted = settled.is_some_and(|(access, at)| *access == wanted && at.elapsed() < TRUSTED);
        let ready = self.ctx.members.get(name).filter(|member| member.is_ready());
        let Some(member) = ready else { return true };
        if trusted {
            return true;
        }
        match self.settle(&wanted, &hub, &member, now).await {
            Ok(()) => {
                self.told.remove(name);
                self.settled.insert(name.to_owned(), (wanted, Instant::now()));
                true
            }
            Err(error) => {
                self.tell(name, error.chain());
                false
            }
        }
    }

    async fn settle(
        &self,
        wanted: &Access,
        hub: &HubAddress,
        member: &crate::members::Member,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (client, namespace) = (&self.ctx.client, self.ctx.namespace.as_str());
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
        let account = account_name(&member.name);
        let made = match read(&accounts, &account).await? {
            Some(made) => made,
            None => apply(&accounts, &wanted.account()).await?,
        };
        let role = wanted.role();
        if read(&roles, &account)
            .await?
            .is_none_or(|found: Role| found.rules != role.rules)
        {
            apply(&roles, &role).await?;
        }
        if read(&bindings, &account).await?.is_none() {
            apply(&bindings, &wanted.binding()).await?;
        }
        let secrets: Api<Secret> = Api::namespaced(member.client.clone(), &member.agent_namespace);
        let found = read(&secrets, HUB_ACCESS_SECRET).await?;
        let uid = made.uid().unwrap_or_default();
        let of = Account { namespace, uid: &uid };
        if found.is_some_and(|found| hub.is_fresh(&found, of, now)) {
            return Ok(());
        }
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Vec::new(),
                bound_object_ref: None,
                expiration_seconds: Some(TOKEN.as_secs()),
            },
            ..TokenRequest::default()
        };
        let params = PostParams::default();
        let call = accounts.create_token_request(&account, &params, &request);
        let answer = writing::<ServiceAccount, _>("requesting a token of", &account, call).await?;
        let Some(status) = answer.status else {
            let what = format!("the token of ServiceAccount {account}");
            return Err(Error::Timeout { what, limit: LIMIT });
        };
        let secret = hub.secret(&status.token, of, now, status.expiration_timestamp.0);
        apply(&secrets, &secret).await?;
        tracing::info!(member = member.name, "the way to the hub was written");
        Ok(())
    }

    /// An event where a member has no way to the hub, once for each reason.
    fn tell(&mut self, member: &str, problem: String) {
        if self.told.get(member) == Some(&problem) {
            return;
        }
        tracing::warn!(member, problem, "a member's way to the hub was not written");
        if let Some(object) = self.ctx.hub.members.get("", member) {
            let note = format!("its agents cannot renew write leases: {problem}");
            self.ctx
                .event(&*object, EventType::Warning, "HubAccessNotWritten", note);
        }
        self.told.insert(member.to_owned(), problem);
    }
}
