//! What one cluster gives to a bundle.

use super::archive::Archive;
use crate::client::Session;
use crate::fail::{Failure, Result};
use crate::fetch;
use crate::redact;
use crate::verbs::events;
use crate::view::event::{self, Wanted};
use crate::view::{status, status_text};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, LogParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};

/// The label of every pod of the chart.
const OURS: &str = "app.kubernetes.io/name=multiactive";

/// What came together.
#[derive(Debug, Default)]
pub struct Collected {
    /// How many objects.
    pub objects: usize,
    /// How many events.
    pub events: usize,
    /// How many logs.
    pub logs: usize,
    /// How many values were taken out.
    pub redacted: usize,
    /// What is not there, and why.
    pub left_out: Vec<String>,
}

impl Collected {
    /// Notes what is not there.
    pub fn left_out(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.left_out.push(format!("{what}: {why}"));
    }

    /// For who opens the file.
    pub fn summary(&self, now: Timestamp, place: &str, members: &[String]) -> String {
        let mut text = format!(
            "support bundle of multiactive, {now}\nfrom {place}\n\n{} objects, {} events, {} logs\n{} values redacted: Secrets inside \
             workloads, passwords in URLs, variables and logs\n\nleft out:\n  Secrets: never read\n",
            self.objects, self.events, self.logs, self.redacted
        );
        if members.is_empty() {
            text.push_str(
                "  the members' side (UnitAssignments, agents' logs): name their contexts with --member-context\n",
            );
        }
        for left in &self.left_out {
            text.push_str(&format!("  {left}\n"));
        }
        text
    }
}

/// Adds all of a cluster below `side`. What cannot be read is left out, and said.
///
/// # Errors
///
/// Where the archive cannot be written.
pub async fn cluster(
    session: &Session,
    namespace: Option<&str>,
    side: &str,
    tail: i64,
    archive: &mut Archive,
    collected: &mut Collected,
) -> Result<()> {
    objects(session, namespace, side, archive, collected).await?;
    status_of(session, namespace, side, archive, collected).await?;
    match events::read(session, namespace).await {
        Ok(found) => {
            let views = event::events(&found, &Wanted::default(), Timestamp::now());
            collected.events += views.len();
            let lines = views.iter().map(|event| {
                let time = event.time.as_deref().unwrap_or("?");
                let object = format!(
                    "{} {}/{}",
                    event.kind,
                    event.namespace.as_deref().unwrap_or("-"),
                    event.name
                );
                format!("{time} {} {} {object}: {}\n", event.type_, event.reason, event.note)
            });
            let (lines, taken) = clean(&lines.collect::<String>());
            collected.redacted += taken;
            archive.add(&format!("{side}/events.txt"), &lines)?;
        }
        Err(failure) => collected.left_out(&format!("{side}: events"), &failure),
    }
    pods(session, side, tail, archive, collected).await
}

/// Every object of the group: the kinds that this program knows, whatever version serves them.
async fn objects(
    session: &Session,
    namespace: Option<&str>,
    side: &str,
    archive: &mut Archive,
    collected: &mut Collected,
) -> Result<()> {
    let definitions = multiactive_api::crd::all().map_err(Failure::error)?;
    for definition in definitions {
        let resource = resource(&definition);
        let scoped = definition.spec.scope == "Namespaced";
        let found = match fetch::dynamic(session, &resource, namespace.filter(|_| scoped)).await {
            Ok(found) => found,
            Err(failure) => {
                collected.left_out(&format!("{side}: {}", resource.plural), &failure);
                continue;
            }
        };
        for object in found {
            let place = object.namespace().unwrap_or_else(|| "cluster".to_owned());
            let name = format!("{side}/objects/{place}/{}/{}.yaml", resource.plural, object.name_any());
            let (object, taken) = redact::object(serde_json::to_value(object).map_err(Failure::error)?);
            let yaml = serde_yaml::to_string(&object).map_err(Failure::error)?;
            (collected.objects, collected.redacted) = (collected.objects + 1, collected.redacted + taken);
            archive.add(&name, &yaml)?;
        }
    }
    Ok(())
}

fn resource(definition: &CustomResourceDefinition) -> ApiResource {
    let names = &definition.spec.names;
    let gvk = kube::core::GroupVersionKind::gvk(multiactive_api::GROUP, multiactive_api::VERSION, &names.kind);
    ApiResource::from_gvk_with_plural(&gvk, &names.plural)
}

async fn status_of(
    session: &Session,
    namespace: Option<&str>,
    side: &str,
    archive: &mut Archive,
    collected: &mut Collected,
) -> Result<()> {
    match fetch::world(session, namespace).await {
        Ok(world) => {
            let view = status::status(&world, &[], Timestamp::now());
            archive.add(
                &format!("{side}/status.txt"),
                &status_text::text(&view, crate::print::Paint::OFF, true),
            )
        }
        Err(failure) => {
            collected.left_out(&format!("{side}: status"), &failure);
            Ok(())
        }
    }
}

/// The pods of the chart: how they are, and what they wrote.
async fn pods(
    session: &Session,
    side: &str,
    tail: i64,
    archive: &mut Archive,
    collected: &mut Collected,
) -> Result<()> {
    let all: Api<Pod> = Api::all(session.client.clone());
    let pods = match session
        .ask("listing pods", all.list(&ListParams::default().labels(OURS)))
        .await
    {
        Ok(pods) => pods.items,
        Err(failure) => {
            collected.left_out(&format!("{side}: pods and logs"), &failure);
            return Ok(());
        }
    };
    if pods.is_empty() {
        collected.left_out(&format!("{side}: logs"), &format!("no pod has the label {OURS}"));
    }
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        let (place, name) = (format!("{side}/pods/{namespace}/{}", pod.name_any()), pod.name_any());
        let containers: Vec<_> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|container| container.name.clone())
            .collect();
        let (object, taken) = redact::object(serde_json::to_value(&pod).map_err(Failure::error)?);
        collected.redacted += taken;
        archive.add(
            &format!("{place}/pod.yaml"),
            &serde_yaml::to_string(&object).map_err(Failure::error)?,
        )?;
        let api: Api<Pod> = Api::namespaced(session.client.clone(), &namespace);
        for container in containers {
            for previous in [false, true] {
                let params = LogParams {
                    container: Some(container.clone()),
                    previous,
                    tail_lines: Some(tail),
                    ..LogParams::default()
                };
                let doing = format!("reading the log of {namespace}/{name} {container}");
                match session.ask(&doing, api.logs(&name, &params)).await {
                    Ok(log) => {
                        let (log, taken) = clean(&log);
                        (collected.logs, collected.redacted) = (collected.logs + 1, collected.redacted + taken);
                        let file = if previous {
                            format!("{container}.previous.log")
                        } else {
                            format!("{container}.log")
                        };
                        archive.add(&format!("{place}/{file}"), &log)?;
                    }
                    // That it never ran before is no loss.
                    Err(_) if previous => {}
                    Err(failure) => collected.left_out(side, &failure),
                }
            }
        }
    }
    Ok(())
}

/// A text line by line without what must not leave.
fn clean(text: &str) -> (String, usize) {
    let mut count = 0;
    let lines = text.lines().map(|line| {
        let (line, taken) = redact::line(line);
        count += taken;
        line + "\n"
    });
    let text = lines.collect();
    (text, count)
}
