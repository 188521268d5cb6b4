//! `version`: of this program, of the API server, and of the operator where it can be seen.

use crate::cli::{Global, VersionArgs};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::print;
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::ApiResource;
use serde::Serialize;

/// The versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// This program's.
    pub client: String,
    /// The API server's; absent where it was not asked or did not answer.
    pub server: Option<String>,
    /// The operator, where it can be seen.
    pub operator: Option<OperatorView>,
    /// Why it is not known, where it is not.
    pub operator_unknown: Option<String>,
}

/// The operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorView {
    /// Its namespace.
    pub namespace: String,
    /// Its version, by its label.
    pub version: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// How many replicas are ready.
    pub ready: i32,
    /// How many there shall be.
    pub replicas: i32,
}

/// Shows them.
///
/// # Errors
///
/// Where the server does not answer.
pub async fn run(global: &Global, args: VersionArgs) -> Result<Exit> {
    let view = if args.client {
        VersionView {
            client: env!("CARGO_PKG_VERSION").to_owned(),
            server: None,
            operator: None,
            operator_unknown: Some("no cluster was asked".to_owned()),
        }
    } else {
        read(&Session::open(global).await?).await?
    };
    print::view(global.output, "Version", &view, |_, _| text(&view))?;
    Ok(Exit::Ok)
}

/// The versions of a cluster.
///
/// # Errors
///
/// Where the server does not answer.
pub async fn read(session: &Session) -> Result<VersionView> {
    let server = session
        .ask("asking for the version", session.client.apiserver_version())
        .await?;
    let (operator, operator_unknown) = match operator(session).await {
        Ok(Some(operator)) => (Some(operator), None),
        Ok(None) => (
            None,
            Some("no Deployment of it is in this cluster: is it the hub?".to_owned()),
        ),
        Err(failure) => (None, Some(failure.to_string())),
    };
    Ok(VersionView {
        client: env!("CARGO_PKG_VERSION").to_owned(),
        server: Some(server.git_version),
        operator,
        operator_unknown,
    })
}

async fn operator(session: &Session) -> Result<Option<OperatorView>> {
    let all = fetch::dynamic(session, &ApiResource::erase::<Deployment>(&()), None).await?;
    let label = |object: &kube::core::DynamicObject, name: &str| object.metadata.labels.as_ref()?.get(name).cloned();
    let is_operator = |object: &kube::core::DynamicObject| {
        label(object, "app.kubernetes.io/name").as_deref() == Some("multiactive")
            && label(object, "app.kubernetes.io/component").as_deref() == Some("operator")
    };
    let Some(found) = all.into_iter().find(is_operator) else {
        return Ok(None);
    };
    let version = label(&found, "app.kubernetes.io/version");
    let deployment: Deployment = serde_json::to_value(found)
        .and_then(serde_json::from_value)
        .map_err(Failure::error)?;
    let spec = deployment.spec.unwrap_or_default();
    let containers = spec.template.spec.map(|pod| pod.containers).unwrap_or_default();
    Ok(Some(OperatorView {
        namespace: deployment.metadata.namespace.unwrap_or_default(),
        version,
        image: containers.into_iter().next().and_then(|container| container.image),
        ready: deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0),
        replicas: spec.replicas.unwrap_or(1),
    }))
}

/// For people.
pub fn text(view: &VersionView) -> String {
    let mut text = format!("Client:    {}\n", view.client);
    if let Some(server) = &view.server {
        text.push_str(&format!("Server:    {server}\n"));
    }
    match (&view.operator, &view.operator_unknown) {
        (Some(operator), _) => {
            let version = operator.version.as_deref().unwrap_or("unknown");
            let image = operator.image.as_deref().unwrap_or("no image");
            text.push_str(&format!(
                "Operator:  {version} ({image}), {} of {} ready in {}\n",
                operator.ready, operator.replicas, operator.namespace
            ));
        }
        (None, Some(why)) if view.server.is_some() => text.push_str(&format!("Operator:  unknown: {why}\n")),
        (None, _) => {}
    }
    text
}
