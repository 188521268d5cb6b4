//! Promotions: what they must say, and that they say it once.

use crate::good;
use crate::support::{admin, assert_accepted, assert_refused, create, run, try_create, try_replace, with};
use serde_json::{Value, json};

#[test]
fn a_promotion_says_which_slots_by_one_member() {
    run(async {
        let client = admin().await;
        let good = good::promotion("select");
        let (ranges, slots) = (
            "ranges is given exactly for type Ranges",
            "slots is given exactly for type Slots",
        );
        let some_slots = json!({"keyspace": "users", "slots": "0-511,600"});
        for (select, refusal) in [
            (json!({"type": "Ranges"}), Some(ranges)),
            (
                json!({"type": "Ranges", "ranges": []}),
                Some("should have at least 1 items"),
            ),
            (json!({"type": "Ranges", "ranges": ["a", "a"]}), Some("Duplicate value")),
            (json!({"type": "Unit", "unit": "east-1", "ranges": ["a"]}), Some(ranges)),
            (json!({"type": "Unit"}), Some("unit is given exactly for type Unit")),
            (
                json!({"type": "Unit", "unit": "north-1"}),
                Some("the unit to empty must not be the target"),
            ),
            (json!({"type": "Unit", "unit": "east-1"}), None),
            (json!({"type": "Slots"}), Some(slots)),
            (
                json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "a-b"}}),
                Some("should match"),
            ),
            (
                json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "1,,2"}}),
                Some("should match"),
            ),
            (json!({"type": "Slots", "slots": some_slots}), None),
            (
                json!({"type": "DataStore"}),
                Some("dataStore is given exactly for type DataStore"),
            ),
            (json!({"type": "DataStore", "dataStore": "catalog"}), None),
        ] {
            let answer = try_create(&client, &with(&good, "/spec/select", select.clone())).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &select.to_string()),
                None => assert_accepted(answer, &select.to_string()),
            }
        }
    });
}

#[test]
fn a_promotion_names_epoch_mode_and_budgets() {
    run(async {
        let client = admin().await;
        let good = good::promotion("fields");
        for (pointer, new, refusal) in [
            (
                "/spec/expectedEpoch",
                Value::Null,
                Some("expectedEpoch is required for Execute"),
            ),
            (
                "/spec/expectedEpoch",
                json!(-1),
                Some("should be greater than or equal to 0"),
            ),
            ("/spec/expectedEpoch", json!(0), None),
            ("/spec/mode", json!("Try"), Some("Unsupported value: \"Try\"")),
            ("/spec/mode", json!("Plan"), None),
            ("/spec/verify", json!("Changed"), None),
            ("/spec/verify", json!("Some"), Some("Unsupported value: \"Some\"")),
            ("/spec/verify", Value::Null, None),
            ("/spec/budgets/fence", json!("10"), Some("should match")),
            ("/spec/budgets/fence", json!("1.5s"), Some("should match")),
            (
                "/spec/budgets/fence",
                json!("0s"),
                Some("fence must be more than 0s and at most 1h"),
            ),
            (
                "/spec/budgets/fence",
                json!("61m"),
                Some("fence must be more than 0s and at most 1h"),
            ),
            ("/spec/budgets/fence", json!("1h"), None),
            (
                "/spec/budgets/drain",
                json!("0ms"),
                Some("drain must be more than 0s and at most 1h"),
            ),
            ("/spec/budgets/drain", json!("250ms"), None),
            ("/spec/budgets", Value::Null, None),
        ] {
            let answer = try_create(&client, &with(&good, pointer, new.clone())).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &format!("{pointer} {new}")),
                None => assert_accepted(answer, &format!("{pointer} {new}")),
            }
        }
        let plan = with(
            &with(&good, "/spec/mode", json!("Plan")),
            "/spec/expectedEpoch",
            Value::Null,
        );
        assert_accepted(try_create(&client, &plan).await, "a Plan without an epoch");
    });
}

#[test]
fn a_promotion_changes_only_by_more_decisions() {
    run(async {
        let client = admin().await;
        let abort = |reason: &str| json!({"type": "Abort", "by": "admin", "reason": reason});
        let mut good = good::promotion("once");
        good["spec"]["decisions"] = json!([abort("first")]);
        create(&client, &good).await;
        let immutable = Some("the spec is immutable but for decisions");
        let lost = Some("decisions can be added, never changed or taken away");
        for (pointer, new, refusal) in [
            ("/spec/targetUnit", json!("south-1"), immutable),
            ("/spec/select/ranges", json!(["users-1"]), immutable),
            ("/spec/expectedEpoch", json!(42), immutable),
            ("/spec/mode", json!("Plan"), immutable),
            ("/spec/verify", json!("None"), immutable),
            ("/spec/budgets/drain", json!("2m"), immutable),
            ("/spec/decisions", Value::Null, lost),
            ("/spec/decisions", json!([]), lost),
            ("/spec/decisions", json!([abort("another")]), lost),
            ("/spec/decisions/1", abort("second"), None),
            ("/metadata/labels", json!({"a": "b"}), None),
        ] {
            let answer = try_replace(&client, &with(&good, pointer, new.clone()), true).await;
            match refusal {
                Some(text) => assert_refused(answer, text, &format!("{pointer} {new}")),
                None => assert_accepted(answer, &format!("{pointer} {new}")),
            }
        }
        let many = |count: usize| Value::from((0..count).map(|n| abort(&n.to_string())).collect::<Vec<_>>());
        let other = good::promotion("many");
        let answer = try_create(&client, &with(&other, "/spec/decisions", many(65))).await;
        assert_refused(answer, "must have at most 64 items", "65 decisions");
        let answer = try_create(&client, &with(&other, "/spec/decisions", many(64))).await;
        assert_accepted(answer, "64 decisions");
    });
}
