//! What the step machine is shown of a comparison of rows.

use super::*;

/// What the target reports of the operation.
fn says(report: Value) -> Value {
    let mut operation = json!({"uid": "move", "term": 0, "epoch": 0});
    let object = operation.as_object_mut().unwrap();
    object.extend(report.as_object().unwrap().clone());
    json!({"operations": [operation]})
}

#[test]
fn a_comparison_is_what_the_target_says_of_every_store() {
    let orders = |more: Value| {
        let mut orders = json!({"store": "orders", "rows": 5});
        orders
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        says(json!({"compared": [orders]}))
    };
    for (target, want) in [
        (orders(json!({})), Some((5, "", 0))),
        (
            orders(json!({"differing": "1,3-4", "examples": ["id=1"]})),
            Some((5, "1,3-4", 1)),
        ),
        (orders(json!({"differing": "x"})), None),
        (says(json!({"compared": [{"store": "carts", "rows": 5}]})), None),
        (says(json!({})), None),
        (json!({}), None),
    ] {
        let seen = seen(&operation(), &inputs(json!({}), target.clone()));
        let said = seen.compared.map(|mut all| all.remove(0));
        let told = said.map(|said| (said.rows, said.differing.to_string(), said.examples.len()));
        let want = want.map(|(rows, slots, examples)| (rows, slots.to_owned(), examples));
        assert_eq!(told, want, "{target}");
    }
    // What a source says is no comparison.
    let source = orders(json!({}));
    assert_eq!(seen(&operation(), &inputs(source, json!({}))).compared, None);
}

#[test]
fn whose_answer_to_a_comparison_is_missing_is_named_with_what_its_agent_says() {
    let mut op = operation();
    op.step = Step::Verify;
    let answered = says(json!({"compared": [{"store": "orders", "rows": 5}]}));
    let failed = says(json!({"problems": [{"store": "orders", "message": "permission denied"}]}));
    let under_way = says(json!({}));
    let part = json!({"store": "orders", "owner": "a", "state": "Comparing", "slots": "0-9", "compared": "0-2"});
    let part_done = says(json!({"comparing": [part]}));
    let mut broken = says(json!({}));
    broken["stores"] = json!([{"name": "orders", "ready": false, "message": "no answer"}]);
    for (target, away, want) in [
        (answered, false, ""),
        (failed, false, "orders at b: permission denied"),
        (under_way.clone(), false, "orders at b"),
        (part_done, false, "orders at b: 3/10 of its slots compared so far"),
        (broken, false, "orders at b: store orders: no answer"),
        (under_way, true, "orders at b: its member cluster does not answer"),
        (json!({}), false, "orders at b: its agent has not reported"),
    ] {
        let mut inputs = inputs(json!({}), target);
        if away {
            inputs.reachable.remove(&UnitName::from("b"));
            inputs.away.insert("b".into());
        }
        let told: Vec<_> = seen(&op, &inputs).uncompared.iter().map(ToString::to_string).collect();
        assert_eq!(told.join("; "), want);
    }
    // Nobody asks in another step.
    op.step = Step::Hold;
    assert_eq!(seen(&op, &inputs(json!({}), json!({}))).uncompared, []);
}
