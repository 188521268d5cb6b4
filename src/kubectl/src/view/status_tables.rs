//! The tables of `status`: the tree, the owners, operations, links.

use super::shapes::{ClusterView, RangeView, RegionView, StatusView, UnitView, WriterView};
use super::{Readiness, verify_steps};
use crate::operations::OperationView;
use crate::print::{Cell, Paint, Tone, columns};
use crate::text::word;
use multiactive_api::LeaseState;

fn ready(readiness: &Readiness) -> Cell {
    let tone = match readiness.ready.as_str() {
        "True" => Tone::Good,
        "False" => Tone::Bad,
        _ => Tone::Warn,
    };
    Cell::of(tone, readiness.ready.clone())
}

fn why(readiness: &Readiness, wide: bool) -> Cell {
    let tone = if readiness.is_ready() { Tone::Plain } else { Tone::Bad };
    let first = readiness.message.lines().next().unwrap_or_default();
    match wide && !readiness.is_ready() {
        true => Cell::of(tone, format!("{}: {first}", readiness.reason)),
        false => Cell::of(tone, readiness.reason.clone()),
    }
}

pub(super) fn tree(view: &StatusView, paint: Paint, wide: bool, many: bool) -> String {
    let mut rows = Vec::new();
    for region in &view.regions {
        rows.push(region_row(region, wide));
        for (index, cluster) in region.clusters.iter().enumerate() {
            let last = index + 1 == region.clusters.len();
            rows.push(cluster_row(cluster, if last { "└─" } else { "├─" }, wide));
            for (index, unit) in cluster.units.iter().enumerate() {
                let branch = if index + 1 == cluster.units.len() {
                    "└─"
                } else {
                    "├─"
                };
                let stem = if last { "   " } else { "│  " };
                rows.push(unit_row(unit, &format!("{stem}{branch}"), wide, many));
            }
        }
    }
    columns(
        paint,
        &["", "READY", "SLOTS", "APPLIED", "LEASE", "ROUTERS", "WHY"],
        &rows,
    )
}

fn region_row(region: &RegionView, wide: bool) -> Vec<Cell> {
    let Some(name) = &region.name else {
        return vec!["Region not known".into()];
    };
    let display = region
        .display_name
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    let text = Cell::of(Tone::Bold, format!("Region {name}{display}"));
    if region.clusters.is_empty() && region.readiness.is_ready() {
        return vec![
            text,
            ready(&region.readiness),
            "".into(),
            "".into(),
            "".into(),
            "".into(),
            "no cluster".into(),
        ];
    }
    vec![
        text,
        ready(&region.readiness),
        "".into(),
        "".into(),
        "".into(),
        "".into(),
        why(&region.readiness, wide),
    ]
}

fn cluster_row(cluster: &ClusterView, branch: &str, wide: bool) -> Vec<Cell> {
    let hub = if cluster.hub { " (hub)" } else { "" };
    let name = format!("{branch} MemberCluster {}{hub}", cluster.name);
    vec![
        name.into(),
        ready(&cluster.readiness),
        "".into(),
        "".into(),
        "".into(),
        "".into(),
        why(&cluster.readiness, wide),
    ]
}

fn unit_row(unit: &UnitView, branch: &str, wide: bool, many: bool) -> Vec<Cell> {
    let number = |number: Option<i32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let name = match many {
        true => format!("{branch} Unit {}/{}", unit.namespace, unit.name),
        false => format!("{branch} Unit {}", unit.name),
    };
    let cordoned = if unit.cordoned { " (cordoned)" } else { "" };
    let routers = match unit.routers {
        Some(0) => Cell::of(Tone::Bad, "0"),
        routers => number(routers).into(),
    };
    vec![
        format!("{name}{cordoned}").into(),
        ready(&unit.readiness),
        number(unit.slots).into(),
        applied(unit),
        lease(unit, wide),
        routers,
        why(&unit.readiness, wide),
    ]
}

/// Whether a range is away, moves, or is not ready.
pub(super) fn is_remarkable(range: &RangeView) -> bool {
    range.away || !range.readiness.is_ready() || range.state.as_deref() != Some("Serving")
}

/// What its agent has applied; the record may have gone on since.
fn applied(unit: &UnitView) -> Cell {
    let text = unit.applied.clone().unwrap_or_else(|| "?".to_owned());
    match unit.behind {
        Some(true) => Cell::of(Tone::Warn, format!("{text} (behind)")),
        Some(false) | None => text.into(),
    }
}

