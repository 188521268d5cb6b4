//! Tests of what a Failover's status says.

use super::*;
use crate::fixtures::{self, object};
use multiactive_core::promotion::{DecisionKind, HookSeen, Needed, OperationKind, Placement, StoreLoss};
use serde_json::json;

fn failover() -> Failover {
    object(
        "Failover",
        "lost",
        json!({"lostUnit": "a", "expectedEpoch": 3, "maxDataLoss": "5s"}),
    )
}

fn operation(number: usize, target: &str, step: Step) -> Operation {
    Operation {
        kind: OperationKind::Failover,
        uid: OperationUid::from("lost").part(number),
        name: "lost".to_owned(),
        target: target.into(),
        history: vec![StepRecord {
            step,
            at: Timestamp::UNIX_EPOCH,
            not_needed: None,
        }],
        ..fixtures::operation(step, Epoch::new(1, 7))
    }
}

fn loss(bound: Option<SignedDuration>) -> Loss {
    Loss {
        fenced_by: FencedBy::Lease,
        stores: vec![StoreLoss {
            store: "orders".into(),
            bound,
        }],
        bound,
        given_up: Vec::new(),
        accepted: None,
        found: None,
    }
}

fn done(number: usize, outcome: Outcome, loss: Option<Loss>) -> Finished {
    Finished {
        kind: OperationKind::Failover,
        uid: OperationUid::from("lost").part(number),
        name: "lost".to_owned(),
        outcome,
        at: Timestamp::UNIX_EPOCH,
        epoch: Epoch::new(1, 9),
        behind: Vec::new(),
        keyspaces: Vec::new(),
        unsettled: Vec::new(),
        loss,
        history: Vec::new(),
    }
}

fn view(operations: Vec<Operation>, finished: Vec<Finished>) -> View {
    View {
        table: Some(Arc::new(RoutingTable {
            operations,
            finished,
            ..RoutingTable::default()
        })),
        ..View::default()
    }
}

fn told(view: &View) -> FailoverStatus {
    let mut witnessed = Witnessed::default();
    witnessed.see(view.table.as_deref().unwrap());
    status(&failover(), view, &witnessed, Timestamp::UNIX_EPOCH)
}

#[test]
fn one_that_waits_for_a_person_says_which_decision_and_the_command_that_gives_it() {
    let mut view = view(
        vec![operation(1, "b", Step::Fence), operation(2, "c", Step::Drain)],
        Vec::new(),
    );
    for (kind, target, words) in [
        (DecisionKind::ConfirmFenced, "a", "ConfirmFenced --target a -n shop"),
        (
            DecisionKind::AcceptDataLoss,
            "users-0",
            "AcceptDataLoss --target users-0 -n shop",
        ),
        (DecisionKind::Abort, "a", "Abort -n shop"),
    ] {
        let wait = WaitFor::Decision {
            needed: Needed {
                kind,
                target: target.to_owned(),
            },
            why: "so it is".to_owned(),
        };
        view.waits = [("lost.1".into(), wait)].into();
        let told = told(&view);
        let command = format!("kubectl multiactive decide failover/lost {words} --reason \"...\"");
        assert_eq!(told.needed[0].command, command);
        assert_eq!((told.reason.as_deref(), told.outcome), (Some("Blocked"), None));
        let stalled = told
            .conditions
            .iter()
            .find(|c| c.type_ == multiactive_api::STALLED)
            .unwrap();
        assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "Blocked"));
        // The one that is the farthest behind is shown; both are told.
        assert_eq!((told.step.as_deref(), told.to.as_deref()), (Some("Fence"), Some("b,c")));
        assert_eq!((told.operations.len(), told.slots), (2, Some(4)));
    }
}

#[test]
fn it_has_not_ended_before_each_target_has_and_it_ended_as_the_worst_of_them() {
    let half = view(
        vec![operation(2, "c", Step::Settle)],
        vec![done(1, Outcome::Succeeded, None)],
    );
    assert_eq!(told(&half).outcome, None);
    let aborted = Outcome::Aborted {
        reason: "AbortRequested".to_owned(),
        message: "alice".to_owned(),
    };
    for (second, want) in [(Outcome::Succeeded, "Succeeded"), (aborted, "Aborted")] {
        let ended = view(
            Vec::new(),
            vec![done(1, Outcome::Succeeded, None), done(2, second, None)],
        );
        assert_eq!(told(&ended).outcome.as_deref(), Some(want));
    }
}

