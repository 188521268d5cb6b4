//! Whether a namespace is being deleted. Asked of the server when a Unit begins to leave, in a task of its own: it
//! must not stand between two steps.

use super::asking;
use crate::apply::read;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// What is known of one namespace.
#[derive(Default)]
pub struct Terminating {
    asked_for: BTreeSet<String>,
    answer: Arc<Mutex<Option<bool>>>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Terminating {
    /// Whether the namespace is being deleted, as far as that is known now; `leaving` are the uids of the Units that
    /// are. Never waits: `wake` is told of the answer.
    ///
    /// A namespace takes its Units with it after it has begun to go, so that an answer that is younger than the
    /// deletion of every Unit is right for all of them.
    pub fn look(
        &mut self,
        client: &Client,
        namespace: &str,
        leaving: BTreeSet<String>,
        wake: &Arc<Notify>,
    ) -> Option<bool> {
        if leaving.is_empty() {
            *self = Self::default();
            return Some(false);
        }
        if !leaving.is_subset(&self.asked_for) {
            self.asked_for = leaving;
            self.answer = Arc::default();
            let (api, answer) = (Api::all(client.clone()), Arc::clone(&self.answer));
            let ask = ask(api, namespace.to_owned(), answer, Arc::clone(wake));
            self.task = Some(AbortOnDropHandle::new(tokio::spawn(ask)));
        }
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(api: Api<Namespace>, name: String, answer: Arc<Mutex<Option<bool>>>, wake: Arc<Notify>) {
    let (api, name) = (&api, &name);
    let going = || async move {
        let found = read(api, name).await?;
        Ok(Some(found.is_none_or(|namespace| {
            namespace.metadata.deletion_timestamp.is_some()
        })))
    };
    let settle = |going| *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(going);
    asking::ask(&format!("is namespace {name} being deleted?"), going, settle, &wake).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::answer;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_answer_and_each_unit_that_leaves_asks_anew() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let (client, wake) = (Client::new(service, "ns"), Arc::new(Notify::new()));
        let namespace = |going: bool| {
            let deleted = going.then_some("2026-01-01T00:00:00Z");
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "deletionTimestamp": deleted}})
        };
        let failure = json!({"kind": "Status", "code": 500, "reason": "InternalError", "message": "m"});
        let mut terminating = Terminating::default();
        let mut look = |units: &[&str]| {
            let leaving = units.iter().map(|uid| (*uid).to_owned()).collect();
            terminating.look(&client, "shop", leaving, &wake)
        };
        assert_eq!(look(&[]), Some(false), "nobody leaves, nobody is asked");

        assert_eq!(look(&["a"]), None);
        let (_, reply) = server.next_request().await.unwrap();
        assert_eq!(look(&["a"]), None, "the server has not answered");
        reply.send_response(answer(500, &failure));
        let (_, reply) = server.next_request().await.unwrap();
        assert_eq!(look(&["a"]), None, "an error says nothing");
        reply.send_response(answer(200, &namespace(false)));
        wake.notified().await;
        assert_eq!(look(&["a"]), Some(false));

        assert_eq!(
            look(&["a", "b"]),
            None,
            "what was true before b began to leave says nothing of it"
        );
        let (_, reply) = server.next_request().await.unwrap();
        reply.send_response(answer(200, &namespace(true)));
        wake.notified().await;
        assert_eq!(look(&["b"]), Some(true));
    }
}
