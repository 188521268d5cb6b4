//! `decide`, under the policies of the chart.

use crate::objects::{deployment, failover, promotion};
use crate::support::{admin, grant, kubectl_as, run};
use kube::Api;
use multiactive_api::{Failover, Promotion};
use serde_json::{Value, json};

#[test]
fn a_decision_is_signed_by_who_sends_it_and_counts_only_where_it_still_can() {
    run(async {
        deployment("decided").await;
        grant("multiactive-failover", "oncall").await;
        grant("multiactive-view", "guest").await;
        for (name, status) in [
            ("runs", json!({"step": "Hold"})),
            ("committed", json!({"step": "Open"})),
            ("ended", json!({"step": "Settle", "outcome": "Succeeded"})),
        ] {
            promotion("decided", name, status).await;
        }
        let decide = async |user: &str, name: &str, more: &[&str]| {
            let args = [&["decide", name, "abort", "--reason", "INC-7", "-n", "decided"], more].concat();
            kubectl_as(user, &args).await
        };
        decide("oncall", "runs", &[])
            .await
            .exits(2)
            .says("there is no terminal to ask on");
        decide("guest", "runs", &["--yes"]).await.exits(1).says("cannot patch");
        decide("oncall", "committed", &["--yes"])
            .await
            .exits(1)
            .says("past its commit");
        decide("oncall", "ended", &["--yes"]).await.exits(1).says("has ended");
        decide("oncall", "nothing", &["--yes"])
            .await
            .exits(5)
            .says("there is no operation nothing");
        decide("oncall", "failure/runs", &["--yes"])
            .await
            .exits(2)
            .says("failure is no kind of operation");
        let done = decide("oncall", "promotion/runs", &["--yes", "-o", "json"]).await;
        assert_eq!(
            done.exits(0).json()["decision"],
            json!({"type": "Abort", "by": "oncall", "reason": "INC-7"})
        );
        // The same once more changes nothing; another reason is another decision.
        decide("oncall", "runs", &["--yes"]).await.exits(0);
        let args = ["decide", "runs", "Abort", "--reason", "INC-8", "-n", "decided", "--yes"];
        kubectl_as("oncall", &args).await.exits(0);
        let api: Api<Promotion> = Api::namespaced(admin().await, "decided");
        let decisions = api.get("runs").await.unwrap().spec.decisions;
        let got: Vec<_> = decisions
            .iter()
            .map(|decision| (decision.by.as_str(), decision.reason.as_str()))
            .collect();
        assert_eq!(got, [("oncall", "INC-7"), ("oncall", "INC-8")]);
    });
}

#[test]
fn what_only_a_lost_unit_holds_is_given_up_after_the_end_of_its_failover_and_nothing_else_is_decided_then() {
    run(async {
        let n = "returned";
        deployment(n).await;
        grant("multiactive-failover", "fay").await;
        let succeeded = json!({"step": "Settle", "outcome": "Succeeded"});
        failover(n, "lost", succeeded).await;
        // Made anew where the first one was deleted: it has nothing to do, and bears the word.
        failover(n, "again", json!({"outcome": "Refused", "reason": "NothingOwned"})).await;
        failover(n, "pending", Value::Null).await;
        failover(n, "fencing", json!({"step": "Fence"})).await;
        failover(n, "settling", json!({"step": "Settle"})).await;
        let not_yet = "What only east-1 holds is listed once the unit is back";
        for (name, decision, refused) in [
            ("lost", "AcceptDivergence", None),
            ("again", "AcceptDivergence", None),
            ("pending", "AcceptDivergence", Some(not_yet)),
            ("fencing", "AcceptDivergence", Some(not_yet)),
            ("settling", "AcceptDivergence", Some(not_yet)),
            ("lost", "AcceptDataLoss", Some("has ended")),
            ("lost", "ConfirmFenced", Some("has ended")),
            ("fencing", "ConfirmFenced", None),
            ("settling", "ConfirmFenced", Some("past its commit")),
        ] {
            let operation = format!("failover/{name}");
            let args = ["decide", &operation, decision, "--target", "east-1", "-n", n, "--yes"];
            let done = kubectl_as("fay", &[&args[..], &["--reason", "exported"]].concat()).await;
            match refused {
                Some(why) => done.exits(1).says(why),
                None => done.exits(0).shows(&format!("{decision} decided by fay")),
            };
            let api: Api<Failover> = Api::namespaced(admin().await, n);
            let decisions = serde_json::to_value(api.get(name).await.unwrap().spec.decisions).unwrap();
            let entry = json!({"type": decision, "target": "east-1", "by": "fay", "reason": "exported"});
            let written = decisions.as_array().unwrap().contains(&entry);
            assert_eq!(written, refused.is_none(), "{operation} {decision}: {decisions}");
        }
        promotion(n, "planned", json!({"step": "Settle", "outcome": "Succeeded"})).await;
        let args = [
            "decide",
            "promotion/planned",
            "AcceptDivergence",
            "--target",
            "east-1",
            "-n",
            n,
            "--yes",
        ];
        let none = kubectl_as("fay", &[&args[..], &["--reason", "exported"]].concat()).await;
        none.exits(1).says("a Promotion knows no decision but Abort");
    });
}
