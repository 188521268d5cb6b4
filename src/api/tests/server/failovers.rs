//! Failovers: what they must say, that they say it once, and who may decide about them.

use crate::accounts::grant;
use crate::good;
use crate::rules::{on_create, on_update};
use crate::support::{admin, assert_accepted, assert_refused, create, run, try_create, try_replace, user, with};
use serde_json::{Value, json};

fn decision(kind: &str, target: Option<&str>, by: &str) -> Value {
    let mut decision = json!({"type": kind, "by": by, "reason": "INC-7"});
    if let Some(target) = target {
        decision["target"] = json!(target);
    }
    decision
}

#[test]
fn a_failover_names_the_lost_unit_and_the_epoch_that_was_seen() {
    let rows = vec![
        ("/spec/lostUnit", Value::Null, Some("Required value")),
        ("/spec/lostUnit", json!("East_1"), Some("should match")),
        (
            "/spec/targetUnit",
            json!("east-1"),
            Some("the lost unit cannot be the target"),
        ),
        ("/spec/targetUnit", json!("north-1"), None),
        ("/spec/expectedEpoch", Value::Null, Some("Required value")),
        (
            "/spec/expectedEpoch",
            json!(-1),
            Some("should be greater than or equal to 0"),
        ),
        ("/spec/maxDataLoss", json!("5.5s"), Some("should match")),
        (
            "/spec/maxDataLoss",
            json!("25h"),
            Some("maxDataLoss must be at most 24h"),
        ),
        ("/spec/maxDataLoss", json!("24h"), None),
        ("/spec/maxDataLoss", Value::Null, None),
    ];
    on_create(good::failover("rules"), rows);
}

#[test]
fn a_failover_says_it_once() {
    let once = Some("the spec is immutable but for decisions: create a new Failover");
    let rows = vec![
        ("/spec/lostUnit", json!("west-1"), once),
        ("/spec/targetUnit", json!("north-1"), once),
        ("/spec/expectedEpoch", json!(42), once),
        ("/spec/maxDataLoss", json!("6s"), once),
    ];
    on_update(good::failover("once"), rows);
    let named = with(&good::failover("once-named"), "/spec/targetUnit", json!("north-1"));
    let rows = vec![
        ("/spec/targetUnit", Value::Null, once),
        ("/spec/targetUnit", json!("south-1"), once),
    ];
    on_update(named, rows);
}

#[test]
fn a_verification_says_it_once_and_names_what_it_names_by_their_names() {
    let rows = vec![
        ("/spec/stores", Value::Null, None),
        ("/spec/units", Value::Null, None),
        ("/spec/repair", Value::Null, None),
        ("/spec/repair", json!("Both"), Some("Unsupported value")),
        ("/spec/units", json!(["North_1"]), Some("should match")),
        ("/spec/units", json!(["north-1", "north-1"]), Some("Duplicate value")),
        ("/spec/maxRowsPerSecond", json!(100), None),
        (
            "/spec/maxRowsPerSecond",
            json!(99),
            Some("should be greater than or equal to 100"),
        ),
    ];
    on_create(good::verification("rules"), rows);
    let once = Some("the spec is immutable: create a new Verification");
    let rows = vec![
        ("/spec/stores", json!(["carts"]), once),
        ("/spec/stores", Value::Null, once),
        ("/spec/units", json!(["south-1"]), once),
        ("/spec/repair", json!("None"), once),
        ("/spec/maxRowsPerSecond", json!(1000), once),
    ];
    on_update(good::verification("once"), rows);
    let paced = with(&good::verification("once-paced"), "/spec/maxRowsPerSecond", json!(1000));
    let rows = vec![
        ("/spec/maxRowsPerSecond", Value::Null, once),
        ("/spec/maxRowsPerSecond", json!(2000), once),
    ];
    on_update(paced, rows);
}

