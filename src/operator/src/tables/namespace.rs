//! The task that owns one namespace's record: observe, decide, record, publish. Status and events are told to another
//! task, so that they never stand between two steps.

use super::assign::assignment;
use super::assignments::{Want, Wanted};
use super::decide::{Decided, Why, decide};
use super::projection::Published;
use super::site::Site;
use super::view::{RecordProblem, Told, View};
use super::{Inputs, recover};
use crate::Context;
use crate::failpoints::hit;
use crate::metrics::CommitLabels;
use crate::promotions::request::Refused;
use crate::status::is_paused;
use crate::units::is_needed;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{ROUTING_TABLE, RoutingTableSpec, Unit};
use multiactive_core::diff::diff;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::table::RoutingTable;
use multiactive_ledger::{Commit, KubernetesLedger, Ledger, ReadError, Recorded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long news is gathered where nobody waits for a step.
const GATHER: Duration = Duration::from_millis(20);
/// How soon a record that could not be read or written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long after the start a member that has not answered yet is waited for before that is told.
const SETTLING: Duration = Duration::from_secs(15);
/// How often one pass may lose the compare-and-swap before it looks at everything anew.
const RACES: u32 = 5;

/// One namespace.
pub struct Namespace {
    ctx: Arc<Context>,
    name: String,
    wake: Arc<Notify>,
    token: CancellationToken,
    ledger: KubernetesLedger,
    record: Option<Recorded>,
    /// The newest table that this process knew, also after the record was deleted.
    last: Option<RoutingTable>,
    published: Option<Published>,
    sites: BTreeMap<String, Site>,
    refused: BTreeMap<OperationUid, Refused>,
    terminating: bool,
    began: Instant,
    view: watch::Sender<Arc<View>>,
    told: mpsc::UnboundedSender<Told>,
}

impl Namespace {
    /// A task that has looked at nothing yet.
    pub fn new(
        ctx: Arc<Context>,
        name: String,
        wake: Arc<Notify>,
        token: CancellationToken,
        view: watch::Sender<Arc<View>>,
        told: mpsc::UnboundedSender<Told>,
    ) -> Self {
        let ledger = KubernetesLedger::new(ctx.client.clone(), crate::apply::FIELD_MANAGER);
        Self {
            ctx,
            name,
            wake,
            token,
            ledger,
            record: None,
            last: None,
            published: None,
            sites: BTreeMap::new(),
            refused: BTreeMap::new(),
            terminating: false,
            began: Instant::now(),
            view,
            told,
        }
    }

    /// Runs until the token is cancelled.
    pub async fn run(mut self) {
        let token = self.token.clone();
        let mut members = self.ctx.members.subscribe();
        loop {
            let Some(pause) = token.run_until_cancelled(self.pass()).await else {
                return;
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = self.wake.notified() => {}
                changed = members.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
            let busy = self
                .record
                .as_ref()
                .is_some_and(|record| !record.table.operations.is_empty());
            if !busy && token.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_none() {
                return;
            }
        }
    }

    /// One pass; how long to wait for news after it.
    async fn pass(&mut self) -> Duration {
        self.refresh_sites();
        let mut problem = self.refresh_record().await.err();
        let mut decided = Decided::default();
        let mut races = 0;
        let paused = self.is_paused();
        while problem.is_none() {
            let inputs = self.inputs();
            let table = self.record.as_ref().map(|record| &record.table);
            let known: BTreeSet<_> = self.refused.keys().cloned().collect();
            decided = decide(table, &inputs, &known, Timestamp::now());
            self.refused.append(&mut decided.refused);
            let Some((table, why)) = decided.table.take().filter(|_| !paused) else {
                break;
            };
            match self.commit(table, why).await {
                Ok(true) => {}
                Ok(false) if races < RACES => {
                    races += 1;
                    problem = self.read_record().await.err();
                }
                Ok(false) => problem = Some(unreachable("other writes keep coming first".to_owned())),
                Err(found) => problem = Some(found),
            }
        }
        let inputs = self.inputs();
        self.terminating = is_terminating(&self.ctx, &self.name, &inputs).await;
        self.assign(&inputs);
        let pause = pause(problem.is_some(), &decided);
        if self.show(inputs, decided, problem) {
            pause
        } else {
            pause.min(SETTLING)
        }
    }

    fn is_paused(&self) -> bool {
        let object = self.ctx.hub.tables.get(&self.name, ROUTING_TABLE);
        object.is_some_and(|object| is_paused(&*object))
    }

    /// One site for each member that a unit lives in, that was reached, and that allows the namespace.
    fn refresh_sites(&mut self) {
        let units = self.ctx.hub.units.of(&self.name);
        let members = self.ctx.members.all();
        let wanted: BTreeMap<_, _> = units
            .iter()
            .filter_map(|unit| members.get(&unit.spec.cluster))
            .filter(|member| member.allows(&self.name))
            .map(|member| (member.name.clone(), Arc::clone(member)))
            .collect();
        self.sites.retain(|name, site| {
            let same = |member: &Arc<crate::members::Member>| member.connection == site.member.connection;
            wanted.get(name).is_some_and(same)
        });
        for (name, member) in wanted {
            if let Some(site) = self.sites.get_mut(&name) {
                site.member = member;
                continue;
            }
            let token = self.token.child_token();
            let site = Site::start(&self.ctx, &self.name, member, Arc::clone(&self.wake), token);
            if let Some(published) = &self.published {
                site.publish(published);
            }
            self.sites.insert(name, site);
        }
    }

    fn inputs(&self) -> Inputs {
        let units = self.ctx.hub.units.of(&self.name);
        let mut reports = BTreeMap::new();
        let mut reachable = BTreeSet::new();
        for unit in units {
            let name = unit.name_any();
            let Some(site) = self.sites.get(&unit.spec.cluster) else {
                continue;
            };
            if site.member.is_ready() {
                reachable.insert(UnitName(name.clone()));
            }
            if let Some(report) = site.reports.get(&self.name, &name) {
                reports.insert(UnitName(name), report);
            }
        }
        Inputs::look(&self.ctx, &self.name, reports, reachable)
    }

    /// Reads the record where it is not known, or where the watch shows that somebody else changed it.
    async fn refresh_record(&mut self) -> Result<(), RecordProblem> {
        let Some(record) = &self.record else {
            return self.read_record().await;
        };
        let number = |text: &str| text.parse::<u64>().ok();
        let ours = number(record.version.as_str());
        let seen = self.ctx.hub.tables.get(&self.name, ROUTING_TABLE);
        let seen = seen.and_then(|object| number(&object.resource_version().unwrap_or_default()));
        match (seen, ours) {
            (Some(seen), Some(ours)) if seen <= ours => Ok(()),
            // Not shown yet after we created it, deleted, or written by another: only the server knows.
            (_, _) => self.read_record().await,
        }
    }

    async fn read_record(&mut self) -> Result<(), RecordProblem> {
        let found = self.ledger.read(&self.name).await.map_err(|error| match error {
            ReadError::Unreachable { message, .. } => unreachable(message),
            ReadError::Damaged { message, .. } => RecordProblem {
                reason: "RecordDamaged",
                message: format!("the RoutingTable cannot be understood, ownership stays as it is: {message}"),
            },
        })?;
        match found {
            Some(found) => self.adopt(found),
            None => self.recover().await,
        }
    }

    fn adopt(&mut self, found: Recorded) -> Result<(), RecordProblem> {
        if let Some(last) = self.last.as_ref().filter(|last| found.table.epoch < last.epoch) {
            return Err(RecordProblem {
                reason: "RecordWentBack",
                message: format!(
                    "the RoutingTable is of epoch {}, but {} was committed: restore the later one, or delete it and it is \
                     put together again from the members",
                    found.table.epoch, last.epoch
                ),
            });
        }
        self.take(found);
        Ok(())
    }

    /// Makes a table ours: remembered and published.
    fn take(&mut self, found: Recorded) {
        if self.last.as_ref() != Some(&found.table) {
            self.publish(&found.table);
            self.last = Some(found.table.clone());
        }
        self.record = Some(found);
    }

    fn publish(&mut self, table: &RoutingTable) {
        match RoutingTableSpec::try_from(table) {
            Ok(spec) => {
                let published = Published {
                    spec: Arc::new(spec),
                    since: Instant::now(),
                };
                self.sites.values().for_each(|site| site.publish(&published));
                self.published = Some(published);
            }
            // What was committed was written the same way, so this cannot be.
            Err(error) => tracing::error!(namespace = self.name, %error, "the table cannot be published"),
        }
    }

    async fn recover(&mut self) -> Result<(), RecordProblem> {
        self.record = None;
        let inputs = self.inputs();
        let found = recover::table(&self.name, &inputs, &self.sites, self.last.as_ref()).await;
        let found = found.map_err(|message| RecordProblem {
            reason: "RecordLost",
            message,
        })?;
        let Some(table) = found else { return Ok(()) };
        tracing::warn!(namespace = self.name, epoch = %table.epoch, "the record was lost, it is put together again");
        match self.ledger.commit(&self.name, None, &table).await {
            Commit::Committed(version) => {
                let version = *version;
                self.take(Recorded { table, version });
                Ok(())
            }
            Commit::Conflict => Err(unreachable("another write of the lost record came first".to_owned())),
            Commit::Refused(message) | Commit::Unknown(message) => Err(unreachable(message)),
        }
    }

    /// Commits and publishes; whether it counted.
    async fn commit(&mut self, table: RoutingTable, why: Why) -> Result<bool, RecordProblem> {
        let (before, after) = match why {
            Why::Admit => ("admit-before-commit", "admit-after-commit"),
            Why::Step | Why::Ownership => ("step-before-commit", "step-after-commit"),
        };
        hit(before);
        let expected = self.record.as_ref().map(|record| &record.version);
        let start = Instant::now();
        let commit = self.ledger.commit(&self.name, expected, &table).await;
        let outcome = match &commit {
            Commit::Committed(_) => "committed",
            Commit::Conflict => "conflict",
            Commit::Refused(_) => "refused",
            Commit::Unknown(_) => "unknown",
        };
        self.ctx.metrics.commits.get_or_create(&CommitLabels { outcome }).inc();
        tracing::debug!(namespace = self.name, epoch = %table.epoch, outcome, took = ?start.elapsed(), "commit");
        match commit {
            Commit::Committed(version) => {
                hit(after);
                let old = self.record.take().map(|record| record.table).unwrap_or_default();
                let version = *version;
                self.take(Recorded {
                    table: table.clone(),
                    version,
                });
                // Published first: what follows costs time.
                let told = Told {
                    changes: diff(&old, &table),
                    table: Arc::new(table),
                };
                for change in &told.changes {
                    tracing::info!(namespace = self.name, epoch = %told.table.epoch, "{change}");
                }
                // The listener ends with us.
                let _ = self.told.send(told);
                Ok(true)
            }
            Commit::Conflict => Ok(false),
            Commit::Unknown(message) => {
                tracing::warn!(
                    namespace = self.name,
                    message,
                    "the outcome of a commit is not known, reading again"
                );
                Ok(false)
            }
            Commit::Refused(message) => Err(RecordProblem {
                reason: "RecordRefused",
                message: format!("the RoutingTable was not written: {message}"),
            }),
        }
    }

    fn assign(&mut self, inputs: &Inputs) {
        let Some(record) = &self.record else { return };
        for (name, site) in &self.sites {
            let mut wanted = Wanted::new();
            for unit in inputs.units.iter().filter(|unit| unit.spec.cluster == *name) {
                if let Some(want) = want(unit, inputs, &record.table, self.terminating) {
                    wanted.insert(unit.name_any(), want);
                }
            }
            site.assign(wanted);
        }
    }

    /// Whether every member had the time to say what it holds.
    fn is_settled(&self, inputs: &Inputs) -> bool {
        let members = &self.ctx.hub.members;
        let said = |unit: &Arc<Unit>| {
            let cluster = &unit.spec.cluster;
            match self.sites.get(cluster) {
                Some(site) => site.reports.is_ready(),
                None => self.ctx.members.get(cluster).is_some() || members.get("", cluster).is_none(),
            }
        };
        self.began.elapsed() >= SETTLING || inputs.units.iter().all(said)
    }

    /// Shows what the pass came to; whether that is settled.
    fn show(&mut self, inputs: Inputs, decided: Decided, record_problem: Option<RecordProblem>) -> bool {
        let settled = self.is_settled(&inputs);
        // A refusal is kept until the object says it itself.
        self.refused.retain(|uid, _| {
            let object = inputs
                .promotions
                .iter()
                .find(|p| p.uid().as_deref() == Some(uid.as_str()));
            object.is_some_and(|p| p.status.as_ref().is_none_or(|status| status.outcome.is_none()))
        });
        let mut unassigned = BTreeSet::new();
        let mut unusable_members = BTreeMap::new();
        for unit in &inputs.units {
            let (name, cluster) = (unit.name_any(), &unit.spec.cluster);
            match self.sites.get(cluster) {
                Some(site) if site.reports.is_ready() && site.reports.get(&self.name, &name).is_none() => {
                    unassigned.insert(name);
                }
                Some(_) => {}
                None => {
                    let why = match self.ctx.members.get(cluster) {
                        Some(_) => format!(
                            "MemberCluster {cluster} does not list {} in allowedNamespaces",
                            self.name
                        ),
                        None if self.ctx.hub.members.get("", cluster).is_some() => {
                            format!("MemberCluster {cluster} has not been reached yet")
                        }
                        None => format!("there is no MemberCluster {cluster}"),
                    };
                    unusable_members.insert(cluster.clone(), why);
                }
            }
        }
        self.view.send_replace(Arc::new(View {
            table: self.record.as_ref().map(|record| Arc::new(record.table.clone())),
            waits: decided.waits,
            refused: self.refused.clone(),
            misfits: decided.misfits,
            problems: decided.problems,
            record_problem,
            unassigned,
            unusable_members,
            terminating: self.terminating,
            settled,
            inputs,
        }));
        settled
    }
}

/// What shall become of a unit's assignment.
fn want(unit: &Unit, inputs: &Inputs, table: &RoutingTable, terminating: bool) -> Option<Want> {
    if is_paused(unit) {
        return None;
    }
    let leaving = unit.metadata.deletion_timestamp.is_some() && !is_needed(&unit.name_any().into(), table);
    if leaving {
        // A namespace that is being deleted takes nothing with it in the members.
        return (!terminating).then_some(Want::Gone);
    }
    Some(Want::Be(Box::new(assignment(unit, inputs, table))))
}

fn unreachable(message: String) -> RecordProblem {
    RecordProblem {
        reason: "RecordUnreachable",
        message,
    }
}

/// Until the next budget runs out, or long: everything else wakes us.
fn pause(problem: bool, decided: &Decided) -> Duration {
    if problem {
        return AGAIN;
    }
    let left = decided.wake_at.map(|at| Timestamp::now().duration_until(at));
    // A moment later than the deadline: the step machine counts it as over at the deadline itself.
    let left = left.map(|left| Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1));
    left.unwrap_or(Duration::from_secs(3600))
}

/// Asked only while a Unit is being deleted.
async fn is_terminating(ctx: &Context, namespace: &str, inputs: &Inputs) -> bool {
    if !inputs
        .units
        .iter()
        .any(|unit| unit.metadata.deletion_timestamp.is_some())
    {
        return false;
    }
    let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(ctx.client.clone());
    match crate::apply::read(&api, namespace).await {
        Ok(found) => found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        // Nothing is deleted because a read failed.
        Err(_) => true,
    }
}
