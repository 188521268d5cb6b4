//! How `status` looks on a screen: headline and first causes, the tree, the owners, and what moves.

use super::problems::Problem;
use super::shapes::StatusView;
use super::status_tables::{is_remarkable, links, operations, ranges, tree, writers};
use crate::print::{Paint, Tone};
use crate::text::count;
use std::collections::BTreeSet;

/// How many first causes are shown in full, and how many problems that follow.
const SHOWN: usize = 10;
/// Up to how many ranges are all shown; of more, those that are not as they shall be.
const RANGES_SHOWN: usize = 40;

/// The whole screen.
pub fn text(view: &StatusView, paint: Paint, wide: bool) -> String {
    let mut text = headline(view, paint, wide);
    let many = many_namespaces(view);
    if !view.regions.is_empty() {
        text.push('\n');
        text.push_str(&tree(view, paint, wide, many));
    }
    if !view.ranges.is_empty() {
        text.push('\n');
        let all = wide || view.ranges.len() <= RANGES_SHOWN;
        let shown: Vec<_> = view.ranges.iter().filter(|range| all || is_remarkable(range)).collect();
        let rest = view.ranges.len() - shown.len();
        if !shown.is_empty() {
            text.push_str(&ranges(&shown, paint, wide, many));
        }
        if rest > 0 {
            let rest = format!("{} served at home: -o wide lists them\n", count(rest, "range"));
            text.push_str(&paint.tone(Tone::Faint, &rest));
        }
    }
    if !view.writers.is_empty() {
        text.push('\n');
        text.push_str(&writers(&view.writers, paint, wide, many));
    }
    if !view.operations.is_empty() {
        text.push('\n');
        text.push_str(&operations(&view.operations, paint, many));
    }
    if !view.links.is_empty() {
        text.push('\n');
        text.push_str(&links(view, paint, wide, many));
    }
    for hint in hints(view) {
        text.push('\n');
        text.push_str(&paint.tone(Tone::Faint, &hint));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn many_namespaces(view: &StatusView) -> bool {
    let units = view
        .regions
        .iter()
        .flat_map(|region| &region.clusters)
        .flat_map(|cluster| &cluster.units);
    let units = units.map(|unit| &unit.namespace);
    let all: BTreeSet<_> = units.chain(view.ranges.iter().map(|range| &range.namespace)).collect();
    all.len() > 1
}

fn headline(view: &StatusView, paint: Paint, wide: bool) -> String {
    let (causes, follow): (Vec<&Problem>, Vec<&Problem>) = view.problems.iter().partition(|p| p.because.is_none());
    let tables = match view.tables.as_slice() {
        [table] => format!(", {} at epoch {}.{}", table.namespace, table.term, table.epoch),
        _ => String::new(),
    };
    let mut text = match (causes.len(), follow.len()) {
        (0, 0) if !view.unknown.is_empty() => {
            paint.tone(Tone::Warn, &format!("healthy, as far as you may look{tables}"))
        }
        (0, 0) => paint.tone(Tone::Good, &format!("healthy{tables}")),
        (causes, 0) => paint.tone(Tone::Bad, &format!("{}{tables}", count(causes, "problem"))),
        (causes, follow) => {
            let them = if causes == 1 { "it" } else { "them" };
            let follow = match follow {
                1 => format!("1 that follows from {them}"),
                _ => format!("{follow} that follow from {them}"),
            };
            paint.tone(
                Tone::Bad,
                &format!("{}, and {follow}{tables}", count(causes, "problem")),
            )
        }
    };
    text.push('\n');
    for cause in causes.iter().take(SHOWN) {
        let follows = follow.iter().filter(|problem| follows_from(problem, cause, &follow));
        let follows: Vec<_> = follows.map(|problem| problem.object.as_str()).collect();
        text.push_str(&format!(
            "  {} {}\n",
            paint.tone(Tone::Bad, &cause.object),
            paint.tone(Tone::Bold, &cause.reason)
        ));
        text.push_str(&format!("    {}\n", cause.message));
        if !follows.is_empty() {
            let more = if wide { follows.len() } else { follows.len().min(SHOWN) };
            let rest = match follows.len() - more {
                0 => String::new(),
                rest => format!(" and {rest} more"),
            };
            let shown = format!("    from it: {}{rest}", follows[..more].join(", "));
            text.push_str(&paint.tone(Tone::Faint, &shown));
            text.push('\n');
        }
    }
    if causes.len() > SHOWN {
        text.push_str(&format!("  and {} more: -o json lists all\n", causes.len() - SHOWN));
    }
    for unknown in &view.unknown {
        text.push_str(&paint.tone(Tone::Warn, &format!("unknown: {unknown}")));
        text.push('\n');
    }
    text
}

/// Whether a problem goes back to the cause, over others or not.
fn follows_from(problem: &Problem, cause: &Problem, all: &[&Problem]) -> bool {
    let mut because = problem.because.as_deref();
    // No chain is longer than there are problems, even if two should name each other.
    for _ in 0..=all.len() {
        match because {
            Some(object) if object == cause.object => return true,
            Some(object) => {
                because = all
                    .iter()
                    .find(|p| p.object == object)
                    .and_then(|p| p.because.as_deref())
            }
            None => return false,
        }
    }
    false
}

/// What to do next, where that is plain.
fn hints(view: &StatusView) -> Vec<String> {
    let ranges = view.ranges.iter().filter(|range| range.away);
    let writers = view.writers.iter().filter(|writer| writer.away);
    let namespaces = ranges.clone().map(|range| &range.namespace);
    let namespaces: BTreeSet<_> = namespaces
        .chain(writers.clone().map(|writer| &writer.namespace))
        .collect();
    let each = namespaces
        .iter()
        .map(|namespace| format!("kubectl multiactive failback --all -n {namespace}"));
    let counted = [(ranges.count(), "range"), (writers.count(), "writer")];
    let counted = counted.into_iter().filter(|(away, _)| *away > 0);
    let what: Vec<_> = counted.clone().map(|(away, what)| count(away, what)).collect();
    let are = match counted.map(|(away, _)| away).sum() {
        0 => return Vec::new(),
        1 => "is",
        _ => "are",
    };
    let each: Vec<_> = each.collect();
    vec![format!(
        "{} {are} away from home; {}",
        what.join(" and "),
        each.join("; ")
    )]
}
