//! Keeps the UnitAssignments of one member's namespace: server-side apply where they differ, delete what we made where
//! its Unit is being deleted.

use super::keeper::Keeper;
use super::projection::pause_after;
use super::site::Desk;
use super::trouble::Failing;
use crate::apply::{apply, delete};
use crate::error::Error;
use crate::failpoints::hit;
use kube::ResourceExt;
use multiactive_api::{UnitAssignment, UnitAssignmentSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

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
    mut wanted: watch::Receiver<Option<Arc<Wanted>>>,
    touched: Arc<Notify>,
    desk: Desk,
) {
    let (mut failures, mut failing) = (0_u32, Failing::default());
    loop {
        let now = wanted.borrow_and_update().clone();
        let failed = match &now {
            None => BTreeMap::new(),
            Some(now) => bring_all(&mut keeper, now, &desk).await,
        };
        let member = desk.member.as_str();
        let lasting = failing.take(&failed, (member, &desk.namespace), Instant::now());
        desk.board.assignments(lasting);
        if failed.is_empty() {
            failures = 0;
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = touched.notified() => {}
            }
            continue;
        }
        failures = failures.saturating_add(1);
        let pause = pause_after(failures);
        for (unit, error) in &failed {
            tracing::warn!(
                member,
                unit,
                error = error.chain(),
                ?pause,
                "assigning failed, trying again"
            );
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Brings every assignment to what it shall be; those that failed. One that is refused keeps no other from its unit.
async fn bring_all(keeper: &mut Keeper<UnitAssignment>, wanted: &Wanted, desk: &Desk) -> BTreeMap<String, Error> {
    let mut failed = BTreeMap::new();
    for (unit, want) in wanted {
        if let Err(error) = bring(keeper, unit, want, desk).await {
            failed.insert(unit.clone(), error);
        }
    }
    failed
}

async fn bring(keeper: &mut Keeper<UnitAssignment>, unit: &str, want: &Want, desk: &Desk) -> Result<(), Error> {
    let held = keeper.current(unit).await?;
    let spec = match want {
        Want::Be(spec) => spec,
        Want::Gone => {
            if let Some(held) = held.filter(|held| is_ours(held) && held.metadata.deletion_timestamp.is_none()) {
                delete(&keeper.api, &held).await?;
                desk.metrics.wrote("UnitAssignment");
            }
            return Ok(());
        }
    };
    if held.is_some_and(|held| held.spec == **spec && is_ours(&held)) {
        return Ok(());
    }
    let mut object = UnitAssignment::new(unit, (**spec).clone());
    object.metadata.namespace = Some(desk.namespace.clone());
    object
        .labels_mut()
        .insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    hit("assign-before-write");
    let written = apply(&keeper.api, &object).await?;
    hit("assign-after-write");
    desk.metrics.wrote("UnitAssignment");
    keeper.wrote(written);
    Ok(())
}

fn is_ours(object: &UnitAssignment) -> bool {
    object
        .labels()
        .get(MANAGED_BY.0)
        .is_some_and(|value| value == MANAGED_BY.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::mirror::Mirror;
    use crate::tables::trouble::Board;
    use http::{Request, Response};
    use kube::client::Body;
    use kube::{Api, Client};
    use serde_json::json;

    /// Refuses everything about `a`, and takes all else; the names that it took.
    async fn serve(mut server: tower_test::mock::Handle<Request<Body>, Response<Body>>) -> Vec<String> {
        let mut applied = Vec::new();
        while let Some((request, reply)) = server.next_request().await {
            let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let not_found = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "m"});
            let forbidden = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "m"});
            let (code, body) = match (request.method().as_str(), name.as_str()) {
                ("GET", _) => (404, not_found.to_string().into_bytes()),
                (_, "a") => (403, forbidden.to_string().into_bytes()),
                (_, _) => {
                    let body = request.into_body().collect_bytes().await.unwrap();
                    applied.push(name);
                    (200, body.to_vec())
                }
            };
            reply.send_response(Response::builder().status(code).body(Body::from(body)).unwrap());
        }
        applied
    }

    fn keeper(client: Client) -> Keeper<UnitAssignment> {
        Keeper::new(Api::namespaced(client, "shop"), Mirror::default(), "shop")
    }

    fn desk(wake: Arc<Notify>) -> Desk {
        Desk {
            member: "north".to_owned(),
            namespace: "shop".to_owned(),
            board: Board::new(wake),
            metrics: Metrics::default(),
        }
    }

    fn wanted() -> Wanted {
        let want = |unit: &str| {
            let spec = json!({"unit": unit, "cluster": "north"});
            Want::Be(Box::new(serde_json::from_value(spec).unwrap()))
        };
        ["a", "b", "c"].map(|unit| (unit.to_owned(), want(unit))).into()
    }

    #[tokio::test]
    async fn an_assignment_that_is_refused_keeps_no_other_from_its_unit() {
        let (service, server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let answers = tokio::spawn(serve(server));
        let mut keeper = keeper(Client::new(service, "shop"));
        let failed = bring_all(&mut keeper, &wanted(), &desk(Arc::default())).await;
        drop(keeper);
        assert_eq!(answers.await.unwrap(), ["b", "c"]);
        assert_eq!(failed.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_long_is_told_and_forgotten_when_it_is_not_wanted_any_more() {
        let (service, server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        tokio::spawn(serve(server));
        let wake: Arc<Notify> = Arc::default();
        let desk = desk(Arc::clone(&wake));
        let (sender, receiver) = watch::channel(Some(Arc::new(wanted())));
        let keeper = keeper(Client::new(service, "shop"));
        tokio::spawn(run(keeper, receiver, Arc::default(), desk.clone()));
        wake.notified().await;
        let told = desk.board.read().assignments;
        let told: Vec<_> = told
            .iter()
            .map(|(unit, problem)| (unit.as_str(), problem.reason))
            .collect();
        assert_eq!(told, [("a", "WriteForbidden")]);
        sender.send_replace(Some(Arc::default()));
        wake.notified().await;
        assert_eq!(desk.board.read().assignments, BTreeMap::new());
    }
}
