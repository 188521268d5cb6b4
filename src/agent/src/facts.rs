//! What is known of a unit's stores at one moment. Unknown is `None`; nothing here is written anywhere.

use jiff::SignedDuration;
use multiactive_api::{LinkState, PairReport, QuarantineState, UnitAssignmentSpec};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, StoreName};
use multiactive_core::promotion::{Progress, Reach, StorePosition};
use multiactive_core::slots::SlotSet;
use multiactive_core::wire::{Applied, KeyspaceApplied};
use multiactive_stores::driver::Conflicts;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// What is wrong with a store, for status and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One word.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// A link into this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFact {
    /// How it is.
    pub state: LinkState,
    /// Whether rows may be missing here that were written there.
    pub gap: bool,
    /// Why, where it does not run.
    pub message: Option<String>,
}

/// The rows of a store here and at their owners, each as at one place in the owner's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many the owners have.
    pub rows: u64,
    /// The slots whose rows differ.
    pub differing: SlotSet,
    /// Some of the rows that differ, in words.
    pub examples: Vec<String>,
}

/// How far a store has applied the log of a lost unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutFact {
    /// As a number.
    pub progress: Progress,
    /// As the engine writes it, first, and what it has applied of the others.
    pub position: StorePosition,
}

/// How far a store of a unit in quarantine is on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineFact {
    /// The Failover, by its uid.
    pub by: OperationUid,
    /// How far.
    pub state: QuarantineState,
    /// How many rows only it holds, or holds otherwise; `None` where that is not known.
    pub rows: Option<u64>,
    /// From the first to the last of their commits.
    pub span: Option<Duration>,
    /// The first of them: table, and key as JSON.
    pub first: Vec<(String, String)>,
    /// What is in the way.
    pub message: Option<String>,
}

impl QuarantineFact {
    /// Nothing is known yet.
    pub fn begun(by: OperationUid) -> Self {
        Self {
            by,
            state: QuarantineState::Comparing,
            rows: None,
            span: None,
            first: Vec::new(),
            message: None,
        }
    }
}

/// What a store says to a Verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationFact {
    /// Its uid.
    pub uid: String,
    /// One entry for each owner, in order.
    pub pairs: Vec<PairReport>,
}

/// What a store answered to an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its final position, at the epoch of the fence that stands.
    pub fenced: Option<(Epoch, StorePosition)>,
    /// With its fence: whether the operation that is superseded ever opened its slots here.
    pub opened: Option<bool>,
    /// How far it has applied the lost unit's log, since it is cut off from it, as asked at this epoch.
    pub cut: Option<(Epoch, CutFact)>,
    /// What its fence waits for, or failed by.
    pub unfenced: Option<Problem>,
    /// The largest age of the newest row from the sources.
    pub lag: Option<SignedDuration>,
    /// Whether the positions are applied and recorded, as asked at this epoch.
    pub reach: Option<(Epoch, Reach)>,
    /// Whether its rows are those of their owners.
    pub compared: Option<Comparison>,
    /// How far it is with each owner until then.
    pub comparing: Vec<PairReport>,
    /// Why the last attempt to compare them failed.
    pub problem: Option<String>,
}

