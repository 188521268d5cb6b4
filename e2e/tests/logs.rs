//! What operator, agents and routers log while a shop runs, a unit moves, and a database and an API server are away: each
//! line is one JSON object with the same names for the same things, no error is told twice, and no secret is in it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use multiactive_e2e::region::{NAMESPACE, SYSTEM};
use multiactive_e2e::stage::{Options, Stage, orders};
use multiactive_fleet::cluster::Part;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A line of a program.
struct Line {
    program: &'static str,
    text: String,
    fields: Map<String, Value>,
}

impl Line {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether our own code says it.
    fn is_ours(&self) -> bool {
        self.get("target").starts_with("multiactive_")
    }

    fn is_loud(&self) -> bool {
        matches!(self.get("level"), "WARN" | "ERROR")
    }
}

const PROGRAMS: [&str; 3] = ["operator", "agent", "router"];

/// All lines of our programs in all clusters, each parsed.
fn lines(stage: &Stage) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for cluster in &stage.world.clusters {
        let folder = cluster.dir().join("node/logs");
        for file in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = file?.path();
            let Some(program) = PROGRAMS.into_iter().find(|name| is_of(&path, name)) else {
                continue;
            };
            for text in std::fs::read_to_string(&path)?.lines() {
                let parsed: Value =
                    serde_json::from_str(text).with_context(|| format!("{}: {text}", path.display()))?;
                let Value::Object(fields) = parsed else {
                    anyhow::bail!("{}: no object: {text}", path.display());
                };
                let text = text.to_owned();
                lines.push(Line { program, text, fields });
            }
        }
    }
    Ok(lines)
}

/// Whether a file holds the output of a container of this name.
fn is_of(path: &Path, container: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(&format!("_{container}.log"))
}

/// Every text that must not be in a log: passwords, private keys, tokens.
async fn secrets(stage: &Stage) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for region in &stage.world.regions {
        all.insert(region.database_password.clone());
        for namespace in [NAMESPACE, SYSTEM] {
            let api: Api<Secret> = Api::namespaced(region.client().await?, namespace);
            for secret in api.list(&Default::default()).await? {
                for (key, value) in secret.data.into_iter().flatten() {
                    let text = String::from_utf8_lossy(&value.0).into_owned();
                    match key.as_str() {
                        "username" | "replicationUsername" | "ca.crt" | "tls.crt" => {}
                        "tls.key" | "ca.key" => all.extend(text.lines().nth(1).map(str::to_owned)),
                        "kubeconfig" => all.extend(
                            text.split("token: ")
                                .nth(1)
                                .and_then(|rest| rest.lines().next())
                                .map(str::to_owned),
                        ),
                        _ => {
                            all.insert(text);
                        }
                    }
                }
            }
        }
    }
    all.retain(|secret| secret.len() > 8);
    ensure!(all.len() >= 10, "only {} secrets were found", all.len());
    Ok(all)
}

fn each_line_has_its_fields(lines: &[Line]) -> Result<()> {
    let mut wrong = BTreeMap::new();
    for line in lines {
        let missing = ["timestamp", "level", "target", "message"]
            .into_iter()
            .filter(|field| line.get(field).is_empty());
        let level = matches!(line.get("level"), "ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE");
        let time = line.get("timestamp").parse::<jiff::Timestamp>().is_ok();
        let odd = [
            ("level", level),
            ("timestamp", time),
            ("colours", !line.text.contains("\\u001b")),
        ];
        let odd = odd.into_iter().filter(|(_, right)| !right).map(|(field, _)| field);
        let named = [("namespace", NAMESPACE), ("unit", "-1"), ("epoch", ".")]
            .into_iter()
            .filter(|(field, part)| {
                let found = line.fields.get(*field).map(|found| found.as_str().unwrap_or_default());
                let ours = |found: &str| found.contains(part) && !found.contains('/');
                line.is_ours() && found.is_some_and(|found| !ours(found) && (*field != "namespace" || found != SYSTEM))
            });
        for field in missing.chain(odd).chain(named.map(|(field, _)| field)) {
            wrong.insert((line.get("target"), line.get("message"), field), line.text.as_str());
        }
    }
    ensure!(
        wrong.is_empty(),
        "fields that are missing or not as elsewhere: {wrong:#?}"
    );
    let has = |program: &str, wanted: &[&str]| {
        let mut of_program = lines.iter().filter(|line| line.program == program);
        of_program.any(|line| wanted.iter().all(|field| !line.get(field).is_empty()))
    };
    for (program, wanted) in [
        ("operator", &["namespace", "operation", "epoch"][..]),
        ("operator", &["member"]),
        ("agent", &["member", "namespace", "unit", "store", "epoch"]),
        ("router", &["namespace", "unit", "epoch"]),
    ] {
        ensure!(has(program, wanted), "no line of the {program} has all of {wanted:?}");
    }
    let nameless = lines
        .iter()
        .find(|line| line.program == "router" && line.get("unit").is_empty());
    ensure!(nameless.is_none(), "a router's line does not name its unit");
    Ok(())
}

