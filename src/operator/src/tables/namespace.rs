//! The task that owns one namespace's record: observe, decide, record, publish. Status and events are told to another
//! task, so that they never stand between two steps.
//!
//! One pass is here; the record's reads and writes are in `record`, the members in `sites`, the result in `show`.

use super::Wake;
use super::decide::{Decided, Memory, decide};
use super::gone::Gone;
use super::homes::HomesOf;
use super::hooks::Hooks;
use super::lasting::{Lasting, SteadyClock};
use super::leases::Leases;
use super::projection::Published;
use super::record::{Hindrance, Wrote};
use super::refusals::Refusals;
use super::site::Site;
use super::terminating::Terminating;
use super::view::{Told, View};
use crate::Context;
use crate::members::MemberMap;
use crate::promotions::request::Refused;
use crate::status::is_paused;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::ROUTING_TABLE;
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::Placement;
use multiactive_core::table::RoutingTable;
use multiactive_ledger::{KubernetesLedger, Recorded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long news is gathered where nobody waits for a step, at least,
const GATHER: Duration = Duration::from_millis(20);
/// and at most, or where nobody waits for the news either.
const CALM: Duration = Duration::from_millis(500);
/// As that, while an operation runs: it may wait for what they say.
const CALM_AND_BUSY: Duration = Duration::from_millis(100);
/// How soon a record that could not be read or written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long after the start a member that has not answered yet is waited for before that is told.
pub(super) const SETTLING: Duration = Duration::from_secs(15);
/// How often one pass may lose the compare-and-swap before it looks at everything anew.
const RACES: u32 = 5;

/// One namespace.
pub struct Namespace {
    pub(super) ctx: Arc<Context>,
    pub(super) name: String,
    pub(super) wake: Arc<Notify>,
    later: Arc<Notify>,
    pub(super) token: CancellationToken,
    pub(super) ledger: KubernetesLedger,
    pub(super) record: Option<Recorded>,
    /// The newest table that this process knew, also after the record was deleted.
    pub(super) last: Option<RoutingTable>,
    /// The table of a commit whose outcome is not known.
    pub(super) attempted: Option<RoutingTable>,
    pub(super) published: Option<Published>,
    /// The members as this pass sees them.
    pub(super) members: Arc<MemberMap>,
    /// The members' sites that are worked with.
    pub(super) sites: BTreeMap<String, Site>,
    /// Sites over new connections, which take the old one's place once they know as much.
    pub(super) coming: BTreeMap<String, Site>,
    /// What was compiled for the last look.
    pub(super) homes: HomesOf,
    pub(super) refused: BTreeMap<OperationUid, Refused>,
    /// Who takes over what of a lost unit, by the uid of the Failover, until its status says it.
    pub(super) placements: BTreeMap<OperationUid, Placement>,
    pub(super) refusals: Refusals,
    pub(super) terminating: Terminating,
    pub(super) gone: Gone,
    pub(super) lasting: Lasting,
    leases: Leases,
    hooks: Hooks,
    clock: SteadyClock,
    pub(super) began: Instant,
    pub(super) view: watch::Sender<Option<Arc<View>>>,
    pub(super) told: mpsc::UnboundedSender<Told>,
}

/// Where a namespace tells what it found and did.
#[derive(Clone)]
pub struct Mouth {
    /// What the latest pass came to; `None` before the first.
    pub view: watch::Sender<Option<Arc<View>>>,
    /// Every commit.
    pub told: mpsc::UnboundedSender<Told>,
}

impl Namespace {
    /// A task that has looked at nothing yet.
    pub(crate) fn new(ctx: Arc<Context>, name: String, wake: Wake, token: CancellationToken, mouth: Mouth) -> Self {
        let ledger = KubernetesLedger::new(ctx.client.clone(), crate::apply::FIELD_MANAGER);
        Self {
            ctx,
            name,
            wake: wake.now,
            later: wake.later,
            token,
            ledger,
            record: None,
            last: None,
            attempted: None,
            published: None,
            members: Arc::default(),
            sites: BTreeMap::new(),
            coming: BTreeMap::new(),
            homes: HomesOf::default(),
            refused: BTreeMap::new(),
            placements: BTreeMap::new(),
            refusals: Refusals::default(),
            terminating: Terminating::default(),
            gone: Gone::default(),
            lasting: Lasting::default(),
            leases: Leases::default(),
            hooks: Hooks::default(),
            clock: SteadyClock::default(),
            began: Instant::now(),
            view: mouth.view,
            told: mouth.told,
        }
    }

    /// Runs until the token is cancelled.
    pub async fn run(mut self) {
        let token = self.token.clone();
        let mut members = self.ctx.members.subscribe();
        loop {
            let began = Instant::now();
            let Some(pause) = token.run_until_cancelled(self.pass()).await else {
                return;
            };
            let took = began.elapsed();
            let can_wait = tokio::select! {
                () = token.cancelled() => return,
                () = self.wake.notified() => false,
                () = self.later.notified() => true,
                changed = members.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                () = tokio::time::sleep(pause) => false,
            };
            let mut operations = self.record.iter().map(|record| &record.table.operations);
            let busy = operations.any(|operations| !operations.is_empty());
            tokio::select! {
                () = token.cancelled() => return,
                () = self.wake.notified(), if can_wait => {}
                () = tokio::time::sleep(gather(can_wait, busy, took)) => {}
            }
        }
    }

    /// One pass; how long to wait for news after it.
    async fn pass(&mut self) -> Duration {
        self.refresh_sites();
        let mut hindrance = self.refresh_record().await.err();
        let mut decided = Decided::default();
        let mut races = 0;
        let paused = self.is_paused();
        while hindrance.is_none() {
            let inputs = self.look();
            let table = self.record.as_ref().map(|record| &record.table);
            let memory = Memory {
                refused: &self.refused,
                refusals: &self.refusals,
                lasting: &self.lasting,
            };
            decided = decide(table, &inputs, memory, Timestamp::now());
            self.refused.append(&mut decided.refused);
            self.placements.append(&mut decided.placements);
            decided.wake(self.lasting.wake_at(Timestamp::now()));
            let Some(proposal) = decided.proposal.take().filter(|_| !paused) else {
                break;
            };
            match self.commit(proposal).await {
                Ok(Wrote::Counted | Wrote::Refused) => {}
                Ok(Wrote::Not) if races < RACES => {
                    races += 1;
                    hindrance = self.read_record().await.err();
                }
                Ok(Wrote::Not) => hindrance = Some(Hindrance::unreachable("other writes keep coming first".to_owned())),
                Err(found) => hindrance = Some(found),
            }
        }
        let inputs = self.look();
        let terminating = self.is_terminating(&inputs);
        self.assign(&inputs, terminating);
        if hindrance.is_none() {
            self.ask_hooks(&inputs, &decided, paused);
        }
        let pause = pause(hindrance.is_some(), &decided).min(self.leases_in());
        let unsettled = self.unsettled(&inputs);
        let settles = if unsettled.is_empty() { None } else { self.settles_in() };
        self.show(inputs, decided, hindrance, unsettled, terminating == Some(true));
        settles.map_or(pause, |settles| settles.min(pause))
    }

    /// The inputs of now, with what only looks in a row and the server tell.
    fn look(&mut self) -> super::Inputs {
        let mut inputs = self.inputs();
        let table = self.record.as_ref().map(|record| &record.table);
        let operations = table.into_iter().flat_map(|table| &table.operations);
        let missing = operations.filter(|op| !inputs.shows_object(op));
        let missing = missing.map(|op| (op.object(), (op.kind, op.name.clone()))).collect();
        inputs.gone = self.gone.look(&self.ctx.client, &self.name, &missing, &self.wake);
        inputs.settling = self.settles_in().is_some();
        let leases = table.map(|table| self.leases.look((&self.ctx, &self.name), table, &inputs, &self.wake));
        inputs.leases = leases.unwrap_or_default();
        inputs.fencing = self.leases.fencing((&self.ctx, &self.name), &inputs);
        inputs.lease_troubles = self.leases.troubles();
        inputs.hooks = table.map(|table| self.hooks.seen(table, &inputs)).unwrap_or_default();
        self.lasting.look(table, &mut inputs, self.clock.now());
        inputs
    }

    /// What operations wait for is asked by whoever may record the answer: who is paused asks nobody.
    fn ask_hooks(&mut self, inputs: &super::Inputs, decided: &Decided, paused: bool) {
        let Some(record) = self.record.as_ref().filter(|_| !paused) else {
            self.hooks = Hooks::default();
            return;
        };
        let what = (&*self.ctx, &record.table, inputs);
        self.hooks.ask(what, &decided.waits, &self.wake);
    }

    pub(super) fn is_paused(&self) -> bool {
        let object = self.ctx.hub.tables.get(&self.name, ROUTING_TABLE);
        object.is_some_and(|object| is_paused(&*object))
    }

    fn is_terminating(&mut self, inputs: &super::Inputs) -> Option<bool> {
        let leaving = inputs
            .units
            .iter()
            .filter(|unit| unit.metadata.deletion_timestamp.is_some());
        let leaving = leaving.filter_map(|unit| unit.uid()).collect();
        self.terminating.look(&self.ctx.client, &self.name, leaving, &self.wake)
    }

    /// Until leases are looked at again: the end of those of lost units, and who is known to stop without his, are a matter of
    /// time, by a clock that decides nothing else.
    fn leases_in(&self) -> Duration {
        let operations = self.record.iter().flat_map(|record| &record.table.operations);
        let mut fencing = operations.filter(|op| op.failover.is_some() && op.step.may_abort());
        let again = fencing.next().map_or(Duration::MAX, |_| AGAIN);
        let table = self.record.as_ref().map(|record| &record.table);
        let notes = table.and_then(|table| self.leases.notes_in((&self.ctx, &self.name), table));
        // A moment later than that: it counts as lasting at the end itself.
        notes.map_or(again, |notes| (notes + Duration::from_millis(1)).min(again))
    }

    /// Until members that have not answered count as silent; `None` where that time is over.
    pub(super) fn settles_in(&self) -> Option<Duration> {
        let left = SETTLING.saturating_sub(self.began.elapsed());
        (!left.is_zero()).then_some(left)
    }
}

/// How long news is gathered before the next pass, where the last one `took` so long.
fn gather(can_wait: bool, busy: bool, took: Duration) -> Duration {
    match (can_wait, busy) {
        (true, true) => CALM_AND_BUSY,
        (true, false) => CALM,
        (false, true) => Duration::ZERO,
        // Thousands of objects that come one by one are no thousand looks at all of them.
        (false, false) => (took * 4).clamp(GATHER, CALM),
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