/// What is known of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// The table that it stands at, since this agent brought it there.
    pub applied: Option<Epoch>,
    /// What keeps it from being in hand; `None` too while the first attempt runs.
    pub problem: Option<Problem>,
    /// How its database is known not to be the one that it should be: nobody may count on its rows.
    pub mistaken: Option<Problem>,
    /// Which server it is.
    pub server: Option<String>,
    /// Which database it was when it was in hand last, maybe by an earlier agent.
    pub incarnation: Option<String>,
    /// Whether the sessions with it are encrypted.
    pub encrypted: bool,
    /// Whether several units write it: then it has no part in what is done about units that are lost.
    pub shared: bool,
    /// The rows that are listed in it because two units wrote them at the same time.
    pub conflicts: Option<Conflicts>,
    /// The highest epoch that it held then.
    pub seen: Option<Epoch>,
    /// What a person should know though it keeps nothing from working, and its reason.
    pub warnings: Vec<Problem>,
    /// Its links, by the unit that they come from.
    pub links: BTreeMap<String, LinkFact>,
    /// How far it is behind the units that its links come from, as last told; none where it is not known.
    pub lags: BTreeMap<String, SignedDuration>,
    /// Whose sessions were ended last because they held up closing slots.
    pub ended: Vec<String>,
    /// While the unit is in quarantine.
    pub quarantine: Option<QuarantineFact>,
    /// While a Verification runs.
    pub verification: Option<VerificationFact>,
    /// The operations that brought slots elsewhere and of which it is known to have all rows, or that did not concern it.
    pub passed: BTreeSet<OperationUid>,
    /// Its answers to the operations that run.
    pub answers: BTreeMap<OperationUid, Answer>,
}

impl StoreFacts {
    /// Whether the agent has it in hand.
    pub fn is_ready(&self) -> bool {
        self.problem.is_none() && self.applied.is_some()
    }

    /// Whether it is known how it is: in hand, or why not.
    pub fn is_settled(&self) -> bool {
        self.problem.is_some() || self.applied.is_some()
    }
}

/// The stores of a unit, by name.
pub type Stores = BTreeMap<StoreName, StoreFacts>;

/// Where the tasks of one store write what they know. Clones share it.
#[derive(Clone, Debug)]
pub struct Board {
    store: StoreName,
    stores: watch::Sender<Stores>,
}

impl Board {
    /// The place of one store among a unit's.
    pub fn new(store: StoreName, stores: watch::Sender<Stores>) -> Self {
        Self { store, stores }
    }

    /// Changes what is known; whoever waits for a change hears only of a real one. A store that the unit has no more
    /// stays forgotten.
    pub fn change(&self, with: impl FnOnce(&mut StoreFacts)) {
        self.stores.send_if_modified(|stores| {
            let Some(facts) = stores.get_mut(&self.store) else {
                return false;
            };
            let before = facts.clone();
            with(facts);
            *facts != before
        });
    }

    /// Changes an answer to an operation.
    pub fn answer(&self, operation: &OperationUid, with: impl FnOnce(&mut Answer)) {
        self.change(|facts| with(facts.answers.entry(operation.clone()).or_default()));
    }

    /// What is known.
    pub fn facts(&self) -> StoreFacts {
        self.stores.borrow().get(&self.store).cloned().unwrap_or_default()
    }
}

/// What the routers are told: the table that every store stands at, and for each keyspace the one that its own stores
/// stand at, where that is newer. A keyspace without stores stands at the table at once.
///
/// So a store that is broken, or new, holds up the writes of its own keyspace and of no other.
pub fn applied_by_keyspace(stores: &Stores, assignment: &UnitAssignmentSpec, table: Option<Epoch>) -> Applied {
    let mut all = Applied {
        epoch: applied(stores, table).unwrap_or(Epoch::NEVER),
        keyspaces: Vec::new(),
    };
    let declared = assignment.keyspaces.iter().map(|keyspace| &keyspace.name);
    let single = assignment.stores.iter().filter(|store| store.single_writer.is_some());
    let names = declared.chain(single.map(|store| &store.keyspace));
    let keyspaces = names.filter_map(|name| {
        let own = assignment.stores.iter().filter(|store| store.keyspace == *name);
        let stands: Option<Vec<Epoch>> = own
            .map(|store| stores.get(&store.name.as_str().into())?.applied)
            .collect();
        Some(KeyspaceApplied {
            keyspace: name.as_str().into(),
            epoch: stands?.into_iter().min().or(table)?,
        })
    });
    all.keyspaces = keyspaces.filter(|keyspace| keyspace.epoch > all.epoch).collect();
    all
}

