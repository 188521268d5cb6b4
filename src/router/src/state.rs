//! All that the threads of one router share, and the one place where a new table comes into force.

use crate::asking::Asking;
use crate::flight::Watch;
use crate::hold::{HeldFor, Hold};
use crate::kept::Budget;
use crate::lease::Lease;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::saved::InForce;
use crate::view::{Compiled, Declared, View, ViewError};
use arc_swap::ArcSwap;
use multiactive_api::UnitAssignmentSpec;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::UnitName;
use multiactive_core::route::{Decision, decide};
use multiactive_core::table::RoutingTable;
use multiactive_core::wire::{Applied, InFlight, RouterReport};
use multiactive_runtime::probes::Readiness;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a router knows and holds.
pub struct State {
    /// Its unit.
    pub unit: UnitName,
    /// Its namespace.
    pub namespace: String,
    /// Its limits.
    pub limits: Limits,
    /// What decisions are made by.
    pub view: ArcSwap<View>,
    /// The requests that wait.
    pub hold: Hold,
    /// The bytes that are kept.
    pub budget: Arc<Budget>,
    /// Those of writes that are served here, and may have to go again.
    pub served_budget: Arc<Budget>,
    /// What it counts.
    pub metrics: Metrics,
    /// What was heard of the unit's write lease.
    pub lease: Lease,
    /// What is asked of the agent.
    pub asking: Asking,
    /// Whether it has a table.
    pub readiness: Readiness,
    /// Who waits for writes in flight to end.
    pub flights: Arc<Watch>,
    /// How many writes wait because a database refused them.
    pub refused: AtomicUsize,
    drain: watch::Sender<Option<Drain>>,
    changed: watch::Sender<Option<Epoch>>,
    in_force: watch::Sender<Option<InForce>>,
    late_at: watch::Sender<Option<Instant>>,
    sources: Mutex<Sources>,
}

/// How a router ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it began to end.
    pub began: Instant,
    /// Until when requests may still be held: those that go on then have time left to be answered.
    pub hold_until: Instant,
}

/// What the view is made of.
#[derive(Default)]
struct Sources {
    assignment: Option<Arc<UnitAssignmentSpec>>,
    declared: Option<Arc<Declared>>,
    table: Option<Arc<RoutingTable>>,
    compiled: Option<Arc<Compiled>>,
    /// What this router routed by before it was started, until something is in force.
    saved: Option<InForce>,
    /// Which of them are the saved ones.
    from_file: FromFile,
    applied: Applied,
    /// Since when the agent is connected.
    connected: Option<Instant>,
}

/// What the API server has not confirmed or replaced since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FromFile {
    assignment: bool,
    table: bool,
}

impl Sources {
    /// Where the two do not fit, the last that did stay in force until the other one follows.
    fn compile(&mut self) -> Result<Option<InForce>, ViewError> {
        let (Some(assignment), Some(declared), Some(table)) = (&self.assignment, &self.declared, &self.table) else {
            return Ok(None);
        };
        let before = self.compiled.as_deref();
        let compiled = Compiled::new(declared.clone(), table, before, Instant::now())?;
        self.compiled = Some(Arc::new(compiled));
        self.saved = None;
        let (assignment, table) = (assignment.clone(), table.clone());
        Ok(Some(InForce { assignment, table }))
    }

    /// What is said of a router that is ready by what it had saved.
    fn remark(&self) -> Option<String> {
        let FromFile { assignment, table } = self.from_file;
        let which = match (assignment, table) {
            (false, false) => return None,
            (true, true) => "UnitAssignment and RoutingTable",
            (true, false) => "UnitAssignment",
            (false, true) => "RoutingTable",
        };
        let epoch = self.table.as_ref().map_or(Epoch::NEVER, |table| table.epoch);
        Some(format!(
            "{which} as saved before the start, table of epoch {epoch}: the API server has given nothing newer yet"
        ))
    }

    /// What a router that is not ready waits for.
    fn missing(&self) -> &'static str {
        match (&self.declared, &self.table) {
            (None, None) => "no UnitAssignment and no RoutingTable yet",
            (None, Some(_)) => "no UnitAssignment yet",
            (Some(_), None) => "no RoutingTable yet",
            (Some(_), Some(_)) => "UnitAssignment and RoutingTable do not fit together yet",
        }
    }
}

