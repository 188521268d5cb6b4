//! Where assignment and table come from: the API server of the unit's own cluster. While it is away, or an object
//! cannot be used, the last good ones stay in force; at the start those are the saved ones.

use crate::state::State;
use crate::view::ViewError;
use futures::StreamExt;
use kube::{Api, Client};
use multiactive_api::{ROUTING_TABLE, RoutingTable, UnitAssignment};
use multiactive_core::table;
use multiactive_runtime::watch::{self, Seen};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How long a router that starts waits for its API server before it goes on with what it had saved. That may be behind:
/// the databases refuse what it would send to the wrong unit, but without an error is better.
const MOMENT: Duration = Duration::from_secs(2);

/// Feeds a router until it is dropped.
pub async fn run(client: Client, state: Arc<State>) {
    let assignments =
        watch::one::<UnitAssignment>(Api::namespaced(client.clone(), &state.namespace), state.unit.as_str());
    let tables = watch::one::<RoutingTable>(Api::namespaced(client, &state.namespace), ROUTING_TABLE);
    let (mut assignments, mut tables) = (pin!(assignments), pin!(tables));
    let mut moment = pin!(tokio::time::sleep(MOMENT));
    let mut waiting = true;
    loop {
        tokio::select! {
            Some(seen) = assignments.next() => {
                // That there is none is an answer, too.
                waiting &= !matches!(seen, Seen::Absent);
                assignment(&state, seen);
            }
            Some(seen) = tables.next() => {
                waiting &= !matches!(seen, Seen::Absent);
                table(&state, seen);
            }
            () = moment.as_mut(), if waiting => {
                waiting = false;
                use_saved(&state);
            }
            else => return,
        }
    }
}

fn use_saved(state: &State) {
    match state.use_saved() {
        Ok(true) => tracing::warn!("the API server does not answer: routing as saved before the start"),
        Ok(false) => {}
        Err(error) => {
            state.metrics.count_unusable("StateDir");
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what was saved before the start is not usable");
        }
    }
}

fn assignment(state: &State, seen: Seen<UnitAssignment>) {
    match seen {
        Seen::Present(object) => settle(state, "UnitAssignment", state.take_assignment(&object.spec)),
        Seen::Absent => absent(state, "UnitAssignment"),
        Seen::Unparsable { error } => unparsable(state, "UnitAssignment", &error),
    }
}

fn table(state: &State, seen: Seen<RoutingTable>) {
    match seen {
        Seen::Present(object) => {
            let table = table::RoutingTable::try_from(&object.spec).map_err(|e| ViewError::Table(e.to_string()));
            settle(state, "RoutingTable", table.and_then(|table| state.take_table(table)));
        }
        Seen::Absent => absent(state, "RoutingTable"),
        Seen::Unparsable { error } => unparsable(state, "RoutingTable", &error),
    }
}

fn settle(state: &State, kind: &'static str, taken: Result<(), ViewError>) {
    if let Err(error) = taken {
        let older = matches!(error, ViewError::Older { .. });
        state.metrics.count_unusable(if older { "OlderTable" } else { kind });
        let error = &error as &dyn std::error::Error;
        tracing::error!(kind, error, "not usable, the last good one stays");
    }
}

fn absent(state: &State, kind: &'static str) {
    match state.view.load().compiled {
        Some(_) => tracing::warn!(kind, "deleted, the last one stays in force"),
        // The readiness says so already.
        None => tracing::info!(kind, "not there yet"),
    }
}

fn unparsable(state: &State, kind: &'static str, error: &str) {
    state.metrics.count_unusable(kind);
    if state.view.load().compiled.is_none() {
        state
            .readiness
            .set_not_ready(format!("{kind} cannot be parsed: {error}"));
    }
}
