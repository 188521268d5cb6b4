//! Whether the Promotion or Failover of a running operation is gone. A copy that does not show it proves nothing: the server is asked,
//! by name, and the uid compared. In tasks of their own: they must not stand between two steps.

use super::asking;
use crate::apply::within;
use crate::error::Error;
use kube::{Api, Client, Resource, ResourceExt};
use multiactive_api::{Failover, Promotion};
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::OperationKind;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// What is known of operations whose object the copy does not show.
#[derive(Default)]
pub struct Gone {
    answers: Arc<Mutex<BTreeSet<OperationUid>>>,
    asking: BTreeMap<OperationUid, AbortOnDropHandle<()>>,
}

impl Gone {
    /// Those of `missing`, by the uid of the object, with kind and name, whose object the server is known not to have any more. Never waits: `wake` is
    /// told of the answer. A uid is never used again, so that answer stays true.
    pub fn look(
        &mut self,
        client: &Client,
        namespace: &str,
        missing: &BTreeMap<OperationUid, (OperationKind, String)>,
        wake: &Arc<Notify>,
    ) -> BTreeSet<OperationUid> {
        self.asking.retain(|uid, _| missing.contains_key(uid));
        for (uid, (kind, name)) in missing {
            self.asking.entry(uid.clone()).or_insert_with(|| {
                let (of, answers, wake) = ((uid.clone(), name.clone()), Arc::clone(&self.answers), Arc::clone(wake));
                let client = client.clone();
                let ask = match kind {
                    OperationKind::Promotion => {
                        tokio::spawn(ask(Api::<Promotion>::namespaced(client, namespace), of, answers, wake))
                    }
                    OperationKind::Failover => {
                        tokio::spawn(ask(Api::<Failover>::namespaced(client, namespace), of, answers, wake))
                    }
                };
                AbortOnDropHandle::new(ask)
            });
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|uid| missing.contains_key(uid));
        answers.clone()
    }
}

async fn ask<K>(
    api: Api<K>,
    (uid, name): (OperationUid, String),
    answers: Arc<Mutex<BTreeSet<OperationUid>>>,
    wake: Arc<Notify>,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let (api, uid, name) = (&api, &uid, &name);
    let gone = || async move {
        let found = uid_of(api, name).await?;
        Ok((found.as_deref() != Some(uid.as_str())).then_some(()))
    };
    let settle = |()| {
        answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.clone());
    };
    asking::ask(&format!("was {} {name} deleted?", K::kind(&())), gone, settle, &wake).await;
}

/// The uid of the object of this name, of whatever else it may consist.
async fn uid_of<K>(api: &Api<K>, name: &str) -> Result<Option<String>, Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let error = |source| Error::Read {
        kind: K::kind(&()).into_owned().into(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let what = || format!("reading {} {name}", K::kind(&()));
    let found = within(what, api.get_metadata_opt(name), error).await?;
    Ok(found.and_then(|object| object.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::answer;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn only_the_server_says_that_a_promotion_is_gone() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let (client, wake) = (Client::new(service, "ns"), Arc::new(Notify::new()));
        let object = |uid: &str| {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "move", "uid": uid}})
        };
        let failure = json!({"kind": "Status", "code": 500, "reason": "InternalError", "message": "m"});
        let missing: BTreeMap<_, _> = [("one".into(), (OperationKind::Promotion, "move".to_owned()))].into();
        for (last, body) in [
            (
                404,
                json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "m"}),
            ),
            (200, object("two")),
        ] {
            let mut gone = Gone::default();
            assert!(gone.look(&client, "shop", &BTreeMap::new(), &wake).is_empty());
            let mut look = || gone.look(&client, "shop", &missing, &wake);
            assert!(look().is_empty(), "the copy alone says nothing");
            for (code, body) in [(500, failure.clone()), (200, object("one"))] {
                let (_, reply) = server.next_request().await.unwrap();
                reply.send_response(answer(code, &body));
                assert!(look().is_empty(), "{code}");
            }
            let (request, reply) = server.next_request().await.unwrap();
            assert!(
                request.uri().path().ends_with("/namespaces/shop/promotions/move"),
                "{}",
                request.uri()
            );
            assert!(look().is_empty(), "it was there when it answered last");
            reply.send_response(answer(last, &body));
            wake.notified().await;
            assert_eq!(look(), ["one".into()].into(), "{last}");
            assert!(gone.look(&client, "shop", &BTreeMap::new(), &wake).is_empty());
        }
    }
}
