//! Verifications that DataStores ask for by a schedule: one is made when it is due, and of those that have ended the last few are kept.
//!
//! When the last one was due stands on the Verifications themselves, so that whoever leads goes on. Of a store that has none yet,
//! nothing is due before this operator first saw its schedule.

mod decide;

pub use decide::{MADE_FOR, SCHEDULED_FOR, shown};

use crate::Context;
use crate::apply::delete;
use crate::error::Error;
use decide::{Step, next_look, steps};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use multiactive_api::{DataStore, Verification};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long to wait after something could not be written.
const AGAIN: Duration = Duration::from_secs(10);

/// The longest wait: a clock that was set is noticed then.
const LONGEST: Duration = Duration::from_secs(60);

/// Makes and removes Verifications until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    token.run_until_cancelled(keep(&ctx)).await;
}

async fn keep(ctx: &Context) {
    let mut changes = ctx.hub.changes();
    let mut seen = BTreeMap::new();
    loop {
        let now = Timestamp::now();
        let (stores, verifications) = (ctx.hub.stores.all(), ctx.hub.verifications.all());
        let mut written = true;
        for step in steps(&stores, &verifications, &mut seen, now) {
            written &= perform(ctx, step).await;
        }
        let wait = match written {
            true => next_look(&stores, &verifications, &seen, now)
                .unwrap_or(LONGEST)
                .min(LONGEST),
            false => AGAIN,
        };
        let _ = tokio::time::timeout(wait, async {
            while let Ok(change) = changes.recv().await {
                if written && matches!(&*change.kind, "DataStore" | "Verification") {
                    return;
                }
            }
        })
        .await;
    }
}

/// Whether it was done, or somebody else had done it.
async fn perform(ctx: &Context, step: Step) -> bool {
    let (result, name) = match step {
        Step::Make { store, object } => {
            let name = object.name_any();
            (make(ctx, &store, &object).await, name)
        }
        Step::Remove(object) => (remove(ctx, &object).await, object.name_any()),
    };
    match result {
        Ok(()) => true,
        // Another operator made it.
        Err(error) if error.status().is_some_and(|s| s.is_already_exists()) => true,
        Err(error) => {
            tracing::warn!(
                verification = name,
                error = error.chain(),
                "a scheduled Verification was not written"
            );
            false
        }
    }
}

async fn make(ctx: &Context, store: &DataStore, object: &Verification) -> Result<(), Error> {
    let namespace = store.namespace().unwrap_or_default();
    let api: Api<Verification> = Api::namespaced(ctx.client.clone(), &namespace);
    let name = object.name_any();
    let params = PostParams {
        field_manager: Some(crate::apply::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let made = crate::apply::writing::<Verification, _>("creating", &name, api.create(&params, object)).await;
    ctx.metrics.wrote("Verification");
    made?;
    let note = format!("made Verification {name}, as spec.verification asks for");
    ctx.event(store, EventType::Normal, "VerificationMade", note);
    Ok(())
}

async fn remove(ctx: &Context, object: &Verification) -> Result<(), Error> {
    let api: Api<Verification> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    ctx.metrics.wrote("Verification");
    delete(&api, object).await
}
