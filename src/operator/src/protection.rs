//! The label of namespaces whose units own slots: a policy refuses to delete them. It is in the hub, and in every member
//! where a unit of the namespace owns slots: a namespace that is deleted there takes routers and databases along.

use crate::Context;
use crate::apply::{FIELD_MANAGER, read, within};
use crate::error::Error;
use crate::tables::View;
use crate::units::is_needed;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use multiactive_core::table::RoutingTable;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The label.
pub const PROTECTED: &str = "multiactive.io/protected";

/// The name by which the hub's own namespace goes among those of members.
const HUB: &str = "";
/// How soon a member that refused is asked again: its chart may be upgraded meanwhile.
const REFUSED: Duration = Duration::from_secs(30);

/// What is known of the labels of one namespace.
#[derive(Debug, Default)]
pub struct Protection {
    /// The label as it was brought about, by member, with the number of the connection.
    known: BTreeMap<String, (u64, bool)>,
    /// When a member refused.
    refused: BTreeMap<String, Instant>,
}

/// What came of a look at the labels.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Members whose label may not be as it shall, and are tried again.
    pub failed: BTreeSet<String>,
}

/// Where the label shall be; the places that are not named have no unit.
fn wanted(view: &View, table: &RoutingTable) -> BTreeMap<String, bool> {
    let mut spans = table.keyspaces.iter().flat_map(|keyspace| &keyspace.spans);
    let mut wanted = BTreeMap::from([(HUB.to_owned(), spans.any(|span| span.owner.is_some()))]);
    for unit in &view.inputs.units {
        let needed = is_needed(&unit.name_any().into(), table);
        *wanted.entry(unit.spec.cluster.clone()).or_default() |= needed;
    }
    wanted
}

impl Protection {
    /// Brings the labels about, where they are not known to be right.
    pub async fn keep(&mut self, ctx: &Context, namespace: &str, view: &View) -> Labelled {
        let mut labelled = Labelled::default();
        let Some(table) = view.table.as_deref().filter(|_| !view.terminating) else {
            return labelled;
        };
        let mut wanted = wanted(view, table);
        for left in self.known.keys() {
            wanted.entry(left.clone()).or_default();
        }
        for (place, wanted) in wanted {
            let Some((client, connection)) = reached(ctx, namespace, &place) else {
                continue;
            };
            let recently = self.refused.get(&place).is_some_and(|at| at.elapsed() < REFUSED);
            if recently || self.known.get(&place) == Some(&(connection, wanted)) {
                continue;
            }
            self.refused.remove(&place);
            match label(ctx, client, namespace, wanted).await {
                Ok(true) => {
                    self.known.insert(place, (connection, wanted));
                }
                // Where there is no such namespace there is nothing to protect.
                Ok(false) => {
                    self.known.remove(&place);
                }
                Err(error) => {
                    let forbidden = error.status().is_some_and(|status| status.is_forbidden());
                    tracing::warn!(
                        namespace,
                        member = place,
                        error = error.chain(),
                        "the namespace was not labelled"
                    );
                    if forbidden {
                        self.refused.insert(place, Instant::now());
                    } else {
                        labelled.failed.insert(place);
                    }
                }
            }
        }
        labelled
    }
}

/// The client of a place that can be asked now, and the number of its connection. The hub as a member is the hub.
fn reached(ctx: &Context, namespace: &str, place: &str) -> Option<(Client, u64)> {
    if place == HUB {
        return Some((ctx.client.clone(), 0));
    }
    let member = ctx.members.get(place)?;
    let usable = member.is_ready() && !member.hub && member.allows(namespace);
    usable.then(|| (member.client.clone(), member.connection))
}

/// Whether there is such a namespace; then it has the label, or does not.
async fn label(ctx: &Context, client: Client, namespace: &str, wanted: bool) -> Result<bool, Error> {
    let api: Api<Namespace> = Api::all(client);
    let Some(object) = read(&api, namespace).await? else {
        return Ok(false);
    };
    let has = object.labels().get(PROTECTED).is_some_and(|value| value == "true");
    if has == wanted {
        return Ok(true);
    }
    let value = wanted.then_some("true");
    let patch = Patch::Merge(json!({"metadata": {"labels": {PROTECTED: value}}}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let error = |source| Error::Apply {
        kind: "Namespace".into(),
        name: namespace.to_owned(),
        source: Box::new(source),
    };
    let what = || format!("labelling Namespace {namespace}");
    within(what, api.patch(namespace, &params, &patch), error).await?;
    ctx.metrics.wrote("Namespace");
    Ok(true)
}
