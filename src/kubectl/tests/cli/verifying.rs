//! `verify` with an operator that the test plays: what it creates, how it is followed, and what is asked before a repair.

use crate::objects::{deployment, object};
use crate::support::{admin, api, as_file, cluster, eventually, kubectl, run};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use multiactive_api::{RepairMode, Verification};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The Verifications of a namespace.
pub async fn verifications(namespace: &str) -> Vec<Verification> {
    let api: Api<Verification> = Api::namespaced(admin().await, namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

/// Waits for a Verification that no operator has seen yet.
async fn appears(namespace: &str) -> Verification {
    eventually("a Verification was created", async || {
        let mut found = verifications(namespace).await.into_iter();
        found.find(|object| object.status.is_none())
    })
    .await
}

/// Writes the status of a Verification, as the operator does.
pub async fn status(namespace: &str, name: &str, status: Value) {
    let like = object("Verification", namespace, name, json!({}), Value::Null);
    let patch = Patch::Merge(json!({"status": status}));
    let api = api(&admin().await, &like);
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Both pairs of a deployment: east-1's copies of north-1's rows are equal, north-1's of east-1's are in this state.
fn pairs(state: &str, more: Value) -> Value {
    let pair =
        |unit: &str, owner: &str, state: &str| json!({"store": "orders", "unit": unit, "owner": owner, "state": state});
    let mut equal = pair("east-1", "north-1", "Equal");
    (equal["rows"], equal["slots"]) = (json!(12), json!("8-15"));
    let mut other = pair("north-1", "east-1", state);
    other.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([equal, other])
}

/// An operator that runs the next Verification of a namespace to this end.
async fn plays(namespace: &str, end: Value) -> Verification {
    let object = appears(namespace).await;
    let begun = json!({"done": "1/2", "rows": 12, "differingSlots": 0, "pairs": pairs("Comparing", json!({})),
        "waitingFor": "orders at north-1 with east-1", "startedAt": "2026-01-01T00:00:00Z"});
    status(namespace, &object.name_any(), begun).await;
    status(namespace, &object.name_any(), end).await;
    object
}

fn differs() -> Value {
    let more =
        json!({"rows": 5, "slots": "0-7", "differing": "1,3", "examples": ["orders id=7 (slot 1): only at north-1"]});
    json!({"done": "2/2", "rows": 17, "differingSlots": 2, "pairs": pairs("Differs", more), "waitingFor": null,
        "endedAt": "2026-01-01T00:00:02Z", "outcome": "Failed", "reason": "RowsDiffer", "message": "rows differ: said by the test"})
}

#[test]
fn what_was_found_is_shown_pair_by_pair_and_differing_rows_have_an_exit_code_of_their_own() {
    run(async {
        deployment("compared").await;
        let args = ["verify", "-n", "compared"];
        let (run, object) = tokio::join!(kubectl(&args), plays("compared", differs()));
        run.exits(6)
            .shows("verification compared/verify-6 created\n")
            .shows("Failed/RowsDiffer: rows differ: said by the test\n")
            .shows("orders   east-1    north-1   Equal     12     0\n")
            .shows("orders   north-1   east-1    Differs   5      2           slots 1,3\n")
            .shows("  orders id=7 (slot 1): only at north-1\n")
            .shows("kubectl multiactive verify orders --unit north-1 --repair -n compared\n");
        assert_eq!(
            (object.spec.stores, object.spec.units, object.spec.repair),
            (None, None, RepairMode::None)
        );

        // For scripts; what ended leaves its name used.
        let args = ["verify", "orders", "--unit", "north-1", "-n", "compared", "-o", "json"];
        let equal = json!({"done": "2/2", "rows": 17, "differingSlots": 0, "outcome": "Succeeded", "reason": "Equal", "message": "all",
            "pairs": pairs("Equal", json!({"rows": 5, "slots": "0-7"}))});
        let (run, object) = tokio::join!(kubectl(&args), plays("compared", equal));
        let json = run.exits(0).json();
        assert_eq!(
            (&json["kind"], &json["operation"], &json["name"]),
            (&json!("Operation"), &json!("Verification"), &json!("verify-6-2"))
        );
        assert_eq!(
            (
                &json["compared"]["differingSlots"],
                &json["compared"]["pairs"][1]["rows"]
            ),
            (&json!(0), &json!(5))
        );
        assert_eq!(
            (object.spec.stores, object.spec.units),
            (Some(vec!["orders".to_owned()]), Some(vec!["north-1".to_owned()]))
        );

        // What could not be compared is no answer.
        let refused = json!({"outcome": "Refused", "reason": "NothingToCompare", "message": "nothing there"});
        let args = [
            "verify",
            "--name",
            "mine",
            "--max-rows-per-second",
            "500",
            "-n",
            "compared",
        ];
        let (run, object) = tokio::join!(kubectl(&args), plays("compared", refused));
        run.exits(4).shows("Refused/NothingToCompare: nothing there");
        assert_eq!(
            (object.name_any().as_str(), object.spec.max_rows_per_second),
            ("mine", Some(500))
        );
        kubectl(&args)
            .await
            .exits(1)
            .says("already exists")
            .says("A name is used once");
        let slow = ["verify", "--max-rows-per-second", "99", "-n", "compared"];
        kubectl(&slow).await.exits(2).says("99 is not in 100..");
    });
}

#[test]
fn what_nobody_knows_is_told_before_anything_is_created() {
    run(async {
        deployment("known").await;
        for (args, code, said) in [
            (
                &["carts"][..],
                5,
                "there is no DataStore carts in namespace known; there are: orders",
            ),
            (
                &["orders", "--unit", "west-9"],
                5,
                "west-9 has no database of DataStore orders in namespace known; their members are: east-1, north-1",
            ),
            (&["--unit", "north-1,west-9"], 5, "west-9 has no database"),
            (&["promotion/x"], 2, "promotion/x is no DataStore and no Verification"),
            (
                &["verification/x"],
                5,
                "there is no Verification x in namespace known; there are: none",
            ),
            (&["verification/x", "--repair"], 2, "--repair is for a new one"),
            (&["verification/x", "orders"], 2, "another name is for a new one"),
        ] {
            let args = [&["verify", "-n", "known"], args].concat();
            kubectl(&args).await.exits(code).says(said);
        }
        kubectl(&["verify", "-n", "nowhere"])
            .await
            .exits(5)
            .says("there is no namespace nowhere");
        kubectl(&["verify", "-n", "default"])
            .await
            .exits(5)
            .says("has no DataStore");
        let decided = [
            "decide",
            "verification/x",
            "Abort",
            "--reason",
            "INC-7",
            "-n",
            "known",
            "--yes",
        ];
        kubectl(&decided)
            .await
            .exits(2)
            .says("nothing is decided about a Verification")
            .says("kubectl -n known delete verification x");
        assert!(verifications("known").await.is_empty());
    });
}

#[test]
fn a_repair_says_what_it_will_do_and_needs_a_yes() {
    run(async {
        deployment("repaired").await;
        let args = ["verify", "orders", "--unit", "north-1", "--repair", "-n", "repaired"];
        let asked = kubectl(&args).await;
        asked
            .exits(2)
            .says("DataStore repaired/orders: the rows at north-1")
            .says("REPLACED by the owners'")
            .says("To look only: kubectl multiactive verify orders --unit north-1 -n repaired")
            .says("in 1 database of orders in repaired needs your confirmation")
            .says("give --yes");
        let dry = kubectl(&[&args[..], &["--dry-run=server", "-o", "yaml"]].concat()).await;
        dry.exits(0).shows("kind: Verification").shows("repair: FromOwner");
        assert!(!dry.out.contains("uid"), "{dry:?}");
        assert!(verifications("repaired").await.is_empty());

        let more = json!({"rows": 5, "slots": "0-7", "differing": "1,3", "message": "2 rows were copied"});
        let end = json!({"done": "2/2", "differingSlots": 2, "pairs": pairs("Repaired", more), "outcome": "Succeeded", "reason": "Repaired"});
        let (args, plays) = ([&args[..], &["--yes"]].concat(), plays("repaired", end));
        let (run, object) = tokio::join!(kubectl(&args), plays);
        run.exits(0)
            .shows("verification repaired/repair-6 created\n")
            .shows("rows of 2 slots differed, and are equal now: 2 rows were copied\n")
            .shows("Succeeded/Repaired");
        assert!(!run.out.contains("--repair"), "nothing is left to do: {run:?}");
        assert_eq!(object.spec.repair, RepairMode::FromOwner);
    });
}

#[test]
fn who_interrupts_stops_following_and_one_that_exists_is_followed_by_its_name() {
    run(async {
        deployment("goes-on").await;
        let kubeconfig = cluster().await.kubeconfig_path();
        let mut command = as_file(&kubeconfig, &["verify", "--name", "v", "-n", "goes-on"]).0;
        let (out, err) = (Stdio::piped(), Stdio::piped());
        let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let ended = eventually("it ended", async || child.try_wait().unwrap()).await;
        let err = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert_eq!(ended.code(), Some(130), "{err}");
        assert!(
            err.contains("kubectl multiactive verify verification/v -n goes-on"),
            "{err}"
        );
        assert!(err.contains("kubectl -n goes-on delete verification v"), "{err}");

        status("goes-on", "v", differs()).await;
        let again = kubectl(&["verify", "verification/v", "-n", "goes-on"]).await;
        again.exits(6).shows("orders   north-1   east-1    Differs");
        kubectl(&["verify", "verification/w", "-n", "goes-on"])
            .await
            .exits(5)
            .says("there is no Verification w in namespace goes-on; there are: v");

        // Deleted, it compares nothing more.
        let args = ["verify", "--name", "w", "-n", "goes-on"];
        let deletes = async {
            appears("goes-on").await;
            let api: Api<Verification> = Api::namespaced(admin().await, "goes-on");
            api.delete("w", &DeleteParams::default()).await.unwrap();
        };
        let (run, ()) = tokio::join!(kubectl(&args), deletes);
        run.exits(4).says("verification goes-on/w was deleted");
        kubectl(&["verify", "--no-wait", "-n", "goes-on"])
            .await
            .exits(0)
            .shows("verification goes-on/verify-6 created\n");
    });
}

#[test]
fn the_examples_are_taken_by_the_api_server() {
    run(async {
        deployment("examples").await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop/verifications");
        let mut repairs = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let mut example: Value = serde_yaml::from_str(&text).unwrap();
            example["metadata"]["namespace"] = json!("examples");
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let name = example["metadata"]["name"].as_str().unwrap().to_owned();
            let created = api(&admin().await, &example)
                .create(&dry_run, &serde_json::from_value(example).unwrap())
                .await;
            let spec = created.unwrap_or_else(|error| panic!("{name}: {error}")).data["spec"].clone();
            repairs.push((name, spec["repair"].as_str().unwrap().to_owned()));
        }
        repairs.sort();
        let want = [("all-rows", "None"), ("repair-north-1", "FromOwner")];
        assert_eq!(repairs, want.map(|(name, repair)| (name.to_owned(), repair.to_owned())));
    });
}
