//! Stores that one unit writes: shown, planned, moved and brought home.

use crate::objects::{deployment, promotion_status, writer};
use crate::support::{admin, eventually, kubectl, run};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use multiactive_api::{Promotion, SelectionType};
use serde_json::json;

/// Plays the operator of the next Promotion, which succeeds; what it asked for.
async fn succeeds(namespace: &str) -> Promotion {
    let api: Api<Promotion> = Api::namespaced(admin().await, namespace);
    let promotion = eventually("a Promotion was created", async || {
        let all = api.list(&ListParams::default()).await.unwrap();
        all.items.into_iter().find(|promotion| promotion.status.is_none())
    })
    .await;
    let status = json!({"outcome": "Succeeded", "reason": "Done", "from": "east-1", "slots": 1, "epoch": "1.9"});
    promotion_status(namespace, &promotion.name_any(), status).await;
    promotion
}

fn selects_the_writer(promotion: &Promotion, target: &str) {
    let select = &promotion.spec.select;
    assert_eq!(select.kind, SelectionType::DataStore);
    assert_eq!(select.data_store.as_deref(), Some("catalog"));
    assert_eq!(promotion.spec.target_unit, target);
}

#[test]
fn who_writes_is_shown_and_asked_for_by_the_store() {
    run(async {
        deployment("writers-shown").await;
        writer("writers-shown", "north-1", 8).await;
        let status = kubectl(&["status", "-n", "writers-shown"]).await;
        status
            .exits(0)
            .shows("STORE     HOME     WRITER    STATE     EPOCH   WHY")
            .shows("catalog   east-1   north-1   Serving   1.8     MembersReady")
            .shows("1 writer is away from home; kubectl multiactive failback --all -n writers-shown");
        kubectl(&["status", "catalog", "-n", "writers-shown"])
            .await
            .exits(0)
            .shows("catalog");
        kubectl(&["status", "orders", "-n", "writers-shown"]).await.exits(5);
        kubectl(&["route", "--store", "catalog", "-n", "writers-shown"])
            .await
            .exits(0)
            .shows("Writer:  north-1, Serving since epoch 1.8")
            .shows("Home:    east-1 (away)")
            .shows("Router:  https://north-1.example:8443");
        let json = kubectl(&["route", "--store", "catalog", "-n", "writers-shown", "-o", "json"]).await;
        json.exits(0).shows("\"rule\": \"SingleWriter\"").shows("\"key\": null");
        for (args, code, says) in [
            (
                &["route", "--store", "orders"][..],
                2,
                "is sharded by Keyspace users: give a key",
            ),
            (&["route", "--store", "nothing"], 5, "there are: catalog, orders"),
            (&["route", "alice", "--store", "catalog"], 2, "cannot be used with"),
            (&["route"], 2, "required"),
        ] {
            let args: Vec<_> = args.iter().copied().chain(["-n", "writers-shown"]).collect();
            kubectl(&args).await.exits(code).says(says);
        }
    });
}

#[test]
fn a_writer_is_planned_moved_and_brought_home_by_its_store() {
    run(async {
        let n = "writers-moved";
        deployment(n).await;
        writer(n, "east-1", 8).await;
        kubectl(&["plan", "--to", "north-1", "--store", "catalog", "--local", "-n", n])
            .await
            .exits(0)
            .shows("catalog.writer")
            .shows("catalog-to-north-1-8");
        kubectl(&["plan", "--to", "north-1", "--store", "orders", "--local", "-n", n])
            .await
            .exits(3)
            .shows("UnknownWriter");
        let args = [
            "promote",
            "catalog-away",
            "--to",
            "north-1",
            "--store",
            "catalog",
            "-n",
            n,
        ];
        let (run, promotion) = tokio::join!(kubectl(&args), succeeds(n));
        run.exits(0).shows("Succeeded");
        selects_the_writer(&promotion, "north-1");

        kubectl(&["failback", "catalog", "--yes", "-n", n])
            .await
            .exits(0)
            .says("at home already: catalog");
        writer(n, "north-1", 9).await;
        let args = ["failback", "catalog", "--yes", "-n", n];
        let (run, promotion) = tokio::join!(kubectl(&args), succeeds(n));
        run.exits(0).shows("failback-catalog-9");
        selects_the_writer(&promotion, "east-1");
        kubectl(&["failback", "nothing", "--yes", "-n", n])
            .await
            .exits(5)
            .says("there are: users-0, users-1, catalog");
    });
}