#[test]
fn the_worst_bound_is_shown_and_an_unknown_one_is_worse_than_any() {
    let seconds = |seconds| Some(SignedDuration::from_secs(seconds));
    for (bounds, want) in [
        ([seconds(3), seconds(1)], "3s"),
        ([seconds(0), seconds(0)], "0s"),
        ([seconds(3), None], "unknown"),
        ([Some(SignedDuration::from_nanos(1_000_001)), seconds(0)], "2ms"),
    ] {
        let finished = [1, 2].map(|number| done(number, Outcome::Succeeded, Some(loss(bounds[number - 1]))));
        let shown = told(&view(Vec::new(), finished.to_vec())).loss.unwrap();
        assert_eq!(
            (shown.bound.as_deref(), shown.allowed.as_deref()),
            (Some(want), Some("5s"))
        );
    }
}

#[test]
fn what_is_told_of_the_loss_says_upon_whose_word_it_rests() {
    let confirmed = || FencedBy::Confirmed {
        by: "alice".to_owned(),
        reason: "switched off".to_owned(),
    };
    let second = Some(SignedDuration::from_secs(1));
    for (fenced_by, bound, want) in [
        (FencedBy::Lease, second, "in its last 1s may be lost"),
        (FencedBy::Lease, None, "nobody knows how much"),
        (
            FencedBy::Hook {
                by: "pdu:443".to_owned(),
                reason: "off".to_owned(),
            },
            second,
            "in its last 1s may be lost, and all that it has written since if it was not fenced as fencing hook pdu:443 confirmed",
        ),
        (
            confirmed(),
            second,
            "in its last 1s may be lost, and all that it has written since if it was not fenced as alice confirmed",
        ),
    ] {
        let loss = Loss {
            fenced_by,
            ..loss(bound)
        };
        let shown = told(&view(Vec::new(), vec![done(1, Outcome::Succeeded, Some(loss))]));
        let message = shown.message.unwrap();
        assert!(message.ends_with(want), "{message}");
    }
}

#[test]
fn a_refused_one_says_so_and_says_who_was_asked() {
    let mut view = view(Vec::new(), Vec::new());
    let refused = crate::promotions::request::Refused::new("NoTarget", "nobody");
    view.refused = [("lost".into(), refused)].into();
    view.placements = [("lost".into(), Placement::default())].into();
    let told = told(&view);
    assert_eq!(
        (told.outcome.as_deref(), told.reason.as_deref()),
        (Some("Refused"), Some("NoTarget"))
    );
    assert!(told.placement.is_some());
}

#[test]
fn what_a_hook_says_is_shown_with_the_time_since_when_and_stays_once_it_is_asked_no_more() {
    let op = operation(1, "b", Step::Fence);
    let mut view = view(vec![op.clone()], Vec::new());
    let mut says = |said: HookSaid, waits: bool, before: Option<HookAnswer>, second| {
        let seen = HookSeen {
            operation: op.uid.clone(),
            epoch: op.epoch,
            by: "pdu:443".to_owned(),
            said,
        };
        view.inputs.hooks = [(op.uid.clone(), seen)].into();
        let wait = waits.then(|| (op.uid.clone(), WaitFor::Hook("it is asked".to_owned())));
        view.waits = wait.into_iter().collect();
        let now = Timestamp::from_second(second).unwrap();
        hook_answer(before, &view, &[&op], now)
    };
    assert_eq!(says(HookSaid::Asked, false, None, 1), None, "declared, and not asked");
    let asked = says(HookSaid::Asked, true, None, 1).unwrap();
    assert_eq!((asked.said, asked.message.as_deref()), (HookWord::Asked, None));
    let no = says(HookSaid::NotFenced("on".to_owned()), true, Some(asked), 2).unwrap();
    assert_eq!(
        (no.said, no.since.as_str()),
        (HookWord::NotFenced, "1970-01-01T00:00:02Z")
    );
    let still = says(HookSaid::NotFenced("still on".to_owned()), true, Some(no), 3).unwrap();
    assert_eq!(
        (still.message.as_deref(), still.since.as_str()),
        (Some("still on"), "1970-01-01T00:00:02Z")
    );
    let yes = says(HookSaid::Fenced("off".to_owned()), false, Some(still), 4).unwrap();
    assert_eq!(
        (yes.said, yes.since.as_str()),
        (HookWord::Fenced, "1970-01-01T00:00:04Z")
    );
    let later = hook_answer(
        Some(yes.clone()),
        &View::default(),
        &[],
        Timestamp::from_second(9).unwrap(),
    );
    assert_eq!(later, Some(yes));
}
