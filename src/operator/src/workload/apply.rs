//! The hand in one member: looks at an object, applies or removes it as the plan says, and tells what came of it.

use super::autoscale::{ScaleTarget, is_scaled, keep_owned_replicas, without_replicas};
use super::conflict::{Conflict, conflicts};
use super::copy::{Kept, Seen};
use super::fields::{applied_by, drift};
use super::judged::{Asked, Judged};
use super::kinds::Kind;
use super::kstatus::{State, verdict};
use super::marks::{Owner, marks_of};
use super::pass::{Found, Job, entry, recorded_uid};
use super::plan::{Act, Removal, act, removal};
use super::refused::{Turn, Untried};
use super::render::{Desired, Id};
use super::shared::Shared;
use super::trouble::{Cause, Tried, Trouble, explain};
use super::watches::{Scope, Watch};
use crate::apply::CALL_LIMIT;
use crate::members::Member;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope};
use kube::runtime::events::EventType;
use kube::{Api, Client};
use multiactive_api::WorkloadObject;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Works on the objects of one job.
pub struct Hand<'a> {
    /// What all jobs share.
    pub shared: &'a Shared,
    /// The job.
    pub job: &'a Job,
    /// The member.
    pub member: &'a Member,
    /// Acts as the team.
    pub client: Client,
    /// What earlier passes found to be as wanted.
    pub judged: &'a Judged,
    /// What was never sent.
    pub untried: &'a Untried,
    /// The watches that were needed.
    pub held: Mutex<Vec<Arc<Watch>>>,
}

