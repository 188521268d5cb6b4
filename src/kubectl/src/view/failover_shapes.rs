//! What `failover` says of lost units, as data: the documented shape of its JSON.

use crate::operations::OperationView;
use multiactive_api::{Failover, FailoverPlacement, LeaseMode, SkippedUnit};
use serde::Serialize;

/// A unit that somebody calls lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub unit: String,
}

/// What holds for all of them.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The unit that shall take over, where the user names one.
    pub to: Option<String>,
    /// The largest loss that needs nobody's word.
    pub max_data_loss: String,
    /// The newest epoch that the user has seen; else that of the table.
    pub expected_epoch: Option<i64>,
    /// The name of the Failover; else one that fits.
    pub name: Option<String>,
}

/// What comes of a lost unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// A Failover of it can begin.
    Begins,
    /// One runs already.
    Runs,
    /// It owns nothing: there is nothing to do.
    OwnsNothing,
    /// One would be refused.
    Refused,
}

/// A lost unit, and what becomes of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LostView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub unit: String,
    /// Its MemberCluster; absent where there is no such Unit.
    pub cluster: Option<String>,
    /// Its Region; absent where that is not known.
    pub region: Option<String>,
    /// What comes of it.
    pub state: State,
    /// One word about that, where it does not begin.
    pub reason: Option<String>,
    /// What is true and what to do.
    pub message: Option<String>,
    /// The name of the Failover.
    pub failover: Option<String>,
    /// The newest epoch that is expected; absent without a table.
    pub expected_epoch: Option<i64>,
    /// How many slots it owns; absent without a table.
    pub slots: Option<usize>,
    /// Who takes over what and who is passed over, by the objects.
    pub placement: FailoverPlacement,
    /// Whether it looks alive.
    pub life: Life,
    /// How its fence will be proven.
    pub fence: Fence,
    /// How much of its writing those that take over had not received, at most, when that was measured last; absent while unknown.
    pub lag: Option<String>,
    /// Promotions that lose nothing, where it may live.
    pub promotions: Vec<String>,
    /// The largest loss that needs nobody's word.
    pub max_data_loss: String,
    /// Why the Failover could not be created or followed.
    pub error: Option<String>,
    /// The Failover, where it was followed.
    pub operation: Option<OperationView>,
    /// What is created.
    #[serde(skip)]
    pub object: Option<Failover>,
}

/// Whether a unit looks alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Looks {
    /// Its cluster answers and it is ready.
    Alive,
    /// Its cluster answers, and it is not ready.
    Unwell,
    /// Its cluster does not answer.
    Silent,
    /// Nobody knows.
    Unknown,
}

impl Looks {
    /// Whether its databases may answer, so that a promotion may do.
    pub fn may_live(self) -> bool {
        match self {
            Self::Alive | Self::Unwell => true,
            Self::Silent | Self::Unknown => false,
        }
    }
}

/// Whether a unit looks alive, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Life {
    /// How it looks.
    pub looks: Looks,
    /// By what.
    pub why: String,
}

/// How the fence of a unit will be proven, where its agent does not report it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// What it does without its write lease; absent where that is not known.
    pub mode: Option<LeaseMode>,
    /// How long after its last renewal the end of its lease is proven; absent where the lease proves nothing.
    pub within: Option<String>,
    /// Host and port of the hook that fences it from outside; absent where none is declared.
    pub hook: Option<String>,
}

impl LostView {
    /// The command by which a person says that the unit takes no writes, with the name of the Failover.
    pub fn confirm_command(&self) -> Option<String> {
        let name = self.failover.as_ref()?;
        Some(format!(
            "kubectl multiactive decide failover/{name} ConfirmFenced --target {} -n {} --reason \"...\"",
            self.unit, self.namespace
        ))
    }

    /// Each unit that is passed over, with the reason, once.
    pub fn skipped(&self) -> Vec<SkippedUnit> {
        let mut all: Vec<SkippedUnit> = Vec::new();
        let parts = self.placement.placed.iter().chain(&self.placement.unplaced);
        for skipped in parts.flat_map(|part| &part.skipped) {
            if !all.contains(skipped) {
                all.push(skipped.clone());
            }
        }
        all
    }
}
