//! `plan`: what a promotion would do. The operator knows best what stands in the way, for it hears the agents; the one way to
//! ask it is an object of mode Plan. So one is made under a name of this program's own, and deleted as soon as it has
//! answered, was interrupted, or did not answer: a Plan changes nothing and the record forgets it. One that a killed process
//! left is swept by the next `plan` in its namespace.

use crate::cli::{Global, Output, PlanArgs};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::interrupt::Interrupts;
use crate::print::{self, Paint, Tone, note};
use crate::submit::{self, MADE_FOR, Mode};
use crate::text::count;
use crate::verbs::route::read;
use crate::view::plan::{self, PlanView};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::{ListParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use multiactive_api::{Promotion, PromotionPlan};
use serde_json::{Value, json};
use std::time::Duration;

/// For how long the operator is waited for. It answers at once, or does not run.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long a Plan that nobody deleted was left behind.
const LEFT_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Shows it; the exit code says whether something stands in the way.
///
/// # Errors
///
/// Where the objects cannot be read.
pub async fn run(global: &Global, args: PlanArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = session.namespace.clone();
    let stored = fetch::table(&session, &namespace).await?;
    let table = read(&namespace, &stored)?;
    let select = submit::select(&session, &args.movement).await?;
    let world = fetch::world(&session, Some(&namespace)).await?;
    for doubt in world.doubts() {
        note(&doubt);
    }
    let epoch = stored.spec.epoch;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| default_name(&select, &args.movement.to, epoch));
    let promotion = submit::promotion(&namespace, &name, &args.movement, &select, Mode::Execute(epoch))?;
    let mut view = plan::plan(&world, &table, &promotion, Timestamp::now())?;
    match ask(&session, &args, &select).await? {
        Asked::Told(told) => view.told(told),
        Asked::Not(why) => view.not_asked = Some(why),
        Asked::Interrupted(exit) => return Ok(exit),
    }
    match global.output {
        Output::Yaml => print::out(&serde_yaml::to_string(&view.promotion).map_err(Failure::error)?)?,
        Output::Table | Output::Wide | Output::Json => {
            print::view(global.output, "Plan", &view, |paint, _| text(&view, paint))?;
        }
    }
    if view.blockers.is_empty() {
        return Ok(Exit::Ok);
    }
    if global.output == Output::Yaml {
        for blocker in &view.blockers {
            note(&format!("blocker: {blocker}"));
        }
    }
    Ok(Exit::Unhealthy)
}

/// A name that was never used: the epoch grows with every operation.
fn default_name(select: &Value, to: &str, epoch: i64) -> String {
    if let Value::String(store) = &select["dataStore"] {
        return format!("{store}-to-{to}-{epoch}");
    }
    let what = match (&select["ranges"], &select["unit"], &select["slots"]["keyspace"]) {
        (Value::Array(ranges), _, _) if ranges.len() == 1 => ranges[0].as_str().unwrap_or_default().to_owned(),
        (Value::Array(ranges), _, _) => format!("{}-ranges", ranges.len()),
        (_, Value::String(unit), _) => unit.clone(),
        (_, _, keyspace) => format!("{}-slots", keyspace.as_str().unwrap_or("some")),
    };
    format!("{what}-to-{to}-{epoch}")
}

enum Asked {
    Told(PromotionPlan),
    Not(String),
    Interrupted(Exit),
}

async fn ask(session: &Session, args: &PlanArgs, select: &Value) -> Result<Asked> {
    if args.local {
        return Ok(Asked::Not("--local".to_owned()));
    }
    for verb in ["create", "watch", "delete"] {
        if (verb != "delete" || !args.keep) && !may(session, verb).await? {
            return Ok(Asked::Not(format!(
                "you may not {verb} Promotions in {}",
                session.namespace
            )));
        }
    }
    sweep(session).await;
    let nanos = Timestamp::now().as_nanosecond();
    let name = format!("plan-{:x}-{}", nanos, std::process::id());
    let mut promotion = submit::promotion(&session.namespace, &name, &args.movement, select, Mode::Plan)?;
    promotion.labels_mut().insert(MADE_FOR.to_owned(), "plan".to_owned());
    // From here on a signal ends the waiting, and not the process, so that what was made is taken away.
    let mut interrupts = Interrupts::listen()?;
    let asked = tokio::select! {
        exit = interrupts.recv() => Ok(Asked::Interrupted(exit)),
        told = create_and_wait(session, &promotion) => told.map(|told| match told {
            Some(told) => Asked::Told(told),
            None => Asked::Not(format!("the operator did not answer within {}s: does it run?", PATIENCE.as_secs())),
        }),
    };
    if args.keep {
        note(&format!("kept: Promotion {}/{name}", session.namespace));
    } else {
        // Even where the creation failed: its reply may be what was lost.
        submit::clear_away(session, &name).await;
    }
    asked
}

