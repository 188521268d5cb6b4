//! What each verb prints of a deployment that is well, and of one in trouble.

use crate::objects::{conditions, deployment, event, finished, link, promotion, range, table, unit};
use crate::playing::check;
use crate::support::{admin, apply, operator, run};
use serde_json::json;

#[test]
fn a_deployment_that_is_well_reads_as_the_transcript() {
    run(async {
        deployment("shop").await;
        let mut stored = table("shop", 6, "8s0@1.4,8s1@1.6");
        stored["spec"]["finished"] = json!([finished("a", 230), finished("b", 330), finished("c", 250)]);
        apply(&operator().await, stored).await;
        event("shop", "Promotion", "move-1", 20, ("Normal", "StepEntered"), "Hold").await;
        event(
            "shop",
            "Unit",
            "north-1",
            10,
            ("Warning", "StoreNotReady"),
            "no answer from db.example:5432",
        )
        .await;
        check("cli/transcripts/well").await;
    });
}

#[test]
fn a_deployment_in_trouble_reads_as_the_transcript() {
    run(async {
        deployment("trouble").await;
        let client = admin().await;
        let lost = conditions(
            "False",
            "StoreNotReady",
            "store orders: no answer from db.example:5432",
            false,
        );
        apply(&client, unit("trouble", "north-1", "north", lost)).await;
        apply(&client, range("trouble", "users-0", (0, 7), "east-1", "north-1")).await;
        apply(&operator().await, table("trouble", 8, "8h1@1.8,8s1@1.6")).await;
        apply(&operator().await, link("trouble", "north-1", "east-1", "Broken")).await;
        let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(73)).to_string();
        let status = json!({"step": "Hold", "from": "north-1", "slots": 8, "waitingFor": "routers of north-1", "history": [{"step": "Hold", "at": at}],
            "conditions": conditions("False", "Running", "at Hold", false)});
        promotion("trouble", "home-again", status).await;
        check("cli/transcripts/trouble").await;
    });
}
