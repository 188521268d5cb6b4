//! The policy of decisions: signed by the requesting user, who has the verb of the type.

use crate::accounts::grant;
use crate::good;
use crate::support::{admin, assert_accepted, assert_refused, create, run, try_create, try_replace, user, with};
use serde_json::{Value, json};

fn abort(by: &str) -> Value {
    json!({"type": "Abort", "by": by, "reason": "INC-7"})
}

#[test]
fn a_decision_is_signed_by_the_requesting_user_who_has_its_verb() {
    run(async {
        grant("multiactive-operate", "alice").await;
        grant("multiactive-failover", "dora").await;
        grant("promotions-only", "bob").await;
        create(&admin().await, &good::promotion("decide")).await;
        let by = Some("the field by of a new decision must be you, ");
        let verb = Some("a decision of type Abort needs the verb abort on promotions");
        for (who, signed, refusal) in [
            ("alice", "alice", None),
            ("dora", "dora", None),
            ("alice", "bob", by),
            ("bob", "alice", by),
            ("bob", "bob", verb),
        ] {
            let client = user(who).await;
            let what = format!("{who} signs as {signed}");
            let decided = json!([abort(signed)]);
            let changed = with(&good::promotion("decide"), "/spec/decisions", decided.clone());
            let new = with(&good::promotion("decide-new"), "/spec/decisions", decided);
            for answer in [
                try_replace(&client, &changed, true).await,
                try_create(&client, &new).await,
            ] {
                match refusal {
                    Some(text) => assert_refused(answer, text, &what),
                    None => assert_accepted(answer, &what),
                }
            }
        }
        let bob = user("bob").await;
        assert_accepted(
            try_create(&bob, &good::promotion("bob")).await,
            "a Promotion without a decision",
        );
    });
}

#[test]
fn decisions_of_others_stay_and_are_copied_by_who_restores() {
    run(async {
        grant("multiactive-operate", "anna").await;
        grant("promotions-only", "ben").await;
        grant("multiactive-platform", "pat").await;
        grant("multiactive-restore", "rita").await;
        let mut decided = good::promotion("decided");
        decided["spec"]["decisions"] = json!([abort("somebody-else")]);
        let (anna, ben) = (user("anna").await, user("ben").await);
        let (pat, rita) = (user("pat").await, user("rita").await);
        let foreign = "the field by of a new decision must be you, anna";
        assert_refused(
            try_create(&anna, &decided).await,
            foreign,
            "a copy by one who may not restore",
        );
        assert_refused(
            try_create(&pat, &decided).await,
            "the field by of a new decision must be you, pat",
            "one who owns the fleet signs as another",
        );
        assert_accepted(try_create(&rita, &decided).await, "a copy by one who restores");
        create(&admin().await, &decided).await;
        let labelled = with(&decided, "/metadata/labels", json!({"a": "b"}));
        assert_accepted(
            try_replace(&ben, &labelled, true).await,
            "an update that leaves the decisions of others",
        );
        let more = with(&decided, "/spec/decisions/1", abort("anna"));
        assert_accepted(
            try_replace(&anna, &more, true).await,
            "one's own decision after that of another",
        );
        let forged = with(&decided, "/spec/decisions/1", abort("anna"));
        assert_refused(
            try_replace(&pat, &forged, true).await,
            "the field by of a new decision must be you, pat",
            "one who owns the fleet adds a decision of another",
        );
    });
}
