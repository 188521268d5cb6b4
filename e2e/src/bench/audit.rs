//! Who wrote what, from the API servers' own audit logs.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
";

/// The audit logs of a fleet.
#[derive(Clone, Debug)]
pub struct Audit(PathBuf);

/// One write, whether it was accepted or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// The user.
    pub user: String,
    /// create, update, patch, delete or deletecollection.
    pub verb: String,
    /// Such as `configmaps` or `unitworkloads/status`.
    pub resource: String,
    /// Its namespace, empty where it has none.
    pub namespace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    user: User,
    verb: String,
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    namespace: String,
}

impl Audit {
    /// Logs below `dir`.
    ///
    /// # Errors
    ///
    /// Where the policy cannot be written there.
    pub fn new(dir: &Path) -> Result<Self> {
        std::fs::write(dir.join("audit-policy.yaml"), POLICY).context("writing the audit policy")?;
        Ok(Self(dir.to_owned()))
    }

    fn log(&self, cluster: &str) -> PathBuf {
        self.0.join(format!("audit-{cluster}.jsonl"))
    }

    /// The flags of the cluster's API server. A write is in the log before it is answered.
    pub fn args(&self, cluster: &str) -> Vec<String> {
        vec![
            format!("--audit-policy-file={}", self.0.join("audit-policy.yaml").display()),
            format!("--audit-log-path={}", self.log(cluster).display()),
            "--audit-log-mode=blocking".to_owned(),
        ]
    }

    /// Where the log ends now.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn mark(&self, cluster: &str) -> Result<u64> {
        let path = self.log(cluster);
        Ok(std::fs::metadata(&path)
            .with_context(|| format!("{}", path.display()))?
            .len())
    }

    /// What was written since a mark, but for what keeps nothing: tokens, reviews and leases.
    ///
    /// # Errors
    ///
    /// Where the log cannot be read.
    pub fn since(&self, cluster: &str, mark: u64) -> Result<Vec<Write>> {
        let mut file = std::fs::File::open(self.log(cluster))?;
        file.seek(SeekFrom::Start(mark))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        writes(&text)
    }
}

fn writes(log: &str) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for line in log.lines() {
        let event: Event = serde_json::from_str(line).with_context(|| format!("a line of an audit log: {line}"))?;
        let Some(about) = event.object_ref else { continue };
        let keeps_nothing = about.subresource == "token" || about.resource.ends_with("reviews");
        if keeps_nothing || about.resource == "leases" {
            continue;
        }
        let resource = match about.subresource.as_str() {
            "" => about.resource,
            subresource => format!("{}/{subresource}", about.resource),
        };
        writes.push(Write {
            user: event.user.username,
            verb: event.verb,
            resource,
            namespace: about.namespace,
        });
    }
    Ok(writes)
}

impl Write {
    /// Whether an account of multiactive made it: operator, agent, router, or the team's account for workloads.
    pub fn is_ours(&self) -> bool {
        let account = self.user.strip_prefix("system:serviceaccount:");
        account.is_some_and(|account| {
            let name = account.rsplit(':').next().unwrap_or(account);
            name.starts_with("multiactive-")
        })
    }
}

/// How many of each kind, most first: `3 patch unitworkloads/status, …`.
pub fn summary<'a>(writes: impl IntoIterator<Item = &'a Write>) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for write in writes {
        *counts.entry((&write.verb, &write.resource)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = counts
        .iter()
        .map(|((verb, resource), count)| format!("{count} {verb} {resource}"));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, verb: &str, resource: &str, subresource: &str) -> String {
        let about = serde_json::json!({"resource": resource, "subresource": subresource, "namespace": "shop"});
        serde_json::json!({"kind": "Event", "user": {"username": user}, "verb": verb, "objectRef": about}).to_string()
    }

    #[test]
    fn writes_are_those_that_keep_something_and_ours_are_told_apart() {
        let operator = "system:serviceaccount:multiactive-system:multiactive-operator";
        let log = [
            line(operator, "patch", "unitworkloads", "status"),
            line(operator, "update", "leases", ""),
            line(operator, "create", "serviceaccounts", "token"),
            line(operator, "create", "selfsubjectaccessreviews", ""),
            line(
                "system:serviceaccount:shop:multiactive-deployer",
                "patch",
                "configmaps",
                "",
            ),
            line("admin", "create", "unitworkloads", ""),
            r#"{"user": {"username": "admin"}, "verb": "create"}"#.to_owned(),
        ];
        let writes = writes(&log.join("\n")).unwrap();
        assert_eq!(
            summary(&writes),
            "1 create unitworkloads, 1 patch configmaps, 1 patch unitworkloads/status"
        );
        let ours: Vec<_> = writes.iter().filter(|write| write.is_ours()).cloned().collect();
        assert_eq!(summary(&ours), "1 patch configmaps, 1 patch unitworkloads/status");
        assert!(super::writes("no JSON").is_err());
    }
}
