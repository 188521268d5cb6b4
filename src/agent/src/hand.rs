//! The hand of one unit: hears of assignment, table and Secrets, tells each store what is wished, tells the routers what
//! was applied, and says in the status what is.

use crate::agent::Shared;
use crate::credentials::credentials;
use crate::facts::{self, Board, Problem, Stores};
use crate::inputs::{SecretSeen, Secrets, table_watch};
use crate::lease;
use crate::lost;
use crate::plan::{self, Duty};
use crate::report::{self, Known};
use crate::routers::{Registry, UnitKey, UnitRouters, watch_pods, watch_running};
use crate::store::{self, Wish};
use crate::{failpoints::hit, publish};
use jiff::Timestamp;
use multiactive_api::{UnitAssignment, UnitAssignmentStatus};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, StoreName};
use multiactive_core::promotion::Step;
use multiactive_core::quarantine;
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

/// For how long a new hand says nothing while its stores are not settled: the last agent's words may still be true.
const GRACE: Duration = Duration::from_secs(3);

/// A store that is in hand.
struct StoreTask {
    wish: watch::Sender<Wish>,
    token: CancellationToken,
}

/// What the hand holds while it runs.
struct Hand {
    key: UnitKey,
    shared: Shared,
    assignment: watch::Receiver<Arc<UnitAssignment>>,
    table: watch::Receiver<Option<Arc<RoutingTable>>>,
    secrets: Secrets,
    board: watch::Sender<Stores>,
    tasks: BTreeMap<StoreName, StoreTask>,
    tracker: TaskTracker,
    routers: UnitRouters,
    duties: Vec<Duty>,
    /// The unit's write lease.
    lease: lease::Board,
    /// The stores that were in hand at the last look, and the server of each.
    in_hand: BTreeMap<StoreName, Option<String>>,
    /// Operations whose Hold of this epoch found no write under way at this unit's routers. A router that goes away
    /// afterwards changes nothing: the fence is under way.
    quiet: BTreeSet<(OperationUid, Epoch)>,
    /// The stores as they were when events were published last.
    told: Stores,
    status: watch::Sender<Option<publish::Wanted>>,
    last: UnitAssignmentStatus,
    speaks: bool,
    token: CancellationToken,
}

/// Keeps a unit in hand until `token` is cancelled; then the verbs under way are finished.
pub async fn run(
    key: UnitKey,
    shared: Shared,
    mut assignment: watch::Receiver<Arc<UnitAssignment>>,
    token: CancellationToken,
) {
    let before = assignment.borrow_and_update().status.clone();
    let routers = shared.routers.unit(&key);
    routers.restore(known_routers(before.as_ref()));
    let status = watch::Sender::new(None);
    let publisher = publish::publish(
        shared.requests.clone(),
        key.clone(),
        status.subscribe(),
        before.clone(),
        shared.metrics.clone(),
    );
    let (table, watching) = table_watch(&shared.watches, &key.namespace);
    // They end with the hand.
    let _side_tasks = [
        AbortOnDropHandle::new(tokio::spawn(publisher.in_current_span())),
        AbortOnDropHandle::new(tokio::spawn(watching.in_current_span())),
        AbortOnDropHandle::new(tokio::spawn(
            watch_pods(shared.requests.clone(), key.clone(), routers.clone()).in_current_span(),
        )),
        AbortOnDropHandle::new(tokio::spawn(
            watch_running(shared.watches.clone(), key.clone(), routers.clone()).in_current_span(),
        )),
    ];
    let secrets = Secrets::new(shared.watches.clone(), &key.namespace);
    let hand = Hand {
        lease: shared.leases.unit(&key),
        in_hand: BTreeMap::new(),
        key,
        shared,
        assignment,
        table,
        secrets,
        board: watch::Sender::default(),
        tasks: BTreeMap::new(),
        tracker: TaskTracker::new(),
        routers,
        duties: Vec::new(),
        quiet: BTreeSet::new(),
        told: Stores::new(),
        status,
        last: before.unwrap_or_default(),
        speaks: false,
        token,
    };
    hand.run().await;
}

/// The routers that the last agent reported.
fn known_routers(status: Option<&UnitAssignmentStatus>) -> Vec<(String, Option<Epoch>)> {
    let routers = status.map(|status| status.routers.as_slice()).unwrap_or_default();
    let known = routers
        .iter()
        .map(|router| (router.name.clone(), router.table.as_ref().and_then(epoch_of)));
    known.collect()
}

