//! The ledger in the hub's API server: the RoutingTable object `routing`, compared by its resourceVersion.

use crate::{Commit, LIMIT, Ledger, MAX_BYTES, ReadError, Recorded, Version};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use multiactive_api::{ROUTING_TABLE, RoutingTable as RoutingTableObject, RoutingTableSpec};
use multiactive_core::table::RoutingTable;

/// The ledger of one hub. Its client must not retry by itself: a hidden retry turns an unknown outcome into a wrong one.
#[derive(Clone)]
pub struct KubernetesLedger {
    client: Client,
    manager: String,
}

impl KubernetesLedger {
    /// A ledger that writes under the field manager `manager`.
    pub fn new(client: Client, manager: &str) -> Self {
        Self {
            client,
            manager: manager.to_owned(),
        }
    }

    fn api(&self, namespace: &str) -> Api<RoutingTableObject> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

impl Ledger for KubernetesLedger {
    async fn read(&self, namespace: &str) -> Result<Option<Recorded>, ReadError> {
        let unreachable = |message: String| ReadError::Unreachable {
            namespace: namespace.to_owned(),
            message,
        };
        let damaged = |message: String| ReadError::Damaged {
            namespace: namespace.to_owned(),
            message,
        };
        let answer = tokio::time::timeout(LIMIT, self.api(namespace).get_opt(ROUTING_TABLE)).await;
        let object = match answer {
            Ok(Ok(Some(object))) => object,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(kube::Error::SerdeError(error))) => return Err(damaged(error.to_string())),
            Ok(Err(error)) => return Err(unreachable(text(&error))),
            Err(_) => return Err(unreachable(format!("no answer within {LIMIT:?}"))),
        };
        let table = RoutingTable::try_from(&object.spec).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(Recorded {
            table,
            writers: writers(&object.metadata),
            version: Version::of(object.metadata),
        }))
    }

    async fn commit(&self, namespace: &str, expected: Option<&Version>, table: &RoutingTable) -> Commit {
        let spec = match RoutingTableSpec::try_from(table) {
            Ok(spec) => spec,
            Err(error) => return Commit::Refused(error.to_string()),
        };
        match serde_json::to_vec(&spec) {
            Ok(bytes) if bytes.len() > MAX_BYTES => {
                return Commit::Refused(format!("the table has {} bytes, at most {MAX_BYTES} fit", bytes.len()));
            }
            Ok(_) => {}
            Err(error) => return Commit::Refused(error.to_string()),
        }
        let mut object = RoutingTableObject::new(ROUTING_TABLE, spec);
        object.metadata.namespace = Some(namespace.to_owned());
        let api = self.api(namespace);
        let params = PostParams {
            field_manager: Some(self.manager.clone()),
            ..PostParams::default()
        };
        let answer = match expected {
            None => tokio::time::timeout(LIMIT, api.create(&params, &object)).await,
            Some(Version(metadata)) => {
                object.metadata = metadata.clone();
                tokio::time::timeout(LIMIT, api.replace(ROUTING_TABLE, &params, &object)).await
            }
        };
        match answer {
            Ok(Ok(written)) => Commit::Committed(Box::new(Version::of(written.metadata))),
            Ok(Err(error)) => outcome(&error),
            Err(_) => Commit::Unknown(format!("no answer within {LIMIT:?}")),
        }
    }
}

/// The field managers of the latest change of the spec; several where it took place within one second.
fn writers(metadata: &ObjectMeta) -> Vec<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let of_spec = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && fields.is_some_and(|fields| fields.0.get("f:spec").is_some())
    });
    let of_spec: Vec<_> = of_spec.collect();
    let newest = of_spec.iter().filter_map(|entry| entry.time.as_ref()).max();
    let latest = of_spec.iter().filter(|entry| entry.time.as_ref() == newest);
    let mut writers: Vec<_> = latest.filter_map(|entry| entry.manager.clone()).collect();
    writers.sort_unstable();
    writers.dedup();
    writers
}