/// How its write lease stands; on wide screens, what it does when it is lost.
fn lease(unit: &UnitView, wide: bool) -> Cell {
    let (tone, state) = match unit.lease {
        Some(state @ LeaseState::Held) => (Tone::Plain, word(&state)),
        Some(state @ (LeaseState::Alone | LeaseState::Late)) => (Tone::Warn, word(&state)),
        Some(state @ (LeaseState::Over | LeaseState::Sealed)) => (Tone::Bad, word(&state)),
        None => (Tone::Warn, "?".to_owned()),
    };
    match unit.lease_mode.filter(|_| wide) {
        Some(mode) => Cell::of(tone, format!("{state} ({})", word(&mode))),
        None => Cell::of(tone, state),
    }
}

pub(super) fn ranges(ranges: &[&RangeView], paint: Paint, wide: bool, many: bool) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
    let rows: Vec<_> = ranges
        .iter()
        .map(|range| {
            let state = text(&range.state);
            let serving = state == "Serving";
            let mut row = vec![
                range.name.clone().into(),
                range.keyspace.clone().into(),
                range.slots.clone().into(),
                range.home.clone().into(),
                Cell::of(if range.away { Tone::Warn } else { Tone::Plain }, text(&range.active)),
                Cell::of(if serving { Tone::Plain } else { Tone::Warn }, state),
                range
                    .epoch
                    .map_or_else(|| "?".to_owned(), |epoch| epoch.to_string())
                    .into(),
                why(&range.readiness, wide),
            ];
            if many {
                row.insert(0, range.namespace.clone().into());
            }
            row
        })
        .collect();
    let mut header = vec!["RANGE", "KEYSPACE", "SLOTS", "HOME", "ACTIVE", "STATE", "EPOCH", "WHY"];
    if many {
        header.insert(0, "NAMESPACE");
    }
    columns(paint, &header, &rows)
}

/// Who writes the stores that one unit writes.
pub(super) fn writers(writers: &[WriterView], paint: Paint, wide: bool, many: bool) -> String {
    let row = |writer: &WriterView| {
        let state = writer.state.clone().unwrap_or_else(|| "?".to_owned());
        let serving = state == "Serving";
        let active = writer.active.clone().unwrap_or_else(|| "none".to_owned());
        let mut row = vec![
            writer.store.clone().into(),
            writer.home.clone().into(),
            Cell::of(if writer.away { Tone::Warn } else { Tone::Plain }, active),
            Cell::of(if serving { Tone::Plain } else { Tone::Warn }, state),
            writer.epoch.clone().unwrap_or_else(|| "?".to_owned()).into(),
            why(&writer.readiness, wide),
        ];
        if many {
            row.insert(0, writer.namespace.clone().into());
        }
        row
    };
    let rows: Vec<_> = writers.iter().map(row).collect();
    let mut header = vec!["STORE", "HOME", "WRITER", "STATE", "EPOCH", "WHY"];
    if many {
        header.insert(0, "NAMESPACE");
    }
    columns(paint, &header, &rows)
}

/// Where it stands; of a Verification how far it is.
fn step(operation: &OperationView) -> String {
    let far = operation.compared.as_ref().and_then(verify_steps::far);
    operation.step.clone().or(far).unwrap_or_else(|| "Pending".to_owned())
}

/// Operations, as a table.
pub fn operations(operations: &[OperationView], paint: Paint, many: bool) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let rows: Vec<_> = operations
        .iter()
        .map(|operation| {
            let mut row = vec![
                format!("{}/{}", operation.kind.to_lowercase(), operation.name).into(),
                text(&operation.from).into(),
                text(&operation.to).into(),
                operation
                    .slots
                    .map(|slots| slots.to_string())
                    .unwrap_or_default()
                    .into(),
                step(operation).into(),
                text(&operation.for_).into(),
                Cell::of(Tone::Warn, text(&operation.waiting_for)),
            ];
            if many {
                row.insert(0, operation.namespace.clone().into());
            }
            row
        })
        .collect();
    let mut header = vec!["OPERATION", "FROM", "TO", "SLOTS", "STEP", "FOR", "WAITING-FOR"];
    if many {
        header.insert(0, "NAMESPACE");
    }
    columns(paint, &header, &rows)
}

pub(super) fn links(view: &StatusView, paint: Paint, wide: bool, many: bool) -> String {
    let rows: Vec<_> = view
        .links
        .iter()
        .map(|link| {
            let state = link.state.clone().unwrap_or_else(|| "Unknown".to_owned());
            let mut row = vec![
                link.store.clone().into(),
                link.from.clone().into(),
                link.to.clone().into(),
                Cell::of(Tone::Bad, state),
                link.lag.clone().unwrap_or_else(|| "unknown".to_owned()).into(),
                why(&link.readiness, wide),
            ];
            if many {
                row.insert(0, link.namespace.clone().into());
            }
            row
        })
        .collect();
    let mut header = vec!["LINK OF", "FROM", "TO", "STATE", "LAG", "WHY"];
    if many {
        header.insert(0, "NAMESPACE");
    }
    columns(paint, &header, &rows)
}
