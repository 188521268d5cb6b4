//! One pass over one unit's objects in its member: look at all of them, apply what differs, remove what is not wanted.

use super::apply::Hand;
use super::autoscale::{ScaleTarget, target_of};
use super::judged::Judged;
use super::kstatus::State;
use super::marks::Owner;
use super::order::Wave;
use super::refused::{REFUSED, Untried};
use super::render::{Desired, Id};
use super::shared::Shared;
use super::trouble::{Cause, Trouble};
use super::watches::Watch;
use crate::members::Member;
use futures::StreamExt;
use multiactive_api::{WorkloadObject, WorkloadUnit};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// How many objects of one unit are worked on at a time.
const AT_ONCE: usize = 16;

/// What a unit shall have.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose objects.
    pub owner: Owner,
    /// The member.
    pub cluster: String,
    /// What is wanted; empty where all of it shall go.
    pub desired: Arc<Vec<Desired>>,
    /// What was known of the unit when the job was made.
    pub prior: Option<WorkloadUnit>,
    /// What of it this process recorded for the first time.
    pub fresh: Arc<HashSet<Id>>,
}

/// What a pass found of one object.
#[derive(Clone, Debug)]
pub struct Found {
    /// As it goes into the status.
    pub object: WorkloadObject,
    /// Why it is not `Current`.
    pub cause: Option<Cause>,
}

impl Found {
    /// An object with a trouble, known by what was recorded of it.
    pub fn troubled(id: &Id, uid: Option<String>, trouble: &Trouble) -> Self {
        let state = match trouble.cause {
            Cause::Conflict => "Conflict",
            Cause::Progressing => State::InProgress.word(),
            Cause::Unreachable => "Unknown",
            Cause::NamespaceNotAllowed
            | Cause::AccountMissing
            | Cause::MissingRight
            | Cause::UnknownKind
            | Cause::Refused
            | Cause::Failed => State::Failed.word(),
        };
        Self {
            object: entry(id, uid, state, Some(trouble.message.clone())),
            cause: Some(trouble.cause),
        }
    }

    /// An object that was refused before anything of it was sent.
    pub fn refused(id: &Id, trouble: &Trouble) -> Self {
        let mut found = Self::troubled(id, None, trouble);
        REFUSED.clone_into(&mut found.object.state);
        found
    }

    /// Whether what comes after it in the order has to wait for it.
    fn blocks(&self, wave: Wave) -> bool {
        match self.cause {
            None | Some(Cause::Conflict | Cause::Failed) => false,
            // Without a uid it is not even there yet.
            Some(Cause::Progressing) => wave == Wave::Definitions || self.object.uid.is_none(),
            Some(
                Cause::NamespaceNotAllowed
                | Cause::AccountMissing
                | Cause::MissingRight
                | Cause::UnknownKind
                | Cause::Refused
                | Cause::Unreachable,
            ) => true,
        }
    }
}

/// An entry of `status.units[].objects`.
pub fn entry(id: &Id, uid: Option<String>, state: &str, message: Option<String>) -> WorkloadObject {
    WorkloadObject {
        api_version: id.api_version.clone(),
        kind: id.kind.clone(),
        name: id.name.clone(),
        uid,
        state: state.to_owned(),
        message,
    }
}

/// What a pass found, and the watches that it needs kept.
pub struct Report {
    /// Every object that is wanted, in order, then those that are still to go.
    pub found: Vec<Found>,
    /// To be held until the next pass.
    pub held: Vec<Arc<Watch>>,
}

/// Does one pass. Safe to cancel: every write is one that may be repeated.
///
/// # Errors
///
/// What keeps the unit as a whole from being looked at; nothing was written then.
pub async fn pass(shared: &Shared, job: &Job, judged: &Judged, untried: &Untried) -> Result<Report, Trouble> {
    let recorded = job.prior.as_ref().map(|unit| unit.objects.as_slice());
    if job.desired.is_empty() && untried.never_sent_any(recorded.unwrap_or_default()) {
        let (found, held) = (Vec::new(), Vec::new());
        return Ok(Report { found, held });
    }
    let member = shared.member(&job.cluster)?;
    let namespace = &job.owner.namespace;
    if !member.allows(namespace) {
        return Err(Trouble::new(
            Cause::NamespaceNotAllowed,
            format!(
                "MemberCluster {} does not allow namespace {namespace}; add it to its spec.allowedNamespaces",
                job.cluster
            ),
        ));
    }
    let client = shared.deployers.client(&member, namespace).await?;
    let hand = Hand {
        shared,
        job,
        member: &member,
        client,
        judged,
        untried,
        held: Mutex::default(),
    };
    judged.keep(&job.desired);
    let scaled = autoscalers(&hand, job).await;
    let (mut found, mut blocked) = (Vec::new(), None);
    for wave in Wave::ALL {
        let objects: Vec<&Desired> = job.desired.iter().filter(|desired| desired.wave == wave).collect();
        if let Some(blocker) = &blocked {
            found.extend(objects.iter().map(|desired| waiting(job, &desired.id, blocker)));
            continue;
        }
        let work: Vec<_> = objects
            .into_iter()
            .map(|desired| hand.settle(desired, scaled.as_deref()))
            .collect();
        let of_wave: Vec<Found> = futures::stream::iter(work).buffered(AT_ONCE).collect().await;
        blocked = of_wave.iter().find(|found| found.blocks(wave)).cloned();
        found.extend(of_wave);
    }
    found.extend(leave(&hand, job, blocked.as_ref()).await);
    if found.iter().any(|found| {
        found
            .object
            .message
            .as_deref()
            .is_some_and(|text| text.contains("refused the token"))
    }) {
        shared.deployers.forget(&job.cluster, namespace);
    }
    let held = hand.held.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report { found, held })
}