/// One failure is one line: the same error is not told by several places at the same moment.
fn errors_are_told_once(lines: &[Line]) -> Result<()> {
    let mut by_error: BTreeMap<(&str, &str, &str, &str, &str), Vec<&Line>> = BTreeMap::new();
    for line in lines
        .iter()
        .filter(|line| line.is_loud() && !line.get("error").is_empty())
    {
        // To the tenth of a second.
        let moment = line.get("timestamp").get(..21).unwrap_or_default();
        let about = (
            line.program,
            line.get("member"),
            line.get("unit"),
            line.get("error"),
            moment,
        );
        by_error.entry(about).or_default().push(line);
    }
    let places = |told: &[&Line]| {
        let places = told.iter().map(|line| line.get("target").to_owned());
        places.collect::<BTreeSet<_>>()
    };
    let mut twice: BTreeMap<_, Vec<Vec<&String>>> = BTreeMap::new();
    for told in by_error.values().filter(|told| places(told).len() > 1) {
        let texts = told.iter().map(|line| &line.text).collect();
        twice.entry(places(told)).or_default().push(texts);
    }
    // Two calls to a server that is gone may fail at the same moment: who tells another's failure again does so each time.
    twice.retain(|_, moments| moments.len() > 1);
    ensure!(twice.is_empty(), "told in several places: {twice:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_json_with_their_fields_errors_once_and_no_secret() -> Result<()> {
    let stage = Stage::up_with(Options {
        logs: Some("debug".to_owned()),
        ..Options::default()
    })
    .await?;
    let load = stage.load(12)?;
    orders(&load, 50).await;
    let range = json!({"type": "Ranges", "ranges": ["users-0"]});
    stage.moved("move-users-0", "north-1", range, "None").await?;
    let (database, cluster) = (&stage.world.databases[2], &stage.world.clusters[2]);
    database.kill_9().await;
    cluster.kill_part(Part::ApiServer).await;
    stage.until_member("south", false).await?;
    database.restart().await?;
    cluster.start_part(Part::ApiServer).await?;
    stage.until_member("south", true).await?;
    stage.install.ready(|_| {}).await?;
    load.stop().await;

    let lines = lines(&stage)?;
    for program in PROGRAMS {
        let of_program: Vec<_> = lines.iter().filter(|line| line.program == program).collect();
        let loud = of_program.iter().filter(|line| line.is_loud());
        println!(
            "{program}: {} lines, {} of them warnings or errors",
            of_program.len(),
            loud.count()
        );
        ensure!(
            of_program.iter().any(|line| line.get("level") == "DEBUG"),
            "RUST_LOG asked the {program} for more"
        );
    }
    let secrets = secrets(&stage).await?;
    let told = lines
        .iter()
        .filter(|line| secrets.iter().any(|secret| line.text.contains(secret)));
    let told: BTreeMap<_, _> = told.map(|line| (line.get("target"), &line.text)).collect();
    let no_secret = || {
        ensure!(told.is_empty(), "secrets are in logs: {told:#?}");
        Ok(())
    };
    let found = [
        each_line_has_its_fields(&lines),
        errors_are_told_once(&lines),
        no_secret(),
    ];
    let problems: Vec<_> = found.into_iter().filter_map(Result::err).collect();
    for problem in &problems {
        println!("{problem:#}");
    }
    ensure!(
        problems.is_empty(),
        "{} of 3 rules are broken, as said above",
        problems.len()
    );
    Ok(())
}
