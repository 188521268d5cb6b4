//! Which fencing hooks are being asked, and what they said last. Asked is in tasks of their own: nobody waits for a hook between
//! two steps. All of it is forgotten with this process: who takes over asks again, unless the answer is in the record by then.
//!
//! An answer is kept for the very question: the operation, the epoch at which it asks, and the hook as it was declared. Until a
//! yes is in the record the hook is asked again now and then, and what it said last counts.

use super::Inputs;
use crate::Context;
use crate::failpoints::hit;
use crate::hooks::{self, Question};
use kube::Client;
use multiactive_api::FencingHook;
use multiactive_api::convert::hook_name;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::{HookSaid, HookSeen, Operation, Step, WaitFor};
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// How soon a hook is asked again, at first,
const SOON: Duration = Duration::from_secs(1);
/// and how late at most.
const LATE: Duration = Duration::from_secs(30);

/// The hooks that operations of one namespace ask.
#[derive(Default)]
pub struct Hooks(BTreeMap<OperationUid, Asking>);

struct Asking {
    about: About,
    said: Arc<Mutex<HookSaid>>,
    _task: AbortOnDropHandle<()>,
}

/// What an answer is about, besides the operation.
#[derive(Clone, Debug, PartialEq)]
struct About {
    epoch: Epoch,
    hook: FencingHook,
}

impl About {
    /// `None` where the operation asks nobody: it is no failover that stands at Fence, or its lost unit has no hook.
    fn of(op: &Operation, inputs: &Inputs) -> Option<Self> {
        let lost = op.lost().filter(|_| op.step == Step::Fence)?;
        let hook = inputs.unit(lost)?.spec.fencing_hook.clone()?;
        Some(Self { epoch: op.epoch, hook })
    }
}

impl Hooks {
    /// What is known of the hook of each operation that may ask one.
    pub fn seen(&self, table: &RoutingTable, inputs: &Inputs) -> BTreeMap<OperationUid, HookSeen> {
        let seen = table.operations.iter().filter_map(|op| {
            let about = About::of(op, inputs)?;
            let asked = self.0.get(&op.uid).filter(|asking| asking.about == about);
            let said = asked.map(|asking| asking.said.lock().unwrap_or_else(PoisonError::into_inner).clone());
            let seen = HookSeen {
                operation: op.uid.clone(),
                epoch: about.epoch,
                by: hook_name(&about.hook),
                said: said.unwrap_or(HookSaid::Asked),
            };
            Some((op.uid.clone(), seen))
        });
        seen.collect()
    }

    /// Has those asked for which an operation waits, and no other. Never waits: `wake` is told of answers.
    pub fn ask(
        &mut self,
        (ctx, table, inputs): (&Context, &RoutingTable, &Inputs),
        waits: &BTreeMap<OperationUid, WaitFor>,
        wake: &Arc<Notify>,
    ) {
        let about = |uid: &OperationUid| table.operation(uid).and_then(|op| About::of(op, inputs));
        self.0.retain(|uid, asking| about(uid).as_ref() == Some(&asking.about));
        for op in &table.operations {
            let asks = waits.get(&op.uid).is_some_and(WaitFor::asks_hook);
            if !asks || self.0.contains_key(&op.uid) {
                continue;
            }
            let Some((about, question)) = About::of(op, inputs).zip(question(op, inputs)) else {
                continue;
            };
            let said = Arc::new(Mutex::new(HookSaid::Asked));
            let asking = keep_asking(
                ctx.client.clone(),
                (about.hook.clone(), question),
                Arc::clone(&said),
                Arc::clone(wake),
            );
            let _task = AbortOnDropHandle::new(tokio::spawn(asking));
            self.0.insert(op.uid.clone(), Asking { about, said, _task });
        }
    }
}

fn question(op: &Operation, inputs: &Inputs) -> Option<Question> {
    let lost = op.lost()?;
    Some(Question {
        namespace: inputs.namespace.clone(),
        lost_unit: lost.to_string(),
        cluster: inputs.unit(lost)?.spec.cluster.clone(),
        failover: op.name.clone(),
        operation: op.uid.to_string(),
        term: op.epoch.term,
        epoch: op.epoch.epoch,
    })
}

async fn keep_asking(
    client: Client,
    (hook, question): (FencingHook, Question),
    said: Arc<Mutex<HookSaid>>,
    wake: Arc<Notify>,
) {
    let mut pause = SOON;
    loop {
        hit("hook-before-ask");
        let answer = hooks::ask(&client, &hook, &question).await;
        hit("hook-after-answer");
        let yes = match &answer {
            HookSaid::Fenced(_) => true,
            HookSaid::Asked | HookSaid::NotFenced(_) | HookSaid::NoAnswer(_) => false,
        };
        let before = std::mem::replace(
            &mut *said.lock().unwrap_or_else(PoisonError::into_inner),
            answer.clone(),
        );
        if before != answer {
            let (unit, operation) = (&question.lost_unit, &question.operation);
            tracing::info!(
                namespace = question.namespace,
                unit,
                operation,
                hook = hook_name(&hook),
                ?answer,
                "a fencing hook answered"
            );
            wake.notify_one();
        }
        tokio::time::sleep(if yes { LATE } else { pause }).await;
        pause = (pause * 2).min(LATE);
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
