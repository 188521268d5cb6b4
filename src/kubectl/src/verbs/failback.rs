//! `failback`: brings ranges home, one promotion for each home unit, one after the other.

use crate::cli::{FailbackArgs, Global, Move, Select};
use crate::client::Session;
use crate::confirm::confirm;
use crate::fail::{Exit, Result};
use crate::fetch;
use crate::interrupt::Interrupts;
use crate::print::{self, Paint, note};
use crate::submit::{self, Mode};
use crate::text::count;
use crate::verbs::promote::{print_created, to_its_end};
use crate::verbs::route::read;
use crate::view::away::{self, Group};
use multiactive_api::{DataStore, ShardRange, VerifyMode};
use serde_json::json;

/// Does it; the exit code is that of the first promotion that did not succeed.
///
/// # Errors
///
/// Where it is not confirmed, or a promotion cannot be created.
pub async fn run(global: &Global, args: FailbackArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = &session.namespace;
    let stored = fetch::table(&session, namespace).await?;
    let table = read(namespace, &stored)?;
    let ranges: Vec<ShardRange> = fetch::sort(
        fetch::objects::<ShardRange>(&session, Some(namespace)).await?,
        &mut Vec::new(),
    );
    let stores: Vec<DataStore> = fetch::sort(
        fetch::objects::<DataStore>(&session, Some(namespace)).await?,
        &mut Vec::new(),
    );
    let (groups, at_home) = away::groups(&ranges, &stores, &table, &args.ranges)?;
    if !args.ranges.is_empty() && !at_home.is_empty() {
        note(&format!("at home already: {}", at_home.join(", ")));
    }
    if groups.is_empty() {
        print::out("every range and every writer is at home: nothing to do\n")?;
        return Ok(Exit::Ok);
    }
    note(table_of(&groups, Paint::OFF).trim_end());
    if args.dry_run.is_none() {
        let what = format!(
            "Move {} home with {}",
            count(slots(&groups), "slot"),
            count(groups.len(), "promotion")
        );
        confirm(global, &what)?;
    }
    let mut interrupts = Interrupts::listen()?;
    for group in &groups {
        let select = match &group.store {
            Some(store) => json!({"type": "DataStore", "dataStore": store}),
            None => json!({"type": "Ranges", "ranges": group.ranges}),
        };
        let promotion = submit::promotion(
            namespace,
            &group.name,
            &movement(group),
            &select,
            Mode::Execute(stored.spec.epoch),
        )?;
        let created = submit::create(&session, &promotion, args.dry_run.is_some()).await?;
        if args.dry_run.is_some() || args.no_wait {
            let done = if args.dry_run.is_some() {
                "would be created (server dry run)"
            } else {
                "created"
            };
            print_created(global, &session, &created, done)?;
            continue;
        }
        let exit = to_its_end(global, &session, &group.name, &mut interrupts).await?;
        if exit != Exit::Ok {
            return Ok(exit);
        }
    }
    Ok(Exit::Ok)
}

fn slots(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.slots).sum()
}

fn movement(group: &Group) -> Move {
    Move {
        to: group.to.clone(),
        select: Select::default(),
        keyspace: None,
        verify: VerifyMode::None,
        fence: multiactive_api::default_fence_budget(),
        drain: multiactive_api::default_drain_budget(),
    }
}

fn table_of(groups: &[Group], paint: Paint) -> String {
    let rows: Vec<_> = groups
        .iter()
        .map(|group| {
            vec![
                group.name.clone().into(),
                group.to.clone().into(),
                group.slots.to_string().into(),
                group.store.clone().unwrap_or_else(|| group.ranges.join(",")).into(),
            ]
        })
        .collect();
    print::columns(paint, &["PROMOTION", "TO", "SLOTS", "OF"], &rows)
}
