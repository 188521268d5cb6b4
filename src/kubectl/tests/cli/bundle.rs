//! `support-bundle`: what is in it, and what must not be.

use crate::objects::{deployment, object};
use crate::support::{admin, apply, kubectl, kubectl_as, run, scratch};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The files of a bundle, without the folder that they lie in.
fn files(bundle: &Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("-xzf")
        .arg(bundle)
        .arg("-C")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(path) = folders.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap();
                let name = name.split_once('/').unwrap().1.to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_bundle_holds_what_is_needed_and_no_secret() {
    run(async {
        deployment("bundled").await;
        let client = admin().await;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "bundled"}, "stringData": {"password": "hunter1"}});
        apply(&client, secret).await;
        let manifests = json!([
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "stringData": {"password": "hunter2"}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": {"url": "postgres://shop:hunter3@db/shop"}},
        ]);
        apply(
            &client,
            object(
                "UnitWorkload",
                "bundled",
                "shop",
                json!({"units": ["east-1"], "manifests": manifests}),
                Value::Null,
            ),
        )
        .await;
        let path = scratch("bundle.tar.gz");
        let run = kubectl(&["support-bundle", "-n", "bundled", "-f", path.to_str().unwrap()]).await;
        run.exits(0)
            .shows("Secrets: never read")
            .shows("--member-context")
            .shows(&format!("written: {}", path.display()));
        let files = files(&path);
        for name in [
            "summary.txt",
            "version.txt",
            "hub/status.txt",
            "hub/events.txt",
            "hub/objects/bundled/units/east-1.yaml",
            "hub/objects/bundled/routingtables/routing.yaml",
            "hub/objects/bundled/unitworkloads/shop.yaml",
            "hub/objects/cluster/memberclusters/north.yaml",
        ] {
            assert!(files.contains_key(name), "{name} is not in it: {:?}", files.keys());
        }
        for (name, text) in &files {
            assert!(!text.contains("hunter"), "{name} holds a secret: {text}");
        }
        assert!(files["hub/objects/bundled/unitworkloads/shop.yaml"].contains("postgres://shop:REDACTED@db/shop"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read it: {mode:o}");
    });
}

#[test]
fn what_may_not_be_read_is_left_out_and_said() {
    run(async {
        deployment("left-out").await;
        crate::support::grant("multiactive-view", "collector").await;
        let path = scratch("left-out.tar.gz");
        let run = kubectl_as(
            "collector",
            &[
                "support-bundle",
                "-n",
                "left-out",
                "-f",
                path.to_str().unwrap(),
                "--member-context",
                "nowhere",
            ],
        )
        .await;
        run.exits(0)
            .shows("pods and logs")
            .shows("members/nowhere: the kubeconfig has no context nowhere");
        assert!(files(&path).contains_key("hub/objects/left-out/units/east-1.yaml"));
        let nobody = kubectl_as(
            "nobody",
            &[
                "support-bundle",
                "-n",
                "left-out",
                "-f",
                scratch("nobody.tar.gz").to_str().unwrap(),
            ],
        )
        .await;
        nobody.exits(1).says("there is no object of multiactive in it");
    });
}
