//! What one pass came to, put together for those who write statuses.

use super::Inputs;
use super::decide::Decided;
use super::namespace::Namespace;
use super::record::{Hindrance, not_written};
use super::view::{RecordProblem, View};
use kube::ResourceExt;
use multiactive_api::MemberCluster;
use multiactive_core::ids::{OperationUid, UnitName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why a member is not among those that can be worked with.
fn not_reached(object: &MemberCluster) -> String {
    let name = object.name_any();
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let mut unready = conditions.filter(|c| c.type_ == multiactive_api::READY && c.status == "False");
    match unready.next() {
        Some(why) => format!("MemberCluster {name}: {}: {}", why.reason, why.message),
        None => format!("MemberCluster {name} has not been reached yet"),
    }
}

impl Namespace {
    pub(super) fn show(
        &mut self,
        inputs: Inputs,
        decided: Decided,
        hindrance: Option<Hindrance>,
        unsettled: BTreeSet<UnitName>,
        terminating: bool,
    ) {
        self.forget(&inputs);
        let record_problem = match hindrance {
            Some(Hindrance::Problem(problem)) => Some(problem),
            Some(Hindrance::Asking) | None => decided.ownership_refused.map(|why| RecordProblem {
                reason: "RecordRefused",
                message: not_written(&why),
            }),
        };
        let sites = self.sites.iter().chain(&self.coming);
        let view = View {
            table: self.record.as_ref().map(|record| Arc::new(record.table.clone())),
            waits: decided.waits,
            refused: self.refused.clone(),
            placements: self.placements.clone(),
            misfits: decided.misfits,
            problems: decided.problems,
            record_problem,
            unassigned: self.unassigned(&inputs),
            unusable_members: self.unusable_members(&inputs),
            site_problems: sites.map(|(name, site)| (name.clone(), site.problems())).collect(),
            terminating,
            table_paused: self.is_paused(),
            unsettled,
            inputs,
        };
        self.view.send_replace(Some(Arc::new(view)));
    }

    /// A refusal is kept until the object says it itself.
    fn forget(&mut self, inputs: &Inputs) {
        let pending = |uid: &OperationUid| {
            let mut promotions = inputs.promotions.iter();
            let object = promotions.find(|p| p.uid().as_deref() == Some(uid.as_str()));
            let mut failovers = inputs.failovers.iter();
            let failover = failovers.find(|p| p.uid().as_deref() == Some(uid.as_str()));
            object.is_some_and(|p| p.status.as_ref().is_none_or(|status| status.outcome.is_none()))
                || failover.is_some_and(|p| p.status.as_ref().is_none_or(|status| status.outcome.is_none()))
        };
        self.refused.retain(|uid, _| pending(uid));
        self.placements.retain(|uid, _| pending(uid));
        let table = self.record.as_ref().map(|record| &record.table);
        let runs = |uid: &OperationUid| table.is_some_and(|table| table.operation(uid).is_some());
        self.refusals.retain(|uid| runs(uid) || pending(uid));
    }

    /// Units whose member says that it holds no assignment for them.
    fn unassigned(&self, inputs: &Inputs) -> BTreeSet<String> {
        let gone = |name: &String, cluster: &String| {
            let site = self.sites.get(cluster);
            site.is_some_and(|site| site.has_listed() && site.reports.get(&self.name, name).is_none())
        };
        let units = inputs.units.iter().map(|unit| (unit.name_any(), &unit.spec.cluster));
        units
            .filter(|(name, cluster)| gone(name, cluster))
            .map(|(name, _)| name)
            .collect()
    }

    /// Members that a unit names and that cannot be worked with: why.
    fn unusable_members(&self, inputs: &Inputs) -> BTreeMap<String, String> {
        let clusters: BTreeSet<_> = inputs.units.iter().map(|unit| &unit.spec.cluster).collect();
        let unusable = clusters
            .into_iter()
            .filter(|cluster| !self.sites.contains_key(*cluster));
        let why = |cluster: &String| match self.members.get(cluster) {
            Some(_) => format!(
                "MemberCluster {cluster} does not list {} in allowedNamespaces",
                self.name
            ),
            None => match self.ctx.hub.members.get("", cluster) {
                Some(object) => not_reached(&object),
                None => format!("there is no MemberCluster {cluster}"),
            },
        };
        unusable.map(|cluster| (cluster.clone(), why(cluster))).collect()
    }
}
