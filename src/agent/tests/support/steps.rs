//! The steps of a promotion, as an operator takes them.

use super::world::World;
use jiff::{SignedDuration, Timestamp};
use multiactive_api::{OperationReport, ReachState};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, UnitName};
use multiactive_core::promotion::{
    Budgets, Evidence, Move, Outcome, Request, Step, StorePosition, Verify, admit, record,
};
use multiactive_core::slots::SlotSet;

impl World {
    /// Begins a promotion of slots to a unit, at step Check.
    pub async fn begin(&self, name: &str, target: &str, slots: SlotSet) -> OperationUid {
        let fence = SignedDuration::from_secs(10);
        self.begin_with(name, target, slots, fence).await
    }

    /// The same, with a budget for the fence.
    pub async fn begin_with(&self, name: &str, target: &str, slots: SlotSet, fence: SignedDuration) -> OperationUid {
        let mut table = self.table();
        let request = Request {
            uid: format!("uid-{name}").into(),
            name: name.to_owned(),
            target: target.into(),
            select: vec![("users".into(), slots)],
            stores: Vec::new(),
            expected_epoch: table.epoch.epoch,
            verify: Verify::None,
            budgets: Budgets {
                fence,
                drain: SignedDuration::from_secs(30),
            },
        };
        let operation = admit(&table, &request, Timestamp::now()).unwrap();
        table.epoch = table.epoch.next();
        table.operations.push(operation);
        self.publish(table).await;
        request.uid
    }

    /// Records a move and projects the table.
    pub async fn record(&self, uid: &OperationUid, movement: &Move) {
        let table = record(&self.table(), uid, movement, Timestamp::now()).unwrap().unwrap();
        self.publish(table).await;
    }

    pub async fn enter(&self, uid: &OperationUid, step: Step) {
        self.enter_with(uid, step, Vec::new(), Vec::new()).await;
    }

    pub async fn enter_with(&self, uid: &OperationUid, step: Step, passed: Vec<Step>, positions: Vec<StorePosition>) {
        let movement = Move::Enter {
            step,
            not_needed: Vec::new(),
            passed,
            positions,
            behind: Vec::new(),
            evidence: Evidence::None,
        };
        self.record(uid, &movement).await;
    }

    /// The epoch of an operation.
    pub fn epoch_of(&self, uid: &OperationUid) -> Epoch {
        self.table().operation(uid).unwrap().epoch
    }

    /// Waits until a unit's report about an operation says this, for its present epoch.
    pub async fn answer<T>(
        &self,
        unit: &str,
        uid: &OperationUid,
        what: &str,
        says: impl Fn(&OperationReport) -> Option<T>,
    ) -> T {
        let epoch = i64::try_from(self.epoch_of(uid).epoch).unwrap();
        self.reported(unit, what, |status| {
            let report = status.operations.iter().find(|report| report.uid == uid.as_str())?;
            says(Some(report).filter(|report| report.epoch == epoch)?)
        })
        .await
    }

    /// Enters Hold from Prepare.
    pub async fn hold(&self, uid: &OperationUid) {
        let not_needed = vec![(Step::Verify, "spec.verify is None".to_owned())];
        let hold = Move::Enter {
            step: Step::Hold,
            not_needed,
            passed: Vec::new(),
            positions: Vec::new(),
            behind: Vec::new(),
            evidence: Evidence::None,
        };
        self.record(uid, &hold).await;
    }

    /// The steps from Check to Drain's end, as an operator takes them.
    pub async fn until_drained(&self, uid: &OperationUid) {
        let op = self.table().operation(uid).unwrap().clone();
        let members: Vec<_> = self
            .units
            .iter()
            .filter(|unit| !op.sources().contains(&&UnitName::from(unit.as_str())))
            .collect();
        for member in &members {
            self.answer(member, uid, "lag", |report| report.lag_ms).await;
        }
        self.enter(uid, Step::Prepare).await;
        self.hold(uid).await;
        // Most of these units have no router, so nobody could say that no write is in flight: the fence waits for them.
        self.enter(uid, Step::Fence).await;
        let mut positions = Vec::new();
        for source in op.sources() {
            let fenced = self
                .answer(source.as_str(), uid, "fenced", |report| report.fenced.clone())
                .await;
            positions.extend(fenced.iter().map(StorePosition::from));
        }
        // They follow the fence by themselves, and then once more by its positions in the table.
        self.reached(&members, uid).await;
        self.enter_with(uid, Step::Drain, Vec::new(), positions).await;
        self.reached(&members, uid).await;
    }

    async fn reached(&self, members: &[&String], uid: &OperationUid) {
        for member in members {
            let reached = |report: &OperationReport| {
                let state = report.reach.as_ref().map(|reach| reach.state);
                state.filter(|state| *state == ReachState::Reached).map(drop)
            };
            self.answer(member, uid, "reached", reached).await;
        }
    }

    /// The steps from Commit on.
    pub async fn until_done(&self, uid: &OperationUid) {
        self.enter(uid, Step::Commit).await;
        let target = self.table().operation(uid).unwrap().target.clone();
        self.applied(target.as_str()).await;
        self.enter(uid, Step::Settle).await;
        self.record(uid, &Move::End(Outcome::Succeeded)).await;
        self.settled().await;
    }
}