/// What the last status says of a store that must outlive its database, and what was found for a Verification or an operation that
/// compares rows.
fn remembered(status: &UnitAssignmentStatus, name: &StoreName) -> facts::StoreFacts {
    let known = status.stores.iter().find(|known| known.name == name.as_str());
    let verification = status.verification.as_ref().map(|said| {
        let of_store = said.pairs.iter().filter(|pair| pair.store == name.as_str());
        facts::VerificationFact {
            uid: said.uid.clone(),
            pairs: of_store.map(|pair| pair.found.clone()).collect(),
        }
    });
    let answers = status.operations.iter().filter_map(|said| {
        let of_store = said.comparing.iter().filter(|pair| pair.store == name.as_str());
        let comparing: Vec<_> = of_store.map(|pair| pair.found.clone()).collect();
        let answer = facts::Answer {
            comparing,
            ..facts::Answer::default()
        };
        (!answer.comparing.is_empty()).then(|| (said.uid.as_str().into(), answer))
    });
    facts::StoreFacts {
        answers: answers.collect(),
        incarnation: known.and_then(|known| known.incarnation.clone()),
        seen: known.and_then(|known| epoch_of(known.seen.as_ref()?)),
        verification,
        ..facts::StoreFacts::default()
    }
}

fn epoch_of(table: &multiactive_api::AppliedTable) -> Option<Epoch> {
    let term = u32::try_from(table.term).ok()?;
    Some(Epoch::new(term, u64::try_from(table.epoch).ok()?))
}

/// The stores that are in hand, and the server of each.
fn in_hand(stores: &Stores) -> BTreeMap<StoreName, Option<String>> {
    let ready = stores.iter().filter(|(_, facts)| facts.is_ready());
    ready
        .map(|(name, facts)| (name.clone(), facts.server.clone()))
        .collect()
}

