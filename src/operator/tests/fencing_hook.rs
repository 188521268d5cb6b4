//! A lost unit's fencing hook, on real API servers and over real HTTP: its yes to the very operation proves the fence, and nothing
//! else that it says or does not say does.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use multiactive_api as api;
use multiactive_api::HookWord;
use serde_json::json;
use std::collections::BTreeSet;
use support::hook::{Hook, Says};
use support::lost::{declare, fail_over, renew, shop, status};
use support::program::{Program, Start};
use support::{Operator, World, eventually};

async fn object(world: &World) -> api::Failover {
    world.namespaced().get("lost-north").await.unwrap()
}

/// The operation as the record has it, while it runs.
async fn recorded(world: &World) -> Option<api::TableOperation> {
    let operations = world.table().await?.spec.operations;
    operations.into_iter().find(|op| op.name == "lost-north")
}

/// The reasons of the Failover's events.
async fn told(world: &World) -> BTreeSet<String> {
    let events: Api<k8s_openapi::api::events::v1::Event> = world.namespaced();
    let all = events.list(&ListParams::default()).await.unwrap();
    let mine = all.items.into_iter().filter(|event| {
        let about = event.regarding.as_ref().and_then(|about| about.kind.as_deref());
        about == Some("Failover")
    });
    mine.filter_map(|event| event.reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_hooks_yes_to_this_very_operation_takes_the_failover_on_and_the_record_says_whose_word_it_is() {
    let world = World::start().await;
    let operator = Operator::start_with_leases(&world, "one").await;
    let lives = shop(&world, "KeepServing").await;
    let hook = Hook::start(Says::No).await;
    declare(&world, "KeepServing", Some(&hook)).await;
    renew(&world, 2).await;
    lives.cancel();
    fail_over(&world, "5m").await;

    let said = |status: &api::FailoverStatus| status.fencing_hook.clone().map(|answer| (answer.said, answer.message));
    let says = async |what: &str, word: HookWord, words: &str| {
        let blocked = status(&world, what, |status| {
            let told =
                said(status).is_some_and(|(said, message)| said == word && message.unwrap_or_default().contains(words));
            told && !status.needed.is_empty()
        })
        .await;
        // Both ways out are told.
        let needed = &blocked.needed[0];
        assert_eq!(needed.kind, api::DecisionType::ConfirmFenced, "{what}");
        for part in [
            hook.name.as_str(),
            words,
            "as soon as that hook says that north-1 is fenced",
            "or by your word",
        ] {
            assert!(needed.why.contains(part), "{what}: {part}: {}", needed.why);
        }
        assert_eq!(
            (blocked.step.as_deref(), blocked.reason.as_deref()),
            (Some("Fence"), Some("Blocked")),
            "{what}"
        );
        assert_eq!(recorded(&world).await.unwrap().failover.unwrap().proof, None, "{what}");
        blocked.fencing_hook.unwrap()
    };
    let no = says("it says no", HookWord::NotFenced, "outlet 7 does not answer").await;
    assert_eq!(no.by, hook.name);
    let uid = recorded(&world).await.unwrap().uid;
    let question = hook.questions().remove(0);
    let op = recorded(&world).await.unwrap();
    assert_eq!(
        question,
        json!({"namespace": "shop", "lostUnit": "north-1", "cluster": "north", "failover": "lost-north", "operation": uid,
            "term": op.term, "epoch": op.epoch})
    );
    assert_eq!(
        Some(uid.as_str()),
        object(&world)
            .await
            .metadata
            .uid
            .map(|uid| format!("{uid}.1"))
            .as_deref()
    );

    hook.says(Says::Status(500));
    let silent = says("it fails", HookWord::NoAnswer, "500").await;
    hook.says(Says::YesToAnother);
    let still = says(
        "it says yes to another operation",
        HookWord::NoAnswer,
        "another operation",
    )
    .await;
    assert_eq!(silent.since, still.since, "it has given no answer since then");
    // A hook that is declared anew is asked anew, and nothing that the one before said counts.
    let other = Hook::start(Says::Elsewhere).await;
    declare(&world, "KeepServing", Some(&other)).await;
    status(&world, "it sends elsewhere", |status| {
        let message = said(status).and_then(|(_, message)| message).unwrap_or_default();
        message.contains("307") && message.contains("not followed")
    })
    .await;
    assert!(
        other.questions().iter().all(|question| !question.is_null()),
        "no redirect is followed"
    );
    other.says(Says::Nothing);
    status(&world, "it says nothing", |status| {
        said(status).is_some_and(|(word, message)| {
            word == HookWord::NoAnswer && message.as_deref() == Some("no answer within 1s")
        })
    })
    .await;
    assert_eq!(recorded(&world).await.unwrap().failover.unwrap().proof, None);
    assert_eq!(world.databases.open("east-1"), 8);

    // It is fenced, and the hook says so.
    world.databases.close("north-1");
    other.says(Says::Yes);
    let status = status(&world, "the failover ended", |status| status.outcome.is_some()).await;
    assert_eq!(status.outcome.as_deref(), Some("Succeeded"), "{status:#?}");
    let loss = status.loss.unwrap();
    assert_eq!(
        (loss.fenced_by.as_deref(), loss.confirmed_by),
        (Some("Hook"), Some(format!("fencing hook {}", other.name)))
    );
    assert!(
        status.message.unwrap().contains("was not fenced as fencing hook"),
        "whose word it is"
    );
    let answer = status.fencing_hook.unwrap();
    assert_eq!(
        (answer.said, answer.message.as_deref()),
        (HookWord::Fenced, Some("outlet 7 is off"))
    );
    let table = world.table().await.unwrap();
    let done = table
        .spec
        .finished
        .iter()
        .find(|done| done.name == "lost-north")
        .unwrap();
    let word = done.loss.as_ref().unwrap().word.as_ref().unwrap();
    assert_eq!(
        (word.by.as_str(), word.reason.as_str()),
        (other.name.as_str(), "outlet 7 is off")
    );
    assert_eq!(world.databases.twice(), Vec::<String>::new());
    assert_eq!(world.owners().await, ["0-7 east-1 Serving", "8-15 east-1 Serving"]);
    let asked = other.questions();
    assert!(
        asked.len() > 1 && asked.iter().all(|question| question["operation"] == json!(uid)),
        "{asked:?}"
    );
    eventually("each change was told", async || {
        let wanted = [
            "FencingHookSaysNotFenced",
            "FencingHookGivesNoAnswer",
            "FencingHookSaysFenced",
        ];
        let told = told(&world).await;
        wanted.iter().all(|reason| told.contains(*reason)).then_some(())
    })
    .await;
    operator.stop().await;
}

fn start(world: &World, identity: &str, failpoint: Option<&str>) -> Program {
    let kubeconfig = world.east.kubeconfig_path();
    let start = Start::new(&kubeconfig, identity);
    Start { failpoint, ..start }.run()
}

async fn dies(program: &mut Program, what: &str) {
    let ended = eventually(what, async || program.ended()).await;
    assert!(!ended.success(), "{what}: it ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_dies_with_the_answer_is_followed_by_one_that_asks_again_and_once_recorded_by_one_that_need_not()
 {
    let world = World::start().await;
    let healthy = start(&world, "zero", None);
    let lives = shop(&world, "KeepServing").await;
    let hook = Hook::start(Says::Yes).await;
    declare(&world, "KeepServing", Some(&hook)).await;
    renew(&world, 2).await;
    drop(healthy);
    lives.cancel();
    world.databases.close("north-1");

    let mut first = start(&world, "one", Some("hook-after-answer"));
    fail_over(&world, "5m").await;
    dies(&mut first, "the first has the answer").await;
    let op = recorded(&world).await.unwrap();
    assert_eq!(
        (op.step.to_string(), op.failover.unwrap().proof),
        ("Fence".to_owned(), None),
        "and nobody else has it"
    );
    assert_eq!(hook.questions().len(), 1);

    let mut second = start(&world, "two", Some("step-after-commit:1"));
    dies(&mut second, "the second has recorded it").await;
    let op = recorded(&world).await.unwrap();
    let proof = op.failover.unwrap().proof.unwrap();
    assert_eq!(
        (op.step.to_string(), proof.by),
        ("Cut".to_owned(), api::TableFencedBy::Hook)
    );
    let asked = hook.questions();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1], "the same question");

    // From here on the record is enough.
    hook.says(Says::No);
    let _third = start(&world, "three", None);
    // Nobody who has just begun knows how old the unit's last renewal was.
    let accept = json!({"type": "AcceptDataLoss", "target": "north-1", "by": "alice", "reason": "INC-7"});
    let patch = Patch::Merge(json!({"spec": {"decisions": [accept]}}));
    let failovers: Api<api::Failover> = world.namespaced();
    failovers
        .patch("lost-north", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let status = status(&world, "the failover ended", |status| status.outcome.is_some()).await;
    assert_eq!(status.outcome.as_deref(), Some("Succeeded"), "{status:#?}");
    assert_eq!(status.loss.unwrap().fenced_by.as_deref(), Some("Hook"));
    assert_eq!(hook.questions().len(), 2, "it was not asked again");
    assert_eq!(world.databases.twice(), Vec::<String>::new());
    assert_eq!(world.owners().await, ["0-7 east-1 Serving", "8-15 east-1 Serving"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_record_asks_nobody_and_what_a_hook_said_of_an_aborted_failover_is_good_for_no_later_one() {
    let world = World::start().await;
    let operator = Operator::start_with_leases(&world, "one").await;
    let lives = shop(&world, "KeepServing").await;
    let hook = Hook::start(Says::No).await;
    declare(&world, "KeepServing", Some(&hook)).await;
    renew(&world, 2).await;
    lives.cancel();
    fail_over(&world, "5m").await;
    status(&world, "it is blocked", |status| !status.needed.is_empty()).await;

    let tables: Api<api::RoutingTable> = world.namespaced();
    let pause = async |value: serde_json::Value| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"multiactive.io/paused": value}}}));
        let name = api::ROUTING_TABLE;
        tables.patch(name, &PatchParams::default(), &patch).await.unwrap();
    };
    pause(json!("true")).await;
    status(&world, "it says so", |status| {
        status
            .waiting_for
            .as_deref()
            .is_some_and(|wait| wait.contains("paused"))
    })
    .await;
    let asked = hook.questions().len();
    // A yes that comes by now would be recorded by nobody; and nobody asks.
    hook.says(Says::Yes);
    let abort = json!({"spec": {"decisions": [{"type": "Abort", "by": "alice", "reason": "it is back"}]}});
    let failovers: Api<api::Failover> = world.namespaced();
    failovers
        .patch("lost-north", &PatchParams::default(), &Patch::Merge(abort))
        .await
        .unwrap();
    let generation = object(&world).await.metadata.generation;
    status(&world, "it was looked at again", |status| {
        status.observed_generation == generation
    })
    .await;
    assert_eq!(hook.questions().len(), asked, "nobody asked");
    pause(serde_json::Value::Null).await;
    let aborted = status(&world, "it is aborted", |status| status.outcome.is_some()).await;
    assert_eq!(aborted.outcome.as_deref(), Some("Aborted"), "{aborted:#?}");

    // The unit has its slots back, and is called lost again.
    hook.says(Says::YesToAnother);
    failovers.delete("lost-north", &Default::default()).await.unwrap();
    eventually("it is gone", async || {
        failovers.get_opt("lost-north").await.unwrap().is_none().then_some(())
    })
    .await;
    let epoch = world.epoch().await;
    let again = json!({"lostUnit": "north-1", "expectedEpoch": epoch, "maxDataLoss": "5m"});
    world.apply(support::namespaced("Failover", "lost-again", again)).await;
    let blocked = eventually("it is blocked", async || {
        let found = failovers.get("lost-again").await.unwrap().status?;
        let said = found.fencing_hook.as_ref().map(|answer| answer.said);
        (said == Some(HookWord::NoAnswer) && !found.needed.is_empty()).then_some(found)
    })
    .await;
    assert!(
        blocked.needed[0].why.contains("another operation"),
        "{}",
        blocked.needed[0].why
    );
    let operations: BTreeSet<String> = hook
        .questions()
        .iter()
        .map(|question| question["operation"].to_string())
        .collect();
    assert_eq!(operations.len(), 2, "each Failover asks for itself: {operations:?}");
    operator.stop().await;
}