/// The table that every store stands at that has a part in it; a unit without such stores stands at its table at once.
pub fn applied(stores: &Stores, table: Option<Epoch>) -> Option<Epoch> {
    let with_a_part = stores.values().filter(|store| !store.shared);
    let all: Option<Vec<Epoch>> = with_a_part.map(|store| store.applied).collect();
    all?.into_iter().min().or(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assignment(stores: &[(&str, &str)]) -> UnitAssignmentSpec {
        let keyspace = |name: &str| {
            json!({
                "name": name, "slots": 16, "function": {"type": "Crc32"},
                "key": {"sources": [{"type": "Header", "header": {"name": "x-user-id"}}], "onMissing": "Reject"},
            })
        };
        let store = |(name, keyspace): &(&str, &str)| {
            json!({
                "name": name, "keyspace": keyspace,
                "engine": {"type": "PostgreSQL", "postgreSQL": {"database": "shop"}},
                "tables": [{"name": "orders", "shardKey": "user_id"}],
                "local": {"unit": "east-1", "address": "db:5432", "credentials": "db"},
                "peers": [],
            })
        };
        let spec = json!({
            "unit": "east-1", "cluster": "east", "backends": [],
            "keyspaces": [keyspace("users"), keyspace("carts")],
            "stores": stores.iter().map(store).collect::<Vec<_>>(),
        });
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_store_that_is_behind_holds_up_its_own_keyspace_only() {
        let at = |epoch| Epoch::new(1, epoch);
        // Where orders and bills of users stand, and carts; then all, users and carts as told.
        for (orders, bills, carts, all, users_told, carts_told) in [
            (Some(7), Some(7), Some(7), 7, 7, 7),
            (Some(7), Some(7), None, 0, 7, 0),
            (Some(7), Some(6), None, 0, 6, 0),
            (Some(7), None, Some(7), 0, 0, 7),
            (Some(7), Some(7), Some(5), 5, 7, 5),
            (None, None, None, 0, 0, 0),
        ] {
            let facts = |epoch: Option<u64>| StoreFacts {
                applied: epoch.map(at),
                ..StoreFacts::default()
            };
            let stores = Stores::from([
                ("orders".into(), facts(orders)),
                ("bills".into(), facts(bills)),
                ("carts".into(), facts(carts)),
            ]);
            let assignment = assignment(&[("orders", "users"), ("bills", "users"), ("carts", "carts")]);
            let told = applied_by_keyspace(&stores, &assignment, Some(at(7)));
            let got = (
                told.epoch.epoch,
                told.of(&"users".into()).epoch,
                told.of(&"carts".into()).epoch,
            );
            assert_eq!(got, (all, users_told, carts_told), "{orders:?} {bills:?} {carts:?}");
        }
    }

    #[test]
    fn a_store_with_a_single_writer_is_held_up_by_no_other_store() {
        let mut assignment = assignment(&[("orders", "users"), ("catalog", "catalog.writer")]);
        assignment.stores[1].single_writer = Some(serde_json::from_value(json!({"homeUnit": "east-1"})).unwrap());
        let facts = StoreFacts {
            applied: Some(Epoch::new(1, 7)),
            ..StoreFacts::default()
        };
        let stores = Stores::from([("orders".into(), StoreFacts::default()), ("catalog".into(), facts)]);
        let told = applied_by_keyspace(&stores, &assignment, Some(Epoch::new(1, 7)));
        assert_eq!(told.of(&"users".into()), Epoch::NEVER);
        assert_eq!(told.of(&"catalog.writer".into()), Epoch::new(1, 7));
    }

    #[test]
    fn a_keyspace_without_stores_stands_at_the_table() {
        let assignment = assignment(&[("orders", "users")]);
        let stores = Stores::from([("orders".into(), StoreFacts::default())]);
        let told = applied_by_keyspace(&stores, &assignment, Some(Epoch::new(1, 7)));
        assert_eq!(told.of(&"carts".into()), Epoch::new(1, 7));
        assert_eq!(told.of(&"users".into()), Epoch::NEVER);
        assert_eq!(applied_by_keyspace(&stores, &assignment, None), Applied::default());
    }
}
