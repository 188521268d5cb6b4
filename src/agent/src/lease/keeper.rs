//! Keeps the write lease of one unit: reads the databases' clocks, renews in the ledger, tells the databases. In that order,
//! so that whatever comes late lengthens nothing.

use super::hub::Hub;
use super::stores::{Databases, positions};
use super::{Board, Known, Shared};
use crate::credentials::credentials;
use crate::inputs::{SecretSeen, Secrets};
use crate::routers::UnitKey;
use crate::store;
use jiff::SignedDuration;
use multiactive_api::UnitAssignment;
use multiactive_api::convert::lease_terms;
use multiactive_core::ids::{StoreName, UnitName};
use multiactive_core::lease::{Heard, Lengths, Memory, Mode, NotRenewed, Terms};
use multiactive_ledger::{Commit, HeldLease, KubernetesLeases, LeaseLedger};
use multiactive_runtime::clock::boottime;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How soon a database that did not take the lease is told again.
const AGAIN: Duration = Duration::from_secs(1);

/// The lease of one unit.
struct Keeper {
    key: UnitKey,
    unit: UnitName,
    shared: Shared,
    board: Board,
    memory: Memory,
    databases: Databases,
    /// The lease as it was read or written last.
    held: Option<HeldLease>,
    /// Whether this replica wrote it so.
    own: bool,
    /// The last renewal that this replica wrote: how many there were with it, and when it was begun.
    last: Option<(u64, SignedDuration)>,
    lengths: Lengths,
    /// Where this replica does not lead: how often the lease had been renewed at the last look.
    watched: Option<u64>,
}

/// Keeps the lease of a unit until `token` is cancelled; it ends by itself then.
pub async fn keep(
    key: UnitKey,
    shared: Shared,
    mut assignment: watch::Receiver<Arc<UnitAssignment>>,
    token: CancellationToken,
) {
    let secrets = &mut Secrets::new(shared.watches.clone(), &key.namespace);
    let mut heard = secrets.subscribe();
    let (mut hub, mut leading) = (shared.hub.clone(), shared.leading.clone());
    let mut keeper = Keeper {
        unit: key.unit.as_str().into(),
        board: shared.boards.unit(&key),
        key,
        shared,
        memory: Memory::default(),
        databases: Databases::default(),
        held: None,
        own: false,
        last: None,
        lengths: Lengths::default(),
        watched: None,
    };
    let nudge = Arc::clone(&keeper.board.nudge);
    // What was known of a unit of that name before is not true of this one.
    keeper.board.say(Known::default());
    keeper.board.admit_until(None);
    while !token.is_cancelled() {
        let began = Instant::now();
        let now = assignment.borrow_and_update().clone();
        let (mode, terms) = terms(&now);
        heard.mark_unchanged();
        keeper.find(&now, secrets);
        let Some(done) = token.run_until_cancelled(keeper.round(mode, terms)).await else {
            return;
        };
        let next = terms.renew_every().unsigned_abs() - keeper.offset(terms);
        // A database that was started again a moment ago has no lease, and takes none before its table.
        let next = if done { next } else { next.min(AGAIN) };
        tokio::select! {
            () = token.cancelled() => {}
            () = tokio::time::sleep_until(began + next) => {}
            () = nudge.notified() => {}
            // The senders live as long as the token is not cancelled.
            Ok(()) = assignment.changed() => {}
            Ok(()) = heard.changed() => {}
            Ok(()) = hub.changed() => {}
            Ok(()) = leading.changed() => {}
        }
    }
}

/// What applies, and the numbers. What an older operator does not say is as it was before there were leases.
fn terms(assignment: &UnitAssignment) -> (Mode, Terms) {
    let Some(lease) = &assignment.spec.lease else {
        return (Mode::KeepServing, Terms::default());
    };
    let terms = lease_terms("spec.lease.duration", &lease.duration).unwrap_or_else(|error| {
        tracing::error!(%error, "the assignment makes no sense, its lease is taken for the usual one");
        Terms::default()
    });
    (lease.mode.into(), terms)
}

impl Keeper {
    /// Which databases the unit has; one whose Secret is not known yet, or does not hold what it must any more, is as it was.
    fn find(&mut self, assignment: &UnitAssignment, secrets: &mut Secrets) {
        let spec = &assignment.spec;
        secrets.want(
            spec.stores
                .iter()
                .map(|store| store.local.credentials.clone())
                .collect(),
        );
        let mut targets: BTreeMap<StoreName, Arc<store::Target>> = BTreeMap::new();
        for assigned in &spec.stores {
            let name = StoreName::from(assigned.name.as_str());
            let secret = &assigned.local.credentials;
            let peers = assigned.peers.iter().map(|peer| peer.unit.as_str());
            let target = match secrets.get(secret) {
                SecretSeen::Unknown => self.databases.target(&name),
                SecretSeen::Known(found) => {
                    let logins = credentials(secret, found.as_ref().as_ref(), peers, assigned.tls.is_some()).ok();
                    let target =
                        logins.and_then(|logins| store::target(&self.key.namespace, spec, assigned, &logins).ok());
                    // A Secret that lost a key says nothing of the database, which is in force: the hand tells it.
                    target.map(Arc::new).or_else(|| self.databases.target(&name))
                }
            };
            targets.extend(target.map(|target| (name, target)));
        }
        self.databases.are(targets);
        self.board.reach(self.databases.reach());
    }

