//! Tests of what an answer of a hook is good for.

use super::*;
use crate::fixtures::{self, object};
use jiff::SignedDuration;
use multiactive_api::Unit;
use multiactive_core::promotion::{Failover, OperationKind};
use serde_json::{Value, json};

/// The failover of a, at this step and epoch.
fn table(step: Step, epoch: Epoch) -> RoutingTable {
    let operation = Operation {
        kind: OperationKind::Failover,
        uid: "lost.1".into(),
        failover: Some(Box::new(Failover {
            lost: "a".into(),
            ranges: Vec::new(),
            max_data_loss: SignedDuration::ZERO,
            named: false,
            fences: false,
            superseded: None,
            fence: epoch,
            proof: None,
            loss: None,
            retargeted: Vec::new(),
            tail: None,
        })),
        ..fixtures::operation(step, epoch)
    };
    RoutingTable {
        operations: vec![operation],
        ..RoutingTable::default()
    }
}

fn inputs(hook: Value) -> Inputs {
    let mut spec = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
    if !hook.is_null() {
        spec["fencingHook"] = hook;
    }
    Inputs {
        units: vec![Arc::new(object::<Unit>("Unit", "a", spec))],
        ..Inputs::default()
    }
}

#[tokio::test]
async fn an_answer_is_good_for_the_operation_the_epoch_and_the_hook_that_were_asked() {
    let epoch = Epoch::new(1, 7);
    let hook = json!({"url": "https://pdu.example", "timeout": "5s"});
    let asked = About::of(&table(Step::Fence, epoch).operations[0], &inputs(hook.clone())).unwrap();
    let asking = |operation: &str| {
        let said = HookSaid::Fenced("off".to_owned());
        let asking = Asking {
            about: asked.clone(),
            said: Arc::new(Mutex::new(said)),
            _task: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
        };
        Hooks([(operation.into(), asking)].into())
    };
    let yes = Some(HookSaid::Fenced("off".to_owned()));
    let anew = Some(HookSaid::Asked);
    for (what, operation, step, epoch, hook, want) in [
        ("the very same", "lost.1", Step::Fence, epoch, hook.clone(), &yes),
        ("another operation", "lost.2", Step::Fence, epoch, hook.clone(), &anew),
        (
            "another epoch",
            "lost.1",
            Step::Fence,
            Epoch::new(1, 8),
            hook.clone(),
            &anew,
        ),
        (
            "another hook",
            "lost.1",
            Step::Fence,
            epoch,
            json!({"url": "https://other.example", "timeout": "5s"}),
            &anew,
        ),
        ("a hook that is gone", "lost.1", Step::Fence, epoch, Value::Null, &None),
        ("it has gone on", "lost.1", Step::Cut, epoch, hook.clone(), &None),
    ] {
        let seen = asking(operation).seen(&table(step, epoch), &inputs(hook));
        let seen = seen.get(&OperationUid::from("lost.1"));
        assert_eq!(&seen.map(|seen| seen.said.clone()), want, "{what}");
        if let Some(seen) = seen {
            assert_eq!((&seen.operation, seen.epoch), (&"lost.1".into(), epoch), "{what}");
        }
    }
}
