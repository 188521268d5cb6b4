//! What a DataStore with a single writer says of it: who writes now, and why nobody does. Pure.

use crate::conditions::Readiness;
use crate::route_claims::bad_route;
use crate::served::{self, Unserved};
use crate::tables::View;
use multiactive_api::{DataStore, SingleWriter, WriterStatus};
use multiactive_core::ownership;
use multiactive_core::quarantine;
use multiactive_core::span::{Span, SpanState};

/// Who writes now; what it said before where the table is not known, `None` for one that is sharded.
pub fn status(store: &DataStore, view: &View) -> Option<WriterStatus> {
    let declared = store.spec.single_writer.as_ref()?;
    let Some(span) = span(store, view) else {
        return store.status.as_ref().and_then(|status| status.writer.clone());
    };
    Some(WriterStatus {
        unit: span.owner.as_ref().map(ToString::to_string),
        state: format!("{:?}", span.state),
        epoch: span.epoch.to_string(),
        away: span
            .owner
            .as_ref()
            .is_some_and(|owner| owner.as_str() != declared.home_unit),
    })
}

fn span<'a>(store: &DataStore, view: &'a View) -> Option<&'a Span> {
    let table = view.table.as_deref()?.keyspace(&store.keyspace_name())?;
    table.spans.first()
}

/// Why nobody writes, or requests do not get there; `None` where all is well, and for one that is sharded.
pub fn trouble(store: &DataStore, view: &View, unserved: &Unserved) -> Option<Readiness> {
    let declared = store.spec.single_writer.as_ref()?;
    if let Some(problem) = &view.record_problem {
        let (reason, message) = (problem.reason, problem.message.clone());
        return Some(match reason {
            "RecordUnreachable" => Readiness::Reconciling { reason, message },
            _ => Readiness::Stalled { reason, message },
        });
    }
    let Some(span) = span(store, view) else {
        return Some(Readiness::Reconciling {
            reason: "NotPublished",
            message: "it is not in the routing table yet".to_owned(),
        });
    };
    if let Some((reason, message)) = bad_route(
        store.keyspace_name().as_str(),
        "spec.singleWriter.routes",
        &declared.routes,
        view,
    ) {
        return Some(Readiness::Stalled { reason, message });
    }
    let reconciling = |reason, message| Some(Readiness::Reconciling { reason, message });
    let owner = span.owner.as_ref().map(ToString::to_string).unwrap_or_default();
    match span.state {
        SpanState::Unowned => reconciling("NoWriter", no_writer(store, declared, view)),
        SpanState::Opening => reconciling("Opening", format!("the database of {owner} is about to take writes")),
        SpanState::Fenced if is_lost(span, view) => Some(Readiness::Stalled {
            reason: "OwnerLost",
            message: format!(
                "{owner} is its writer and in quarantine, no other unit could take over: nobody writes. Make a failover unit \
                 usable and create another Failover of {owner}, or let it rejoin"
            ),
        }),
        SpanState::Serving | SpanState::Held | SpanState::Fenced => {
            let (_, message) = unserved.first(std::slice::from_ref(span))?;
            reconciling(served::REASON, message.to_owned())
        }
    }
}

fn is_lost(span: &Span, view: &View) -> bool {
    let table = view.table.as_deref();
    let owner = span.owner.as_ref();
    owner.is_some_and(|owner| table.is_some_and(|table| quarantine::of(table, owner).is_some()))
}

/// Why nobody has become the first writer yet.
fn no_writer(store: &DataStore, declared: &SingleWriter, view: &View) -> String {
    let keyspace = store.keyspace_name();
    let table = view.table.as_deref().and_then(|table| table.keyspace(&keyspace));
    let (members, seen) = (view.inputs.members_of(&keyspace), view.inputs.units_seen());
    let came = table.and_then(ownership::came);
    let open = came.map(|came| ownership::not_closed(&members, &keyspace, came, &seen));
    if let Some(open) = open.filter(|open| !open.is_empty()) {
        let open: Vec<_> = open.into_iter().map(ToString::to_string).collect();
        return format!(
            "nobody writes until the databases of {} are known not to be open from before",
            open.join(", ")
        );
    }
    let home = &declared.home_unit;
    let why = crate::units::why_not_open(&home.as_str().into(), view);
    format!("its homeUnit {home} becomes the first writer: {why}")
}