    /// By how much sooner than the others' its attempts follow each other, at most an eighth: a thousand units that begin at
    /// once do not renew at once for long.
    fn offset(&self, terms: Terms) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.key.namespace, &self.key.unit).hash(&mut hasher);
        let part = u32::try_from(hasher.finish() % 128).unwrap_or_default();
        terms.renew_every().unsigned_abs() * part / 1024
    }

    /// One attempt; whether all databases have done as they were told.
    async fn round(&mut self, mode: Mode, terms: Terms) -> bool {
        let limit = terms.renew_every().unsigned_abs() / 2;
        let hub = self.shared.hub.borrow().clone();
        if self.another_renews(&hub, limit).await {
            return true;
        }
        // The holder counts from before it sends the renewal; a database too, by its own clock.
        let begun = boottime().unwrap_or(SignedDuration::ZERO);
        let all = self.databases.read(limit).await;
        let heard = match &hub {
            Hub::None(why) => Heard::Silent(why.clone()),
            Hub::Leases(leases) => self.renew(leases, &all, terms, (begun, limit)).await,
        };
        let outcome = match &heard {
            Heard::Renewed { .. } => "Renewed",
            Heard::Sealed { .. } => "Sealed",
            Heard::Silent(_) => "Silent",
        };
        self.shared.metrics.renewal(outcome);
        let act = self.memory.hear(mode, heard, begun);
        self.board.admit_until(self.memory.admits_until(terms));
        let done = self.databases.tell(all, &act, terms, limit, &self.shared.metrics).await;
        let now = boottime().unwrap_or(SignedDuration::ZERO);
        self.board.say(Known {
            standing: self.memory.standing(mode, terms, now),
            granted: self.memory.granted(),
            taken: self.databases.taken(),
        });
        self.databases.beat(limit).await;
        done
    }

    /// Where this replica does not lead: whether another one has renewed since the last look.
    async fn another_renews(&mut self, hub: &Hub, limit: Duration) -> bool {
        let leads = *self.shared.leading.borrow();
        let Hub::Leases(leases) = hub else { return false };
        if leads {
            self.watched = None;
            return false;
        }
        let read = leases.read(&self.key.namespace, &self.unit);
        let Ok(Ok(Some(held))) = tokio::time::timeout(limit, read).await else {
            return false;
        };
        let renewals = held.lease.renewals;
        let another = self.watched.is_none_or(|watched| watched < renewals);
        self.watched = Some(renewals);
        (self.held, self.own) = (Some(held), false);
        another
    }

    /// Renews the lease in the ledger; once more where somebody else wrote it meanwhile.
    async fn renew(
        &mut self,
        leases: &KubernetesLeases,
        all: &super::stores::All,
        terms: Terms,
        (begun, limit): (SignedDuration, Duration),
    ) -> Heard {
        for _ in 0..2 {
            if self.held.is_none() {
                self.own = false;
                let read = leases.read(&self.key.namespace, &self.unit);
                self.held = match tokio::time::timeout(limit, read).await {
                    Ok(Ok(Some(held))) => Some(held),
                    Ok(Ok(None)) => return Heard::Silent("the ledger has no lease of this unit yet".to_owned()),
                    Ok(Err(error)) => return Heard::Silent(error.to_string()),
                    Err(_) => return Heard::Silent(format!("the ledger did not answer within {limit:?}")),
                };
            }
            let Some(held) = self.held.take() else { continue };
            // Where another replica renewed meanwhile, it did so by another clock.
            let last = self.last.filter(|(renewals, _)| *renewals == held.lease.renewals);
            let since = last.map(|(_, last)| begun - last).filter(SignedDuration::is_positive);
            let renewed = match held.lease.renewed(&self.unit, positions(all), since) {
                Ok(renewed) => renewed,
                // Read anew the next time: only the ledger says when it is granted again.
                Err(NotRenewed::Sealed { by, .. }) => return Heard::Sealed { by },
                Err(error @ NotRenewed::Another { .. }) => return Heard::Silent(error.to_string()),
            };
            let namespace = &self.key.namespace;
            let length = self.lengths.next(terms, held.length, self.own, begun);
            let written = leases
                .write(namespace, Some(&held.version), &renewed, length, limit)
                .await;
            match written {
                Commit::Committed(version) => {
                    let granted = renewed.granted;
                    self.last = Some((renewed.renewals, begun));
                    self.watched = self.watched.map(|_| renewed.renewals);
                    self.held = Some(HeldLease {
                        lease: renewed,
                        version: *version,
                        length,
                        ..held
                    });
                    self.own = true;
                    return Heard::Renewed { granted };
                }
                // Another replica, or the operator.
                Commit::Conflict => {}
                Commit::Refused(why) => return Heard::Silent(format!("the hub refused the renewal: {why}")),
                Commit::Unknown(why) => return Heard::Silent(why),
            }
        }
        Heard::Silent("others wrote the lease at the same time".to_owned())
    }
}
