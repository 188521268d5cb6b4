//! What the step machine is shown of a comparison of rows.

use super::*;
use base64::Engine;

#[test]
fn a_comparison_needs_both_sides_and_the_round() {
    let sums = |round: i32, sums: &[u64]| {
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        let sums = base64::engine::general_purpose::STANDARD.encode(bytes);
        let checksums = json!([{"store": "orders", "round": round, "rows": 5, "sums": sums}]);
        json!({"operations": [{"uid": "move", "term": 0, "epoch": 0, "checksums": checksums}]})
    };
    for (a, b, want) in [
        (sums(2, &[1, 2]), sums(2, &[1, 2]), Some("")),
        (sums(2, &[1, 2]), sums(2, &[1, 3]), Some("1")),
        (sums(2, &[1, 2]), sums(1, &[1, 2]), None),
        (sums(2, &[1]), sums(2, &[1, 2]), None),
        (sums(2, &[1, 2]), json!({}), None),
    ] {
        let seen = seen(&operation(), &inputs(a, b));
        let differing = seen.compared.map(|compared| compared[0].differing.to_string());
        assert_eq!(differing.as_deref(), want);
    }
}

#[test]
fn whose_answer_to_a_comparison_is_missing_is_named_with_what_its_agent_says() {
    let mut op = operation();
    op.step = Step::Verify;
    let sums = base64::engine::general_purpose::STANDARD.encode([0; 16]);
    let answered = json!({"operations": [{"uid": "move", "term": 0, "epoch": 0,
        "checksums": [{"store": "orders", "round": 2, "rows": 5, "sums": sums}]}]});
    let failed = json!({"operations": [{"uid": "move", "term": 0, "epoch": 0,
        "problems": [{"store": "orders", "message": "permission denied"}]}]});
    let under_way = json!({"operations": [{"uid": "move", "term": 0, "epoch": 0}]});
    let broken = json!({"operations": [{"uid": "move", "term": 0, "epoch": 0}],
        "stores": [{"name": "orders", "ready": false, "message": "no answer"}]});
    for (a, b, away, want) in [
        (answered.clone(), answered.clone(), false, ""),
        (answered.clone(), failed, false, "orders at b: permission denied"),
        (answered.clone(), under_way.clone(), false, "orders at b"),
        (answered.clone(), broken, false, "orders at b: store orders: no answer"),
        (
            answered.clone(),
            under_way,
            true,
            "orders at b: its member cluster does not answer",
        ),
        (json!({}), answered, false, "orders at a: its agent has not reported"),
    ] {
        let mut inputs = inputs(a, b);
        if away {
            inputs.reachable.remove(&UnitName::from("b"));
            inputs.away.insert("b".into());
        }
        let sides = seen(&op, &inputs).uncompared;
        let told: Vec<_> = sides.iter().map(ToString::to_string).collect();
        assert_eq!(told.join("; "), want);
    }
    // Nobody asks in another step.
    op.step = Step::Hold;
    assert_eq!(seen(&op, &inputs(json!({}), json!({}))).uncompared, []);
}
