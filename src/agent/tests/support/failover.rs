//! The steps of a failover, as an operator takes them. That the lost unit's lease is over is the test's word.

use super::world::World;
use jiff::{SignedDuration, Timestamp};
use multiactive_api::{CutReport, LinkState, OperationReport, ReachState};
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::{
    Evidence, FAILOVER_BUDGETS, FailoverRequest, FenceProof, FencedBy, Loss, Move, MovingStore, Placed, Placement,
    Step, StorePosition, begin,
};
use multiactive_core::slots::SlotSet;

impl World {
    /// Calls a unit lost: all slots shall go to `target`. It stands at Prepare then.
    pub async fn lose(&self, lost: &str, target: &str) -> OperationUid {
        let table = self.table();
        let placed = Placed {
            range: None,
            keyspace: "users".into(),
            slots: SlotSet::range(0, 255),
            superseded: None,
            target: target.into(),
            skipped: Vec::new(),
        };
        let request = FailoverRequest {
            uid: format!("uid-{lost}").into(),
            name: format!("lost-{lost}"),
            lost: lost.into(),
            named: true,
            fences: false,
            placement: Placement {
                placed: vec![placed],
                unplaced: Vec::new(),
            },
            stores: vec![MovingStore {
                store: "orders".into(),
                keyspace: "users".into(),
                members: self.units.iter().map(|unit| unit.as_str().into()).collect(),
            }],
            expected_epoch: table.epoch.epoch,
            max_data_loss: SignedDuration::from_secs(5),
            budgets: FAILOVER_BUDGETS,
        };
        let begun = begin(&table, &request, Timestamp::now()).unwrap();
        let uid = begun.operations[0].uid.clone();
        self.publish(begun).await;
        self.enter(&uid, Step::Prepare).await;
        uid
    }

    /// Enters Fence: nobody compares rows, nor waits for routers.
    pub async fn fence_lost(&self, uid: &OperationUid) {
        let skipped = [Step::Verify, Step::Hold].map(|step| (step, "it is lost".to_owned()));
        self.record(uid, &moved(Step::Fence, skipped.to_vec(), Evidence::None))
            .await;
    }

    /// Enters Cut, by this proof; returns what a survivor reports.
    pub async fn cut_by(&self, uid: &OperationUid, by: FencedBy, survivors: &[&str]) -> Vec<CutReport> {
        let proof = FenceProof {
            by,
            at: Timestamp::now(),
            landmarks: Vec::new(),
            heard: Vec::new(),
        };
        self.record(uid, &moved(Step::Cut, Vec::new(), Evidence::Fence(Box::new(proof))))
            .await;
        self.cut(uid, survivors).await
    }

    /// What survivors report of their cut.
    pub async fn cut(&self, uid: &OperationUid, survivors: &[&str]) -> Vec<CutReport> {
        let mut reports = Vec::new();
        for survivor in survivors {
            let cut = |report: &OperationReport| report.cut.clone();
            let cut = self.answer(survivor, uid, "cut", cut).await;
            let [cut] = &cut[..] else { panic!("{cut:?}") };
            reports.push(cut.clone());
        }
        reports
    }

    /// Enters Drain with what the target has, and waits until these have reached it.
    pub async fn drain_to(&self, uid: &OperationUid, target: &CutReport, survivors: &[&str], behind: &[&str]) {
        let loss = Loss {
            fenced_by: FencedBy::Lease,
            stores: Vec::new(),
            bound: Some(SignedDuration::ZERO),
            given_up: Vec::new(),
            accepted: None,
            found: None,
        };
        let mut drain = moved(Step::Drain, Vec::new(), Evidence::Loss(Box::new(loss)));
        if let Move::Enter {
            positions,
            behind: away,
            ..
        } = &mut drain
        {
            positions.push(StorePosition::from(&target.position));
            away.extend(behind.iter().map(|unit| (*unit).into()));
        }
        self.record(uid, &drain).await;
        for survivor in survivors {
            let reached = |report: &OperationReport| {
                let state = report.reach.as_ref()?.state;
                (state == ReachState::Reached).then_some(())
            };
            self.answer(survivor, uid, "reached", reached).await;
        }
    }

    /// Commits to the target, whose databases open then.
    pub async fn commit_lost(&self, uid: &OperationUid) {
        self.enter(uid, Step::Commit).await;
        let target = self.table().operation(uid).unwrap().target.clone();
        self.applied(target.as_str()).await;
    }

    /// Waits until a unit says this of its link from another one; what it says of it.
    pub async fn link_is(&self, unit: &str, from: &str, state: LinkState) -> String {
        let what = format!("its link from {from} to be {state:?}");
        self.reported(unit, &what, |status| {
            let link = status.links.iter().find(|link| link.from == from)?;
            (link.state == state).then(|| link.message.clone().unwrap_or_default())
        })
        .await
    }
}

fn moved(step: Step, not_needed: Vec<(Step, String)>, evidence: Evidence) -> Move {
    Move::Enter {
        step,
        not_needed,
        passed: Vec::new(),
        positions: Vec::new(),
        behind: Vec::new(),
        evidence,
    }
}