impl Hand {
    async fn run(mut self) {
        tracing::info!("taken in hand");
        let mut board = self.board.subscribe();
        let mut routers = self.routers.subscribe();
        let mut secrets = self.secrets.subscribe();
        let mut lease = self.lease.subscribe();
        let speak_at = Instant::now() + GRACE;
        self.wish();
        self.tell(&routers.borrow_and_update().clone());
        loop {
            let wishes = tokio::select! {
                () = self.token.cancelled() => break,
                // The senders live as long as this hand; the supervisor's only ends with the token.
                Ok(()) = self.assignment.changed() => true,
                Ok(()) = self.table.changed() => true,
                Ok(()) = secrets.changed() => true,
                Ok(()) = lease.changed() => true,
                Ok(()) = board.changed() => false,
                Ok(()) = routers.changed() => self.hush(),
                () = tokio::time::sleep_until(speak_at), if !self.speaks => {
                    self.speaks = true;
                    false
                }
            };
            if wishes {
                self.wish();
            }
            board.mark_unchanged();
            let seen = routers.borrow_and_update().clone();
            self.tell(&seen);
        }
        for task in self.tasks.values() {
            task.token.cancel();
        }
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Works out what is wished of every store, and which stores there are.
    fn wish(&mut self) {
        let assignment = self.assignment.borrow_and_update().clone();
        let table = self.table.borrow_and_update().clone();
        let spec = &assignment.spec;
        let names = spec.stores.iter().map(|store| store.local.credentials.clone());
        self.secrets.want(names.collect());
        let stores: Vec<_> = spec
            .stores
            .iter()
            .map(|store| {
                (
                    StoreName::from(store.name.as_str()),
                    KeyspaceName::from(store.keyspace.as_str()),
                )
            })
            .collect();
        let unit = self.key.unit.as_str().into();
        self.hush();
        let quiet = |uid: &OperationUid, epoch| self.quiet.contains(&(uid.clone(), epoch));
        self.duties = table
            .as_ref()
            .map(|table| plan::duties(table, &unit, &stores, quiet))
            .unwrap_or_default();
        self.prune(&stores);
        for store in &spec.stores {
            let name = StoreName::from(store.name.as_str());
            let secret = &store.local.credentials;
            let peers = store.peers.iter().map(|peer| peer.unit.as_str());
            let target = match self.secrets.get(secret) {
                // Not heard of yet: a store in hand goes on as it is, a new one waits.
                SecretSeen::Unknown => match self.tasks.get(&name) {
                    Some(task) => task.wish.borrow().target.clone(),
                    None => continue,
                },
                SecretSeen::Known(found) => credentials(secret, found.as_ref().as_ref(), peers, store.tls.is_some())
                    .map_err(|error| Problem::new(error.reason(), error.to_string()))
                    .and_then(|logins| store::target(&self.key.namespace, spec, store, &logins))
                    .map(Arc::new),
            };
            let wish = Wish {
                granted: self.lease.subscribe().borrow().granted.unwrap_or(Epoch::NEVER),
                target,
                table: table.clone(),
                asked: store::asked(&self.duties, &name),
                verification: table.as_deref().and_then(|table| store::question(spec, &name, table)),
            };
            self.wish_of(name, wish);
        }
    }

    /// Notes for which operations the routers have no write under way now; whether there is a new one.
    fn hush(&mut self) -> bool {
        let table = self.table.borrow().clone();
        let operations = table.iter().flat_map(|table| &table.operations);
        let holding: BTreeSet<_> = operations
            .filter(|op| op.step == Step::Hold)
            .map(|op| (op.uid.clone(), op.epoch))
            .collect();
        self.quiet.retain(|known| holding.contains(known));
        let before = self.quiet.len();
        let routers = self.routers.subscribe();
        let registry = routers.borrow();
        let silent = holding
            .into_iter()
            .filter(|(uid, epoch)| registry.in_flight(uid, *epoch) == Some(0));
        self.quiet.extend(silent);
        self.quiet.len() > before
    }

    fn wish_of(&mut self, name: StoreName, wish: Wish) {
        if let Some(task) = self.tasks.get(&name) {
            task.wish.send_if_modified(|now| {
                let changed = *now != wish;
                if changed {
                    *now = wish;
                }
                changed
            });
            return;
        }
        let (wish, wished) = watch::channel(wish);
        let token = CancellationToken::new();
        let board = Board::new(name.clone(), self.board.clone());
        self.tracker
            .spawn(store::run(wished, board, self.shared.metrics.clone(), token.clone()).in_current_span());
        self.tasks.insert(name, StoreTask { wish, token });
    }

    /// Forgets stores that are not assigned any more, and answers to operations that have ended.
    fn prune(&mut self, assigned: &[(StoreName, KeyspaceName)]) {
        let is_assigned = |name: &StoreName| assigned.iter().any(|(known, _)| known == name);
        self.tasks.retain(|name, task| {
            let stays = is_assigned(name);
            if !stays {
                tracing::info!(store = %name, "not assigned any more, left as it is");
                task.token.cancel();
            }
            stays
        });
        let (duties, last) = (&self.duties, &self.last);
        self.board.send_if_modified(|stores| {
            let before = stores.clone();
            stores.retain(|name, _| is_assigned(name));
            for (name, keyspace) in assigned {
                let facts = stores.entry(name.clone()).or_insert_with(|| remembered(last, name));
                facts.shared = keyspace.is_shared();
                facts
                    .answers
                    .retain(|uid, _| duties.iter().any(|duty| duty.operation == *uid));
            }
            *stores != before
        });
    }

    /// Says what is: to the routers first, then in the status and by events.
    fn tell(&mut self, routers: &Registry) {
        let stores = self.board.borrow().clone();
        // A database that has come into hand, or has begun anew, has no lease yet.
        let in_hand = in_hand(&stores);
        if in_hand
            .iter()
            .any(|(name, server)| self.in_hand.get(name) != Some(server))
        {
            self.lease.nudge();
        }
        self.in_hand = in_hand;
        let (stores, lease) = {
            let lease = self.lease.subscribe();
            let lease = lease.borrow();
            (lease.admitting(&stores), lease.report())
        };
        let newest = self.table.borrow().clone();
        let table = newest.as_ref().map(|table| table.epoch);
        let unit = self.key.unit.as_str().into();
        let assignment = self.assignment.borrow().clone();
        if self
            .routers
            .applied(&facts::applied_by_keyspace(&stores, &assignment.spec, table))
        {
            hit("told-routers");
        }
        self.shared.events.changes(&assignment, &self.told, &stores);
        self.told.clone_from(&stores);
        let known = Known {
            generation: assignment.metadata.generation,
            table,
            stores: &stores,
            duties: &self.duties,
            routers,
            lease: lease.as_ref(),
            quarantined: newest.as_deref().and_then(|table| quarantine::of(table, &unit)),
            verification: assignment.spec.verification.as_ref(),
            behind: &newest
                .as_deref()
                .map(|table| lost::was_behind(table, &unit))
                .unwrap_or_default(),
        };
        let status = report::status(known, &self.last.conditions, Timestamp::now());
        self.speaks |= table.is_some() && stores.values().all(facts::StoreFacts::is_settled);
        if self.speaks {
            self.shared.metrics.unit(&self.key, &status);
            self.last.clone_from(&status);
            let wanted = publish::Wanted {
                status,
                haste: self.table.borrow().as_deref().is_some_and(plan::in_haste),
                opens: self.duties.iter().any(Duty::opens),
            };
            self.status.send_if_modified(|now| {
                let changed = now.as_ref() != Some(&wanted);
                if changed {
                    *now = Some(wanted);
                }
                changed
            });
        }
    }
}