#[test]
fn each_decision_about_a_failover_names_its_target_and_needs_the_verb_of_its_type() {
    run(async {
        grant("multiactive-failover", "fay").await;
        grant("multiactive-operate", "olaf").await;
        grant("failovers-only", "finn").await;
        create(&admin().await, &good::failover("decide")).await;
        let target = Some("target is required: the unit or the ShardRange");
        let abort = Some("an Abort ends the whole operation: it has neither target nor notAfter");
        let by = Some("the field by of a new decision must be you, fay");
        let (fay, finn) = (user("fay").await, user("finn").await);
        let until = |time: &str| {
            let mut decision = decision("ConfirmFenced", Some("east-1"), "fay");
            decision["notAfter"] = json!(time);
            decision
        };
        for (client, entry, refusal) in [
            (&fay, decision("ConfirmFenced", Some("east-1"), "fay"), None),
            (&fay, decision("AcceptDataLoss", Some("users-0"), "fay"), None),
            (&fay, decision("Abort", None, "fay"), None),
            (&fay, until("2026-11-22T13:00:00Z"), None),
            (&fay, until("tomorrow"), Some("must be of type date-time")),
            (&fay, decision("ConfirmFenced", None, "fay"), target),
            (&fay, decision("AcceptDataLoss", None, "fay"), target),
            (&fay, decision("Abort", Some("east-1"), "fay"), abort),
            (&fay, decision("ConfirmFenced", Some("east-1"), "gus"), by),
            (&fay, decision("AcceptDivergence", Some("east-1"), "fay"), None),
            (
                &fay,
                decision("Approve", Some("east-1"), "fay"),
                Some("Unsupported value"),
            ),
            (
                &finn,
                decision("AcceptDivergence", Some("east-1"), "finn"),
                Some("a decision of type AcceptDivergence needs the verb acceptdivergence on failovers"),
            ),
            (
                &finn,
                decision("Abort", None, "finn"),
                Some("a decision of type Abort needs the verb abort on failovers"),
            ),
            (
                &finn,
                decision("AcceptDataLoss", Some("east-1"), "finn"),
                Some("a decision of type AcceptDataLoss needs the verb acceptdataloss on failovers"),
            ),
            (
                &finn,
                decision("ConfirmFenced", Some("east-1"), "finn"),
                Some("a decision of type ConfirmFenced needs the verb confirmfenced on failovers"),
            ),
        ] {
            let what = entry.to_string();
            let changed = with(&good::failover("decide"), "/spec/decisions", json!([entry]));
            let new = with(&good::failover("decide-new"), "/spec/decisions", json!([entry]));
            for answer in [
                try_replace(client, &changed, true).await,
                try_create(client, &new).await,
            ] {
                match refusal {
                    Some(text) => assert_refused(answer, text, &what),
                    None => assert_accepted(answer, &what),
                }
            }
        }
        let olaf = user("olaf").await;
        assert_refused(
            try_create(&olaf, &good::failover("by-olaf")).await,
            "cannot create resource",
            "who only operates creates a Failover",
        );
    });
}

#[test]
fn who_declares_or_changes_a_fencing_hook_may_confirm_a_fence_as_well() {
    run(async {
        grant("multiactive-platform", "hope").await;
        grant("multiactive-operate", "hank").await;
        let (hope, hank) = (user("hope").await, user("hank").await);
        let hook = |url: &str| json!({"url": url, "timeout": "30s"});
        let plain = good::unit("hook-plain");
        let hooked = with(
            &good::unit("hook-hooked"),
            "/spec/fencingHook",
            hook("https://pdu.example"),
        );
        create(&admin().await, &plain).await;
        create(&admin().await, &hooked).await;
        let refusal = Some("to declare or change one needs the verb confirmfenced on failovers");
        let declared = with(&plain, "/spec/fencingHook", hook("https://pdu.example"));
        let changed = with(&hooked, "/spec/fencingHook/url", json!("https://always-yes.example"));
        let new = |name: &str| with(&good::unit(name), "/spec/fencingHook", hook("https://pdu.example"));
        for (what, answer, refusal) in [
            ("new, by who may", try_create(&hope, &new("hook-new")).await, None),
            (
                "new, by who may not",
                try_create(&hank, &new("hook-other")).await,
                refusal,
            ),
            (
                "new without one",
                try_create(&hank, &good::unit("hook-none")).await,
                None,
            ),
            ("declared by who may", try_replace(&hope, &declared, true).await, None),
            (
                "declared by who may not",
                try_replace(&hank, &declared, true).await,
                refusal,
            ),
            ("changed by who may", try_replace(&hope, &changed, true).await, None),
            (
                "changed by who may not",
                try_replace(&hank, &changed, true).await,
                refusal,
            ),
            (
                "the rest, by who may not",
                try_replace(&hank, &with(&hooked, "/spec/cordoned", json!(true)), true).await,
                None,
            ),
            (
                "taken away by who may not",
                try_replace(&hank, &with(&hooked, "/spec/fencingHook", Value::Null), true).await,
                None,
            ),
        ] {
            match refusal {
                Some(text) => assert_refused(answer, text, what),
                None => assert_accepted(answer, what),
            }
        }
    });
}

#[test]
fn a_decision_about_a_failover_is_never_taken_back() {
    run(async {
        grant("multiactive-failover", "fred").await;
        let fred = user("fred").await;
        let first = decision("ConfirmFenced", Some("east-1"), "fred");
        let decided = with(&good::failover("kept"), "/spec/decisions", json!([first]));
        create(&fred, &decided).await;
        let kept = "decisions can be added, never changed or taken away";
        for (new, refusal) in [
            (Value::Null, Some(kept)),
            (json!([]), Some(kept)),
            (json!([decision("ConfirmFenced", Some("west-1"), "fred")]), Some(kept)),
            (json!([first, decision("Abort", None, "fred")]), None),
        ] {
            let what = new.to_string();
            let answer = try_replace(&fred, &with(&decided, "/spec/decisions", new), true).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &what),
                None => assert_accepted(answer, &what),
            }
        }
    });
}

#[test]
fn a_promotion_knows_no_decision_but_abort() {
    run(async {
        let good = good::promotion("other-decisions");
        for kind in ["AcceptDataLoss", "ConfirmFenced"] {
            let decided = with(
                &good,
                "/spec/decisions",
                json!([decision(kind, Some("east-1"), "admin")]),
            );
            let answer = try_create(&admin().await, &decided).await;
            assert_refused(answer, "a Promotion knows no decision but Abort", kind);
        }
    });
}