/// Removes what is recorded and not wanted, last wave first; nothing goes while something that is wanted is not there.
async fn leave(hand: &Hand<'_>, job: &Job, blocked: Option<&Found>) -> Vec<Found> {
    let recorded = job.prior.iter().flat_map(|unit| &unit.objects);
    let unwanted = |object: &&WorkloadObject| {
        !job.desired
            .iter()
            .any(|desired| desired.id.same_object(&Id::from(*object)))
    };
    let leaving: Vec<&WorkloadObject> = recorded.filter(unwanted).collect();
    if let Some(blocker) = blocked {
        return leaving
            .iter()
            .map(|object| waiting(job, &Id::from(*object), blocker))
            .collect();
    }
    let mut found = Vec::new();
    for wave in Wave::ALL.into_iter().rev() {
        let of_wave = leaving
            .iter()
            .filter(|object| Wave::of(&object.api_version, &object.kind) == wave);
        let work: Vec<_> = of_wave.map(|object| hand.remove(object)).collect();
        let rest: Vec<Option<Found>> = futures::stream::iter(work).buffered(AT_ONCE).collect().await;
        found.extend(rest.into_iter().flatten());
    }
    found
}

/// Waits for what comes before it, and says why that is not there: else nobody would know that only a member is away.
fn waiting(job: &Job, id: &Id, blocker: &Found) -> Found {
    let why = blocker.object.message.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let blocker = Id::from(&blocker.object);
    let trouble = Trouble::new(Cause::Progressing, format!("waits for {blocker}{why}"));
    Found::troubled(id, recorded_uid(job, id), &trouble)
}

/// The uid by which an object of the job is known.
pub fn recorded_uid(job: &Job, id: &Id) -> Option<String> {
    let mut recorded = job.prior.iter().flat_map(|unit| &unit.objects);
    recorded.find(|object| Id::from(*object).same_object(id))?.uid.clone()
}

/// What autoscalers scale: those among the manifests and those in the member; `None` where the latter cannot be listed.
async fn autoscalers(hand: &Hand<'_>, job: &Job) -> Option<Vec<ScaleTarget>> {
    let mut targets: Vec<ScaleTarget> = job
        .desired
        .iter()
        .filter_map(|desired| desired.scales.clone())
        .collect();
    if job.desired.iter().all(|desired| !desired.replicas) {
        return Some(targets);
    }
    let id = Id {
        api_version: "autoscaling/v2".to_owned(),
        kind: "HorizontalPodAutoscaler".to_owned(),
        name: String::new(),
    };
    match hand.watch(&id, false).await {
        Ok((watch, _)) => {
            targets.extend(watch.all().iter().filter_map(target_of));
            Some(targets)
        }
        Err(_) if targets.is_empty() => None,
        Err(_) => Some(targets),
    }
}

/// The member of a name, where it may be worked with.
///
/// # Errors
///
/// [`Cause::Unreachable`].
pub fn reachable(member: Option<Arc<Member>>, cluster: &str, declared: bool) -> Result<Arc<Member>, Trouble> {
    match member {
        Some(member) => match &member.health {
            crate::members::Health::Ready => Ok(member),
            crate::members::Health::NotReady { message, .. } => Err(Trouble::new(
                Cause::Unreachable,
                format!("member {cluster} is not ready: {message}"),
            )),
        },
        None if declared => Err(Trouble::new(
            Cause::Unreachable,
            format!("member {cluster} has not been reached yet; see the status of its MemberCluster"),
        )),
        None => Err(Trouble::new(
            Cause::Unreachable,
            format!("there is no MemberCluster {cluster}; create it, or name another in the Unit"),
        )),
    }
}
