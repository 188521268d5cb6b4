//! What a router had routed by before its start stays the floor below which it takes no table.

use crate::common::tables;
use multiactive_core::epoch::Epoch;
use multiactive_router::limits::Limits;
use multiactive_router::metrics::Metrics;
use multiactive_router::saved::InForce;
use multiactive_router::state::State;
use multiactive_router::view::ViewError;
use multiactive_runtime::probes::Readiness;
use prometheus_client::registry::Registry;
use std::sync::Arc;

#[test]
fn a_saved_assignment_that_cannot_be_used_any_more_lets_no_older_table_in() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let metrics = Metrics::new(&mut Registry::default());
    let state = State::new(
        "east".into(),
        "shop".into(),
        Limits::default(),
        metrics,
        Readiness::not_ready("starting"),
    );
    // As another version had accepted it.
    let mut assignment = tables::assignment("east", nowhere);
    assignment.keyspaces[0].spec.slots = 0;
    state.remember(InForce {
        assignment: Arc::new(assignment),
        table: Arc::new(tables::table("12: 8s0@1.10,8s1@1.12", |_| nowhere)),
    });
    state.use_saved().unwrap_err();
    // The record went back while the router was not there.
    let older = tables::table("11: 16s0@1.10", |_| nowhere);
    let refused = state.take_table(older).unwrap_err();
    let at = |epoch| Epoch::new(1, epoch);
    assert!(
        matches!(refused, ViewError::Older { offered, held } if offered == at(11) && held == at(12)),
        "{refused}"
    );
}