impl State {
    /// A router of `unit` without a table.
    pub fn new(unit: UnitName, namespace: String, limits: Limits, metrics: Metrics, readiness: Readiness) -> Arc<Self> {
        Arc::new(Self {
            unit,
            namespace,
            view: ArcSwap::default(),
            hold: Hold::new(limits.hold_requests),
            budget: Budget::new(limits.kept_total),
            served_budget: Budget::new(limits.kept_total),
            limits,
            metrics,
            lease: Lease::default(),
            asking: Asking::default(),
            readiness,
            flights: Arc::default(),
            refused: AtomicUsize::new(0),
            drain: watch::Sender::new(None),
            changed: watch::Sender::new(None),
            in_force: watch::Sender::new(None),
            late_at: watch::Sender::new(None),
            sources: Mutex::default(),
        })
    }

    /// Takes an assignment.
    ///
    /// # Errors
    ///
    /// [`ViewError`] where it cannot be used; the last good one stays.
    pub fn take_assignment(&self, spec: &UnitAssignmentSpec) -> Result<(), ViewError> {
        let mut sources = self.lock();
        self.declare(&mut sources, Arc::new(spec.clone()))?;
        sources.from_file.assignment = false;
        self.settle(&mut sources)
    }

    /// Takes a table.
    ///
    /// # Errors
    ///
    /// [`ViewError`] where it is older than the one in force, or than the one that was before the start; or where it does
    /// not fit the assignment.
    pub fn take_table(&self, table: RoutingTable) -> Result<(), ViewError> {
        let mut sources = self.lock();
        if sources
            .saved
            .as_ref()
            .is_some_and(|saved| table.epoch < saved.table.epoch)
        {
            // The record went back while this router was not there: it goes on, as it would have.
            self.adopt(&mut sources)?;
        }
        if let Some(held) = &sources.table {
            if table.epoch < held.epoch {
                return Err(ViewError::Older {
                    offered: table.epoch,
                    held: held.epoch,
                });
            }
            if table.epoch == held.epoch {
                if std::mem::take(&mut sources.from_file.table) {
                    self.publish(&sources);
                }
                return Ok(());
            }
        }
        sources.table = Some(Arc::new(table));
        sources.from_file.table = false;
        self.settle(&mut sources)
    }

    /// Keeps what was in force before the start for [`Self::use_saved`]; until something is in force, no older table is
    /// taken.
    pub fn remember(&self, saved: InForce) {
        self.lock().saved = Some(saved);
    }

    /// Goes on with what was in force before the start, where something is missing that would be in force now. Says
    /// whether it did.
    ///
    /// # Errors
    ///
    /// [`ViewError`] where what was saved cannot be used any more.
    pub fn use_saved(&self) -> Result<bool, ViewError> {
        let mut sources = self.lock();
        self.adopt(&mut sources)
    }

    fn adopt(&self, sources: &mut Sources) -> Result<bool, ViewError> {
        let Some(saved) = sources.saved.take() else {
            return Ok(false);
        };
        // First: the table is the floor below which none is taken, whatever becomes of the assignment.
        if sources
            .table
            .as_ref()
            .is_none_or(|table| table.epoch < saved.table.epoch)
        {
            sources.table = Some(saved.table);
            sources.from_file.table = true;
        }
        if sources.declared.is_none() {
            self.declare(sources, saved.assignment)?;
            sources.from_file.assignment = true;
        }
        self.settle(sources).map(|()| true)
    }

    fn declare(&self, sources: &mut Sources, spec: Arc<UnitAssignmentSpec>) -> Result<(), ViewError> {
        let before = sources.declared.as_deref();
        let declared = Declared::new(&spec, &self.unit, &self.namespace, before, &self.flights)?;
        sources.declared = Some(Arc::new(declared));
        sources.assignment = Some(spec);
        Ok(())
    }

    /// Compiles what there is, and puts it into force.
    fn settle(&self, sources: &mut Sources) -> Result<(), ViewError> {
        let compiled = sources.compile();
        self.publish(sources);
        if let Some(now) = compiled? {
            self.in_force.send_replace(Some(now));
        }
        Ok(())
    }

    /// Notes that the agent's connection came or went.
    pub fn agent_connected(&self, connected: bool) {
        let mut sources = self.lock();
        sources.connected = connected.then(|| sources.connected.unwrap_or_else(Instant::now));
        self.metrics.agent_connected.set(connected.into());
        self.publish(&sources);
    }

    /// Notes the tables to which the agent brought the stores. A lower one than before says nothing new.
    pub fn agent_applied(&self, said: &Applied) {
        let mut sources = self.lock();
        if sources.applied.raise(said) {
            self.publish(&sources);
        }
    }

    /// The next moment at which the agent becomes late for a span that the unit serves; whoever keeps the connection
    /// to it calls [`Self::agent_is_late`] then.
    pub fn agent_late_at(&self) -> watch::Receiver<Option<Instant>> {
        self.late_at.subscribe()
    }

    /// Releases what need not wait for a late agent any more.
    pub fn agent_is_late(&self) {
        let sources = self.lock();
        self.publish(&sources);
    }

