//! Keeps the UnitAssignments of one member's namespace: server-side apply where they differ, delete what we made where
//! its Unit is being deleted.

use super::keeper::Keeper;
use crate::apply::{apply, within};
use crate::error::Error;
use crate::failpoints::hit;
use crate::metrics::Metrics;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use multiactive_api::{UnitAssignment, UnitAssignmentSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Says of an object in a member that we made it.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "multiactive");

/// What shall become of one assignment; those that are not named are left as they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// It says this.
    Be(Box<UnitAssignmentSpec>),
    /// It is deleted if we made it: its Unit is being deleted and owns nothing.
    Gone,
}

/// The assignments of a member, by name.
pub type Wanted = BTreeMap<String, Want>;

/// Writes until it is dropped. `touched` tells that an assignment changed.
pub async fn run(
    mut keeper: Keeper<UnitAssignment>,
    namespace: String,
    mut wanted: watch::Receiver<Option<Arc<Wanted>>>,
    touched: Arc<Notify>,
    metrics: Metrics,
    member: String,
) {
    let mut failures = 0_u32;
    loop {
        let now = wanted.borrow_and_update().clone();
        let result = match &now {
            None => Ok(()),
            Some(now) => bring(&mut keeper, &namespace, now, &metrics).await,
        };
        let pause = match result {
            Ok(()) => {
                failures = 0;
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { return },
                    () = touched.notified() => {}
                }
                continue;
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = Duration::from_millis(100 << failures.min(6)).min(Duration::from_secs(5));
                tracing::warn!(member, error = error.chain(), ?pause, "assigning failed, trying again");
                pause
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn bring(
    keeper: &mut Keeper<UnitAssignment>,
    namespace: &str,
    wanted: &Wanted,
    metrics: &Metrics,
) -> Result<(), Error> {
    for (name, want) in wanted {
        let held = keeper.current(name).await?;
        let spec = match want {
            Want::Be(spec) => spec,
            Want::Gone => {
                if let Some(held) = held.filter(|held| is_ours(held) && held.metadata.deletion_timestamp.is_none()) {
                    delete(keeper, &held, name).await?;
                    metrics.wrote("UnitAssignment");
                }
                continue;
            }
        };
        if held.is_some_and(|held| held.spec == **spec && is_ours(&held)) {
            continue;
        }
        let mut object = UnitAssignment::new(name, (**spec).clone());
        object.metadata.namespace = Some(namespace.to_owned());
        object
            .labels_mut()
            .insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        hit("assign-before-write");
        let written = apply(&keeper.api, &object).await?;
        hit("assign-after-write");
        metrics.wrote("UnitAssignment");
        keeper.wrote(written);
    }
    Ok(())
}

fn is_ours(object: &UnitAssignment) -> bool {
    object
        .labels()
        .get(MANAGED_BY.0)
        .is_some_and(|value| value == MANAGED_BY.1)
}

/// Deletes exactly the object that was seen.
async fn delete(keeper: &Keeper<UnitAssignment>, object: &UnitAssignment, name: &str) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let error = |source| Error::Delete {
        kind: "UnitAssignment".into(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let what = || format!("deleting UnitAssignment {name}");
    match within(what, keeper.api.delete(name, &params), error).await {
        Err(error)
            if error
                .status()
                .is_some_and(|status| status.is_not_found() || status.is_conflict()) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}
