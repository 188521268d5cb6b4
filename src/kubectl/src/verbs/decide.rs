//! `decide`: appends a decision to an operation, signed with the name by which the API server knows the user.

use crate::cli::{DecideArgs, Global};
use crate::client::Session;
use crate::confirm::confirm;
use crate::decisions;
use crate::fail::{Exit, Failure, Result};
use crate::operations::{KINDS, Kind, Operation};
use crate::print;
use crate::text;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use multiactive_core::promotion::Step;
use serde_json::{Value, json};

/// How often a decision is sent while others change the object at the same time.
const ATTEMPTS: usize = 5;

/// Does it.
///
/// # Errors
///
/// Where there is no such operation, it cannot be decided any more or not yet, or the server does not allow it.
pub async fn run(global: &Global, args: DecideArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let decision = decisions::named(&args.decision)
        .ok_or_else(|| Failure::usage(format!("there is no decision {}", args.decision)))?;
    match (decision.names_target, &args.target) {
        (true, None) => {
            return Err(Failure::usage(format!(
                "{} needs --target: which unit or range it is about; status.needed of the operation says which",
                decision.name
            )));
        }
        (false, Some(_)) => return Err(Failure::usage(format!("{} takes no --target", decision.name))),
        (true, Some(_)) | (false, None) => {}
    }
    let (kind, name, operation) = find(&session, &args.operation).await?;
    decidable(&session, &operation, decision)?;
    let by = user(&session).await?;
    let object = format!("{} {}/{name}", kind.name, session.namespace);
    let stands = match &operation.status.outcome {
        Some(outcome) => format!("has ended: {outcome}"),
        None => format!("is at {}", stands_at(&operation)),
    };
    confirm(
        global,
        &format!(
            "{object} {stands}. {}{}: it {}. Decide that as {by}",
            decision.name,
            args.target
                .as_deref()
                .map(|target| format!(" of {target}"))
                .unwrap_or_default(),
            decision.does
        ),
    )?;
    let mut entry = json!({"type": decision.name, "by": by, "reason": args.reason});
    if let Some(target) = &args.target {
        entry["target"] = json!(target);
    }
    if let Some(end) = &args.not_after {
        entry["notAfter"] = json!(end.to_string());
    }
    append(&session, kind, &name, &entry).await?;
    let view = json!({"operation": object, "decision": entry});
    print::view(global.output, "Decision", &view, |_, _| {
        format!("{object}: {} decided by {by}\n", decision.name)
    })?;
    Ok(Exit::Ok)
}

/// The operation that is meant, of the kind that is named or of any.
async fn find(session: &Session, wanted: &str) -> Result<(Kind, String, Operation)> {
    let (kinds, name) = match wanted.split_once('/') {
        Some((kind, name)) => {
            let known: Vec<_> = decided().map(|kind| kind.name.to_lowercase()).collect();
            let kind = Kind::named(kind)
                .ok_or_else(|| Failure::usage(format!("{kind} is no kind of operation: {}", known.join(", "))))?;
            if !kind.moves {
                return Err(Failure::usage(format!(
                    "nothing is decided about a {}; who wants no more of it deletes it: kubectl -n {} delete {} {name}",
                    kind.name,
                    session.namespace,
                    kind.name.to_lowercase()
                )));
            }
            (vec![kind], name)
        }
        None => (decided().collect(), wanted),
    };
    let mut found = Vec::new();
    for kind in kinds {
        let doing = format!("reading {} {}/{name}", kind.name, session.namespace);
        if let Some(object) = session.ask_opt(&doing, api(session, kind).get(name)).await? {
            let operation =
                Operation::read(kind, object).map_err(|error| Failure::error(format!("{doing}: {error}")))?;
            found.push((kind, name.to_owned(), operation));
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(found)) => Ok(found),
        (0, _) | (_, None) => Err(Failure::not_found(format!(
            "there is no operation {wanted} in namespace {}: kubectl multiactive status -n {} lists those that run",
            session.namespace, session.namespace
        ))),
        (_, Some(_)) => Err(Failure::usage(format!(
            "several operations are named {name}: write KIND/{name}"
        ))),
    }
}

/// The kinds about which people decide.
fn decided() -> impl Iterator<Item = Kind> {
    KINDS.iter().copied().filter(|kind| kind.moves)
}

fn api(session: &Session, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(session.client.clone(), &session.namespace, &kind.resource())
}

/// Whether the decision means something now: most count until the commit, one only after the end.
fn decidable(session: &Session, operation: &Operation, decision: &decisions::Type) -> Result<()> {
    let object = format!("{} {}/{}", operation.kind.name, session.namespace, operation.name());
    let step = operation.status.step.as_deref().and_then(text::parse_word::<Step>);
    match (&operation.status.outcome, decision.before_commit, step) {
        (Some(outcome), true, _) => {
            let since = operation
                .since()
                .map(|since| format!(" {} ago", text::ago(Timestamp::now(), since)));
            Err(Failure::error(format!(
                "{object} has ended{}: {outcome}",
                since.unwrap_or_default()
            )))
        }
        (None, false, _) => match &operation.spec.lost_unit {
            Some(lost) => Err(Failure::error(format!(
                "{object} has not ended, it is at {}: {} comes afterwards. What only {lost} holds is listed once the unit is \
                 back, and status.needed says so then",
                stands_at(operation),
                decision.name
            ))),
            // Which kind takes which decision, the API server knows.
            None => Ok(()),
        },
        (None, true, Some(step)) if !step.may_abort() => Err(Failure::error(format!(
            "{object} is at {step}, past its commit: the owner has changed, and {} does nothing any more. Its status.waitingFor \
             says what holds up its end; a promotion back undoes it",
            decision.name
        ))),
        (Some(_), false, _) | (None, true, Some(_) | None) => Ok(()),
    }
}

/// The step, for people.
fn stands_at(operation: &Operation) -> &str {
    operation.status.step.as_deref().unwrap_or("Pending")
}

/// The name by which the API server knows the user.
async fn user(session: &Session) -> Result<String> {
    let api: Api<SelfSubjectReview> = Api::all(session.client.clone());
    let review = session
        .ask(
            "asking who you are",
            api.create(&PostParams::default(), &SelfSubjectReview::default()),
        )
        .await?;
    let user = review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username);
    user.ok_or_else(|| Failure::error("asking who you are: the API server does not say"))
}

/// Appends the entry to the list as it is now; who changes it meanwhile makes us look again.
async fn append(session: &Session, kind: Kind, name: &str, entry: &Value) -> Result<()> {
    let api = api(session, kind);
    let doing = format!("deciding about {} {}/{name}", kind.name, session.namespace);
    let params = PatchParams {
        field_manager: Some("kubectl-multiactive".to_owned()),
        ..PatchParams::default()
    };
    for _ in 0..ATTEMPTS {
        let object = session.ask(&doing, api.get(name)).await?;
        let mut decisions = object
            .data
            .pointer("/spec/decisions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if decisions.contains(entry) {
            return Ok(());
        }
        decisions.push(entry.clone());
        let patch = json!({"metadata": {"resourceVersion": object.metadata.resource_version}, "spec": {"decisions": decisions}});
        let sent = async {
            match api.patch(name, &params, &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
                other => other.map(Some),
            }
        };
        if session.ask(&doing, sent).await?.is_some() {
            return Ok(());
        }
    }
    Err(Failure::error(format!(
        "{doing}: others changed it each time: try again"
    )))
}