impl Hand<'_> {
    /// Brings one object to what is wanted.
    pub async fn settle(&self, desired: &Desired, targets: Option<&[ScaleTarget]>) -> Found {
        match self.try_settle(desired, targets).await {
            Ok(found) => found,
            Err(trouble) => {
                let uid = recorded_uid(self.job, &desired.id);
                let refused = trouble.cause == Cause::MissingRight && uid.is_none();
                match refused && self.untried.never_sent(&desired.id) {
                    true => Found::refused(&desired.id, &trouble),
                    false => Found::troubled(&desired.id, uid, &trouble),
                }
            }
        }
    }

    async fn try_settle(&self, desired: &Desired, targets: Option<&[ScaleTarget]>) -> Result<Found, Trouble> {
        let id = &desired.id;
        let (watch, kind) = self.watch(id, true).await?;
        let kept = self.live(&watch, &kind, id).await?;
        let asked = Asked::of(desired, targets, kept.as_deref());
        if let Some(found) = asked.as_ref().and_then(|asked| self.judged.found(id, asked)) {
            return Ok(found);
        }
        let live = kept.map(|kept| watch.value(&kept));
        let scaled = is_scaled(desired, targets, live.as_ref());
        let left_out = scaled.then(|| without_replicas(desired));
        let desired = left_out.as_ref().unwrap_or(desired);
        let mut sealed = desired.sealed();
        let unkept = self.shared.unkept(&self.job.cluster, &self.job.owner, id);
        let decision = act(
            &sealed,
            desired.hash(),
            live.as_ref(),
            &self.job.owner,
            &self.shared.claims(),
            &unkept,
        );
        match (decision, live) {
            (Act::Keep, Some(live)) => {
                let found = found(id, &live);
                if let Some(asked) = asked {
                    self.judged.remember(id, asked, &found);
                }
                Ok(found)
            }
            (Act::Conflict(message), _) => Err(Trouble::new(Cause::Conflict, message)),
            (decision @ (Act::Keep | Act::Create | Act::Update | Act::PutBack(_)), live) => {
                let about = || Trouble::new(Cause::Progressing, "it is about to be applied");
                match self.untried.turn(id) {
                    Turn::Send => {}
                    Turn::TakeBack => return Err(about()),
                    Turn::Wait => return Ok(Found::refused(id, &about())),
                }
                if let Some(live) = live.as_ref().filter(|_| scaled) {
                    keep_owned_replicas(&mut sealed, live, applied_by(live, &self.job.owner.manager()));
                }
                let (after, taken) = self.apply(id, &kind, &sealed, live.as_ref()).await?;
                watch.learn(&id.name, &after);
                self.tell_drift(id, &decision, taken);
                Ok(found(id, &after))
            }
        }
    }

    /// Server-side applies; first without force, so that nothing is taken from who applied it. Also returns what was
    /// taken back from updates.
    async fn apply(
        &self,
        id: &Id,
        kind: &Kind,
        sealed: &Value,
        live: Option<&Value>,
    ) -> Result<(Value, Vec<Conflict>), Trouble> {
        let owner = &self.job.owner;
        let heir = live
            .and_then(marks_of)
            .filter(|marks| !owner.wrote(marks))
            .map(|marks| {
                // What another UnitWorkload left behind when it went is not its any more.
                let name = marks
                    .workload
                    .rsplit_once('/')
                    .map_or(marks.workload.clone(), |(_, name)| name.to_owned());
                Owner { name, ..owner.clone() }.manager()
            });
        let mut taken: Vec<Conflict> = Vec::new();
        loop {
            let force = !taken.is_empty();
            let error = match self.patch(id, kind, sealed, force).await? {
                Ok(after) => {
                    self.remember_unkept(id, sealed, &after);
                    return Ok((after, taken));
                }
                Err(error) => error,
            };
            let kube::Error::Api(status) = &error else {
                return Err(explain(&error, self.tried("patch", id)));
            };
            let conflicts = conflicts(status);
            let claimed = conflicts
                .iter()
                .find(|conflict| conflict.applied && Some(&conflict.manager) != heir.as_ref());
            match claimed {
                Some(conflict) => return Err(Trouble::new(Cause::Conflict, conflict.message())),
                None if conflicts.is_empty() || force => return Err(explain(&error, self.tried("patch", id))),
                // It was not there a moment ago: the next look tells whose it is.
                None if live.is_none() => {
                    return Err(Trouble::new(Cause::Conflict, "someone else made it at the same time"));
                }
                None => taken = conflicts,
            }
        }
    }

    async fn patch(&self, id: &Id, kind: &Kind, sealed: &Value, force: bool) -> Result<kube::Result<Value>, Trouble> {
        let _permit = self.shared.permit(&self.job.cluster).await;
        let manager = self.job.owner.manager();
        let mut params = PatchParams::apply(&manager).validation_strict();
        params.force = force;
        let patch = Patch::Apply(sealed);
        let api: Api<DynamicObject> = self.api(kind);
        let call = api.patch(&id.name, &params, &patch);
        let answer = tokio::time::timeout(CALL_LIMIT, call)
            .await
            .map_err(|_| self.silent())?;
        Ok(answer.and_then(|object| serde_json::to_value(object).map_err(kube::Error::SerdeError)))
    }

    /// Fields that this server drops from what was just applied: to apply them again and again would change nothing.
    fn remember_unkept(&self, id: &Id, sealed: &Value, after: &Value) {
        let owned = applied_by(after, &self.job.owner.manager());
        let lost = owned.map(|owned| drift(sealed, after, owned)).unwrap_or_default();
        let lost = lost.iter().map(ToString::to_string).collect();
        self.shared.set_unkept(&self.job.cluster, &self.job.owner, id, lost);
    }

    /// Removes one object, if it is provably ours; `None` where nothing is left to be recorded.
    pub async fn remove(&self, recorded: &WorkloadObject) -> Option<Found> {
        let id = Id::from(recorded);
        if recorded.uid.is_none() && self.untried.never_sent(&id) {
            tracing::info!(member = self.job.cluster, %id, "not looked for: it was never sent");
            return None;
        }
        match self.try_remove(recorded, &id).await {
            Ok(found) => found,
            Err(trouble) => Some(Found::troubled(&id, recorded.uid.clone(), &trouble)),
        }
    }

    async fn try_remove(&self, recorded: &WorkloadObject, id: &Id) -> Result<Option<Found>, Trouble> {
        let (watch, kind) = match self.watch(id, true).await {
            Ok(known) => known,
            // A kind that the member says it does not serve has no objects there.
            Err(trouble) if trouble.cause == Cause::UnknownKind => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        let live = self.live(&watch, &kind, id).await?;
        let live = live.map(|kept| watch.value(&kept));
        let leaving = || {
            let trouble = Trouble::new(Cause::Progressing, "it is being deleted");
            Found::troubled(id, recorded.uid.clone(), &trouble)
        };
        match removal(recorded, live.as_ref(), &self.job.owner) {
            Removal::Forget(why) => {
                tracing::info!(member = self.job.cluster, %id, why, "not deleted");
                Ok(None)
            }
            Removal::Wait => Ok(Some(leaving())),
            Removal::Delete(uid) => {
                self.delete(id, &kind, uid).await?;
                Ok(Some(leaving()))
            }
        }
    }

    async fn delete(&self, id: &Id, kind: &Kind, uid: String) -> Result<(), Trouble> {
        let _permit = self.shared.permit(&self.job.cluster).await;
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        let api: Api<DynamicObject> = self.api(kind);
        let call = api.delete(&id.name, &params);
        match tokio::time::timeout(CALL_LIMIT, call)
            .await
            .map_err(|_| self.silent())?
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(explain(&error, self.tried("delete", id))),
        }
    }

    /// The watch over objects of this kind, its copy complete.
    pub async fn watch(&self, id: &Id, marked: bool) -> Result<(Arc<Watch>, Kind), Trouble> {
        let tried = self.tried("list", id);
        let kind = self
            .shared
            .kinds
            .get(&self.client, tried, self.member.connection)
            .await?;
        let scope = Scope {
            cluster: self.job.cluster.clone(),
            connection: self.member.connection,
            namespace: if kind.namespaced {
                self.job.owner.namespace.clone()
            } else {
                String::new()
            },
            api_version: id.api_version.clone(),
            kind: id.kind.clone(),
            marked,
        };
        let watch = self.shared.watches.hold(&scope, &self.client, &kind);
        self.hold(&watch);
        match watch.synced(CALL_LIMIT).await {
            Ok(()) => Ok((watch, kind)),
            Err(None) => Err(self.silent()),
            Err(Some(error)) => {
                let trouble = explain(&error, tried);
                if trouble.cause == Cause::UnknownKind {
                    self.shared.kinds.forget(&self.job.cluster, id);
                }
                Err(trouble)
            }
        }
    }

    fn hold(&self, watch: &Arc<Watch>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.iter().any(|known| Arc::ptr_eq(known, watch)) {
            held.push(Arc::clone(watch));
        }
    }

    /// The object as it is. What the copy does not have may be there without our marks: the server is asked.
    async fn live(&self, watch: &Watch, kind: &Kind, id: &Id) -> Result<Option<Arc<Kept>>, Trouble> {
        if let Some(known) = watch.get(&id.name) {
            return Ok(Some(known));
        }
        let _permit = self.shared.permit(&self.job.cluster).await;
        let api: Api<Seen> = self.api(kind);
        let answer = tokio::time::timeout(CALL_LIMIT, api.get_opt(&id.name))
            .await
            .map_err(|_| self.silent())?;
        let object = answer.map_err(|error| explain(&error, self.tried("get", id)))?;
        Ok(object.map(|object| object.kept))
    }

    fn api<K>(&self, kind: &Kind) -> Api<K>
    where
        K: kube::Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        if kind.namespaced {
            Api::namespaced_with(self.client.clone(), &self.job.owner.namespace, &kind.resource)
        } else {
            Api::all_with(self.client.clone(), &kind.resource)
        }
    }

    fn tried<'b>(&'b self, verb: &'b str, id: &'b Id) -> Tried<'b> {
        Tried {
            verb,
            id,
            namespace: &self.job.owner.namespace,
            cluster: &self.job.cluster,
        }
    }

    fn silent(&self) -> Trouble {
        let Job { cluster, .. } = self.job;
        Trouble::new(
            Cause::Unreachable,
            format!("member {cluster} did not answer within {CALL_LIMIT:?}"),
        )
    }

    fn tell_drift(&self, id: &Id, decision: &Act, taken: Vec<Conflict>) {
        let fields: Vec<String> = match decision {
            Act::PutBack(drifted) => drifted
                .iter()
                .map(|field| match &field.by {
                    Some(by) => format!("{} (by {by})", field.path),
                    None => field.path.clone(),
                })
                .collect(),
            Act::Keep | Act::Create | Act::Update | Act::Conflict(_) => taken
                .iter()
                .map(|conflict| format!("{} (by {})", conflict.field, conflict.manager))
                .collect(),
        };
        if fields.is_empty() {
            return;
        }
        let Job { owner, cluster, .. } = self.job;
        let fields = fields.join(", ");
        let note = format!(
            "{} (member {cluster}): {id}: put back what others changed: {fields}",
            owner.unit
        );
        self.shared.event(owner, EventType::Warning, "DriftPutBack", note);
    }
}

fn found(id: &Id, live: &Value) -> Found {
    let uid = live
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .map(ToOwned::to_owned);
    let (state, message) = verdict(live);
    let cause = match state {
        State::Current => None,
        State::InProgress => Some(Cause::Progressing),
        State::Failed => Some(Cause::Failed),
    };
    Found {
        object: entry(
            id,
            uid,
            state.word(),
            message.map(|text| text.chars().take(600).collect()),
        ),
        cause,
    }
}