    /// The router begins to end: it is not ready any more, each answer closes its connection, and requests are held for
    /// `hold` at most.
    pub fn begin_drain(&self, hold: Duration) {
        self.readiness.end("draining");
        let began = Instant::now();
        self.drain.send_replace(Some(Drain {
            began,
            hold_until: began + hold,
        }));
    }

    /// Whether and how the router ends.
    pub fn drain(&self) -> watch::Receiver<Option<Drain>> {
        self.drain.subscribe()
    }

    /// Whether and how the router ends, now.
    pub fn drains(&self) -> Option<Drain> {
        *self.drain.borrow()
    }

    /// What is in force, for a restart.
    pub fn in_force(&self) -> watch::Receiver<Option<InForce>> {
        self.in_force.subscribe()
    }

    /// Told with each table that comes into force.
    pub fn changes(&self) -> watch::Receiver<Option<Epoch>> {
        self.changed.subscribe()
    }

    /// What the agent wants to know: the table, and the writes in flight of each operation that holds slots of ours;
    /// and when that becomes less though no write ends.
    pub fn report(&self) -> Option<(RouterReport, Option<Instant>)> {
        let view = self.view.load();
        let compiled = view.compiled.as_ref()?;
        let (now, last_head) = (Instant::now(), self.flights.last_head());
        let mut less_at: Option<Instant> = None;
        let in_flight = compiled.held().iter().map(|operation| {
            let count = operation.count();
            let bodies_until =
                last_head.map_or(operation.since, |head| head.max(operation.since)) + self.limits.body_time;
            let bodies = count.answering > 0 && now < bodies_until;
            if bodies {
                less_at = Some(less_at.map_or(bodies_until, |at| at.min(bodies_until)));
            }
            InFlight {
                operation: operation.uid.clone(),
                writes: count.admitted + if bodies { count.answering } else { 0 },
            }
        });
        let report = RouterReport {
            epoch: compiled.epoch,
            in_flight: in_flight.collect(),
        };
        Some((report, less_at))
    }

    /// Whether a request that waits for this need not wait any longer.
    pub fn is_free(&self, held_for: &HeldFor) -> bool {
        is_free(&self.view.load(), held_for)
    }

    fn publish(&self, sources: &Sources) {
        let (compiled, applied) = (sources.compiled.clone(), sources.applied.clone());
        let patience = self.limits.behind_time;
        let view = Arc::new(View::new(compiled, applied, sources.connected, patience));
        // Before the table, so that no write that ends in between goes untold.
        let held = view
            .compiled
            .as_ref()
            .is_some_and(|compiled| !compiled.held().is_empty());
        self.flights.set_wanted(held);
        self.view.store(view.clone());
        fence(Ordering::SeqCst);
        // Before the release: a moment that passes in between is one of those that are released for, or the next one.
        let late_at = view.next_late(Instant::now());
        self.late_at
            .send_if_modified(|before| std::mem::replace(before, late_at) != late_at);
        self.hold.release(|held_for| is_free(&view, held_for));
        let Some(compiled) = &view.compiled else {
            self.readiness.set_not_ready(sources.missing());
            return;
        };
        self.metrics.table.set(compiled.epoch);
        let epoch = Some(compiled.epoch);
        let new = self
            .changed
            .send_if_modified(|before| std::mem::replace(before, epoch) != epoch);
        if new {
            tracing::info!(epoch = %compiled.epoch, "table in force");
        }
        let remark = sources.remark();
        self.metrics.from_file.set(remark.is_some().into());
        match remark {
            None => self.readiness.set_ready(),
            Some(remark) => self.readiness.set_ready_but(remark),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request that waits need not wait any longer.
fn is_free(view: &View, held_for: &HeldFor) -> bool {
    let Some(compiled) = &view.compiled else {
        return false;
    };
    match held_for {
        HeldFor::Epoch { epoch, .. } => compiled.epoch >= *epoch,
        HeldFor::Slot { keyspace, slot, asked } => {
            let keyspace = compiled.keyspace_named(keyspace);
            // A keyspace that is gone has its answer, too.
            let Some((keyspace, found)) = keyspace.and_then(|place| Some((place, compiled.entry(place, *slot)?)))
            else {
                return true;
            };
            let (unit, agent) = (&compiled.declared.unit, view.agent(keyspace, found));
            match decide(unit, compiled.epoch, found.entry, *asked, agent) {
                Decision::Hold(_) => false,
                Decision::Serve
                | Decision::Forward(_)
                | Decision::Misdirected { .. }
                | Decision::Unowned
                | Decision::TooOld => true,
            }
        }
    }
}