/// A refusal is known, everything else is not.
pub(crate) fn outcome(error: &kube::Error) -> Commit {
    let kube::Error::Api(status) = error else {
        return Commit::Unknown(text(error));
    };
    // On a create a missing namespace, on a replace a missing record; reading again tells.
    let record_gone = status.is_not_found() && !status.message.contains("namespaces");
    // A server that is too busy or too slow refuses nothing: the same may be written a moment later.
    let busy = matches!(status.code, 408 | 429);
    if status.is_conflict() || status.is_already_exists() || record_gone {
        Commit::Conflict
    } else if (400..500).contains(&status.code) && !busy {
        Commit::Refused(status.message.clone())
    } else {
        Commit::Unknown(text(error))
    }
}

/// An error with its causes; of an answer of the server, what it says.
pub(crate) fn text(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use multiactive_core::epoch::Epoch;
    use serde_json::{Value, json};

    type Mock = tower_test::mock::Handle<Request<Body>, Response<Body>>;

    fn ledger() -> (KubernetesLedger, Mock) {
        let (service, server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        (KubernetesLedger::new(Client::new(service, "ns"), "tester"), server)
    }

    fn table(epoch: u64) -> RoutingTable {
        RoutingTable {
            epoch: Epoch::new(1, epoch),
            ..RoutingTable::default()
        }
    }

    fn object(version: &str, epoch: u64) -> Value {
        json!({
            "apiVersion": "multiactive.io/v1alpha1", "kind": "RoutingTable",
            "metadata": {"name": "routing", "namespace": "ns", "uid": "u", "resourceVersion": version,
                "labels": {"team": "shop"}},
            "spec": {"term": 1, "epoch": epoch, "units": [], "keyspaces": [], "operations": [], "finished": []},
        })
    }

    fn answer(code: u16, body: &Value) -> Response<Body> {
        Response::builder()
            .status(StatusCode::from_u16(code).unwrap())
            .body(Body::from(serde_json::to_vec(body).unwrap()))
            .unwrap()
    }

    fn failure(code: u16, reason: &str) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "m", "reason": reason, "code": code})
    }

    fn version_of(text: &str) -> Version {
        let object: RoutingTableObject = serde_json::from_value(object(text, 7)).unwrap();
        Version::of(object.metadata)
    }

    #[tokio::test]
    async fn a_commit_replaces_exactly_the_version_that_was_read_and_keeps_labels() {
        let (ledger, mut server) = ledger();
        let expected = version_of("41");
        let call = tokio::spawn(async move { ledger.commit("ns", Some(&expected), &table(8)).await });
        let (request, reply) = server.next_request().await.unwrap();
        assert_eq!(request.method(), Method::PUT);
        assert!(
            request
                .uri()
                .query()
                .unwrap_or_default()
                .contains("fieldManager=tester")
        );
        let sent: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        assert_eq!(sent["metadata"]["resourceVersion"], "41");
        assert_eq!(sent["metadata"]["uid"], "u");
        assert_eq!(sent["metadata"]["labels"]["team"], "shop");
        assert_eq!(sent["spec"]["epoch"], 8);
        reply.send_response(answer(200, &object("42", 8)));
        match call.await.unwrap() {
            Commit::Committed(version) => assert_eq!(version.as_str(), "42"),
            other @ (Commit::Conflict | Commit::Refused(_) | Commit::Unknown(_)) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn without_a_version_the_record_is_created() {
        let (ledger, mut server) = ledger();
        let call = tokio::spawn(async move { ledger.commit("ns", None, &table(1)).await });
        let (request, reply) = server.next_request().await.unwrap();
        assert_eq!(request.method(), Method::POST);
        reply.send_response(answer(409, &failure(409, "AlreadyExists")));
        assert_eq!(call.await.unwrap(), Commit::Conflict);
    }

    #[tokio::test]
    async fn each_answer_to_a_commit_has_its_outcome_and_is_asked_for_once() {
        for (code, reason, want) in [
            (409, "Conflict", "conflict"),
            (404, "NotFound", "conflict"),
            (403, "Forbidden", "refused"),
            (422, "Invalid", "refused"),
            (408, "Timeout", "unknown"),
            (429, "TooManyRequests", "unknown"),
            (500, "InternalError", "unknown"),
            (503, "ServiceUnavailable", "unknown"),
            (504, "Timeout", "unknown"),
        ] {
            let (ledger, mut server) = ledger();
            let expected = version_of("41");
            let call = tokio::spawn(async move { ledger.commit("ns", Some(&expected), &table(8)).await });
            let (_, reply) = server.next_request().await.unwrap();
            reply.send_response(answer(code, &failure(code, reason)));
            let got = match call.await.unwrap() {
                Commit::Committed(_) => "committed",
                Commit::Conflict => "conflict",
                Commit::Refused(_) => "refused",
                Commit::Unknown(_) => "unknown",
            };
            assert_eq!(got, want, "{code}");
            assert!(server.next_request().await.is_none(), "{code} was sent twice");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_leaves_the_outcome_unknown() {
        let (ledger, mut server) = ledger();
        let expected = version_of("41");
        let call = tokio::spawn(async move { ledger.commit("ns", Some(&expected), &table(8)).await });
        let _held = server.next_request().await.unwrap();
        assert!(matches!(call.await.unwrap(), Commit::Unknown(_)));
    }

    #[test]
    fn who_wrote_last_is_who_changed_the_spec_last() {
        let entry = |manager: &str, field: &str, second: u32, subresource: &str| {
            json!({"manager": manager, "operation": "Update", "subresource": subresource,
                "time": format!("2026-01-01T00:00:{second:02}Z"), "fieldsType": "FieldsV1", "fieldsV1": {field: {}}})
        };
        let (spec, labels) = ("f:spec", "f:metadata");
        for (entries, want) in [
            (json!([]), &[][..]),
            (
                json!([entry("operator", spec, 1, ""), entry("kubectl-edit", spec, 2, "")]),
                &["kubectl-edit"],
            ),
            (
                json!([entry("operator", spec, 2, ""), entry("kubectl-annotate", labels, 3, "")]),
                &["operator"],
            ),
            (
                json!([entry("operator", spec, 2, ""), entry("other", spec, 3, "status")]),
                &["operator"],
            ),
            (
                json!([entry("operator", spec, 2, ""), entry("kubectl-edit", spec, 2, "")]),
                &["kubectl-edit", "operator"],
            ),
        ] {
            let metadata: ObjectMeta = serde_json::from_value(json!({"managedFields": entries})).unwrap();
            assert_eq!(writers(&metadata), want, "{entries}");
        }
    }

    #[tokio::test]
    async fn a_read_tells_absent_from_damaged_from_unreachable() {
        let damaged = json!({
            "apiVersion": "multiactive.io/v1alpha1", "kind": "RoutingTable",
            "metadata": {"name": "routing", "resourceVersion": "1"},
            "spec": {"term": 1, "epoch": 1, "keyspaces": [{"name": "k", "slots": 4, "spans": "5u@0.0"}]},
        });
        for (code, body, want) in [
            (200, object("41", 7), "found 1.7"),
            (404, failure(404, "NotFound"), "absent"),
            (200, damaged, "damaged"),
            (500, failure(500, "InternalError"), "unreachable"),
        ] {
            let (ledger, mut server) = ledger();
            let call = tokio::spawn(async move { ledger.read("ns").await });
            let (_, reply) = server.next_request().await.unwrap();
            reply.send_response(answer(code, &body));
            let got = match call.await.unwrap() {
                Ok(Some(recorded)) => format!("found {}", recorded.table.epoch),
                Ok(None) => "absent".to_owned(),
                Err(ReadError::Damaged { .. }) => "damaged".to_owned(),
                Err(ReadError::Unreachable { .. }) => "unreachable".to_owned(),
            };
            assert_eq!(got, want);
        }
    }
}
