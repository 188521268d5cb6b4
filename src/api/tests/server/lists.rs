//! Lists that several managers may share are merged by their keys under server-side apply.

use crate::good;
use crate::support::{admin, api, object, run};
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[test]
fn two_managers_share_the_conditions_and_the_members_of_a_store() {
    run(async {
        let client = admin().await;
        let mut ours = good::data_store("shared");
        let place = api(&client, &ours);
        let apply = |manager: &str| PatchParams::apply(manager);
        place
            .patch("shared", &apply("one"), &Patch::Apply(object(&ours)))
            .await
            .unwrap();
        ours["spec"] = json!({"members": [{"unit": "north-1", "address": "north:5432", "credentials": "shop-db"}]});
        place
            .patch("shared", &apply("two"), &Patch::Apply(object(&ours)))
            .await
            .unwrap();
        for (manager, kind) in [("one", "Ready"), ("two", "Reconciling")] {
            let condition = json!({"type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-11-22T12:00:00Z"});
            let status = json!({"apiVersion": ours["apiVersion"], "kind": ours["kind"], "metadata": {"name": "shared"},
                "status": {"conditions": [condition]}});
            place
                .patch_status("shared", &apply(manager), &Patch::Apply(object(&status)))
                .await
                .unwrap();
        }
        let stored = place.get("shared").await.unwrap().data;
        assert_eq!(stored["spec"]["members"].as_array().unwrap().len(), 2, "{stored}");
        assert_eq!(stored["status"]["conditions"].as_array().unwrap().len(), 2, "{stored}");
    });
}