async fn create_and_wait(session: &Session, promotion: &Promotion) -> Result<Option<PromotionPlan>> {
    submit::create(session, promotion, false).await?;
    let api: Api<Promotion> = Api::namespaced(session.watches.clone(), &session.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", promotion.name_any()));
    let mut events = watcher(api, config).default_backoff().boxed();
    let answer = async {
        while let Some(event) = events.next().await {
            if let Ok(Event::InitApply(seen) | Event::Apply(seen)) = event
                && let Some(plan) = seen.status.and_then(|status| status.plan)
            {
                return Some(plan);
            }
        }
        None
    };
    Ok(tokio::time::timeout(PATIENCE, answer).await.ok().flatten())
}

async fn may(session: &Session, verb: &str) -> Result<bool> {
    let review: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes": {
        "verb": verb, "group": multiactive_api::GROUP, "resource": "promotions", "namespace": session.namespace}}}))
    .map_err(Failure::error)?;
    let api: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
    let answer = session
        .ask("asking for your rights", api.create(&PostParams::default(), &review))
        .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Deletes Plans that a killed process left. What fails here is tried by the next one.
async fn sweep(session: &Session) {
    let params = ListParams::default().labels(&format!("{MADE_FOR}=plan"));
    let Ok(left) = session
        .ask("looking for old plans", submit::promotions(session).list(&params))
        .await
    else {
        return;
    };
    let now = Timestamp::now();
    let old = |promotion: &&Promotion| {
        let created = promotion.creation_timestamp();
        created.is_some_and(|created| now.duration_since(created.0) > LEFT_AFTER)
            && crate::text::word(&promotion.spec.mode) == "Plan"
    };
    for promotion in left.items.iter().filter(old) {
        submit::clear_away(session, &promotion.name_any()).await;
    }
}

fn text(view: &PlanView, paint: Paint) -> String {
    let moves = match view.slots {
        0 => "no slot would move".to_owned(),
        slots => format!("{} would move to {}", count(slots, "slot"), view.target),
    };
    let verdict = match view.blockers.len() {
        0 => paint.tone(Tone::Good, "it can run"),
        blockers => paint.tone(Tone::Bad, &count(blockers, "blocker")),
    };
    let mut text = format!("{moves}: {verdict}\n");
    for blocker in &view.blockers {
        text.push_str(&format!("  {}\n", paint.tone(Tone::Bad, blocker)));
    }
    if let Some(why) = &view.not_asked {
        let said = format!("  said by the objects, the operator was not asked: {why}");
        text.push_str(&paint.tone(Tone::Warn, &said));
        text.push('\n');
    }
    if !view.moves.is_empty() {
        let rows: Vec<_> = view
            .moves
            .iter()
            .map(|slot_move| {
                vec![
                    slot_move.source.clone().into(),
                    view.target.clone().into(),
                    slot_move.keyspace.clone().into(),
                    slot_move.count.to_string().into(),
                    slot_move.slots.clone().into(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&print::columns(
            paint,
            &["FROM", "TO", "KEYSPACE", "COUNT", "SLOTS"],
            &rows,
        ));
    }
    let running = view.links.iter().filter(|link| link.state == "Running").count();
    let pause = view.pause.as_ref().map_or_else(
        || "unknown: no promotion was measured here yet".to_owned(),
        |pause| {
            format!(
                "about {}, at most {} of the last {} measured",
                pause.median, pause.longest, pause.measured
            )
        },
    );
    let facts = [
        ("Links", format!("{running} of {} run", view.links.len())),
        (
            "Lag",
            match &view.lag {
                Some(lag) => format!("at most {lag}, as measured last"),
                None => "unknown: it is not measured, or a link is not what it should be".to_owned(),
            },
        ),
        ("Pause", pause),
        (
            "Loss",
            "none: the target opens once all that was written before is there".to_owned(),
        ),
        ("Expected epoch", view.expected_epoch.to_string()),
    ];
    text.push('\n');
    for (name, value) in facts {
        text.push_str(&format!("{:<16}{value}\n", format!("{name}:")));
    }
    if view.blockers.is_empty() {
        let manifest = serde_yaml::to_string(&view.promotion).unwrap_or_default();
        text.push_str(&paint.tone(Tone::Faint, "\n# To do it, apply this (-o yaml prints it alone):\n"));
        text.push_str(&manifest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_goes_where_since_when() {
        for (select, want) in [
            (json!({"type": "Ranges", "ranges": ["users-0"]}), "users-0-to-b-41"),
            (
                json!({"type": "Ranges", "ranges": ["users-0", "users-1"]}),
                "2-ranges-to-b-41",
            ),
            (json!({"type": "Unit", "unit": "a"}), "a-to-b-41"),
            (
                json!({"type": "Slots", "slots": {"keyspace": "users", "slots": "1"}}),
                "users-slots-to-b-41",
            ),
        ] {
            assert_eq!(default_name(&select, "b", 41), want);
        }
    }
}
