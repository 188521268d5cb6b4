//! `decide`, under the policies of the chart.

use crate::objects::{deployment, promotion};
use crate::support::{admin, grant, kubectl_as, run};
use kube::Api;
use multiactive_api::Promotion;
use serde_json::json;

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
