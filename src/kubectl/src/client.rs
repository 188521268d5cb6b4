//! The API server that the user means: kubeconfig, context, namespace as kubectl finds them; every request has its limit
//! of time, and every error says what was being done and what to do.

use crate::cli::Global;
use crate::fail::{Failure, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use multiactive_runtime::kube_client::{Patience, from_config};
use std::future::Future;
use std::time::Duration;

/// A connection to an API server, and the namespace that is meant.
#[derive(Clone)]
pub struct Session {
    /// For single requests.
    pub client: Client,
    /// For watches.
    pub watches: Client,
    /// The namespace of `-n`, else of the context.
    pub namespace: String,
    /// Whether the namespace was named by `-n`.
    pub namespace_named: bool,
    /// The context.
    pub context: Option<String>,
    /// The API server's address.
    pub server: String,
    timeout: Duration,
}

impl Session {
    /// Connects as the flags say; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Where there is no usable kubeconfig.
    pub async fn open(global: &Global) -> Result<Self> {
        let (mut config, context) = config(global).await?;
        if let Some(namespace) = &global.namespace {
            config.default_namespace.clone_from(namespace);
        }
        let namespace = config.default_namespace.clone();
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let timeout = global.request_timeout;
        let requests = Patience {
            connect: timeout.min(Patience::REQUESTS.connect),
            read: timeout,
        };
        let client = |patience| from_config(config.clone(), patience).map_err(|error| Failure::error(chain(&error)));
        Ok(Self {
            client: client(requests)?,
            watches: client(Patience {
                connect: requests.connect,
                ..Patience::WATCHES
            })?,
            namespace,
            namespace_named: global.namespace.is_some(),
            context,
            server,
            timeout,
        })
    }

    /// Sends a request within the limit of time; `doing` begins the error, such as `listing Units`.
    ///
    /// # Errors
    ///
    /// What went wrong and what to do.
    pub async fn ask<T>(&self, doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(doing, &error)),
            Err(_) => Err(self.silent(doing)),
        }
    }

    /// The same, where that there is no such object is an answer.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn ask_opt<T>(&self, doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<Option<T>> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(kube::Error::Api(status))) if is_missing_object(&status) => Ok(None),
            Ok(Err(error)) => Err(self.explain(doing, &error)),
            Err(_) => Err(self.silent(doing)),
        }
    }

    /// What an error means.
    pub fn explain(&self, doing: &str, error: &kube::Error) -> Failure {
        let kube::Error::Api(status) = error else {
            let text = chain(error);
            let place = self.place();
            return match text.contains("timed out") || text.contains("deadline has elapsed") {
                true => self.silent(doing),
                false => Failure::error(format!("{doing}: {place} cannot be reached: {text}")),
            };
        };
        let message = status.message.trim();
        match status.code {
            401 => Failure::error(format!(
                "{doing}: {} does not know who you are ({message}): renew the credentials of the kubeconfig",
                self.place()
            )),
            403 => Failure::Forbidden(format!(
                "{doing}: {message}. A role of the chart that allows it: multiactive-view to look, multiactive-failover to move"
            )),
            404 if is_missing_object(status) => Failure::not_found(format!("{doing}: {message}")),
            404 => self.not_installed(doing),
            409 if status.reason == "AlreadyExists" => Failure::error(format!("{doing}: {message}")),
            422 => Failure::error(format!("{doing}: the API server refused it: {message}")),
            _ => Failure::error(format!("{doing}: {} answered {}: {message}", self.place(), status.code)),
        }
    }

    fn not_installed(&self, doing: &str) -> Failure {
        Failure::error(format!(
            "multiactive is not installed in this cluster: {} does not know the kinds of multiactive.io ({doing}). Is it the hub? \
             Choose its context with --context, or install the chart",
            self.place()
        ))
    }

    fn silent(&self, doing: &str) -> Failure {
        Failure::error(format!(
            "{doing}: no answer from {} within {} (--request-timeout). Is it up, and does a network lie between?",
            self.place(),
            crate::text::span(jiff::SignedDuration::try_from(self.timeout).unwrap_or(jiff::SignedDuration::MAX))
        ))
    }

    /// The API server, for people.
    pub fn place(&self) -> String {
        match &self.context {
            Some(context) => format!("the API server {} (context {context})", self.server),
            None => format!("the API server {}", self.server),
        }
    }
}

/// Whether this is about one object, and not about a kind that the server does not have.
fn is_missing_object(status: &kube::core::Status) -> bool {
    status.code == 404
        && status.reason == "NotFound"
        && !status.message.contains("could not find the requested resource")
}

async fn config(global: &Global) -> Result<(Config, Option<String>)> {
    let said = |error: &dyn std::error::Error| Failure::error(format!("reading the kubeconfig: {}", chain(error)));
    let kubeconfig = match &global.kubeconfig {
        Some(path) => Some(Kubeconfig::read_from(path).map_err(|error| said(&error))?),
        None => match Kubeconfig::read() {
            Ok(kubeconfig) => Some(kubeconfig),
            Err(error) => {
                // In a pod there is none, and none is needed.
                let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && global.context.is_none();
                if !in_pod {
                    return Err(said(&error));
                }
                None
            }
        },
    };
    let Some(kubeconfig) = kubeconfig else {
        let config = Config::incluster().map_err(|error| Failure::error(chain(&error)))?;
        return Ok((config, None));
    };
    let context = global.context.clone().or_else(|| kubeconfig.current_context.clone());
    let known: Vec<_> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    match &context {
        Some(name) if !known.contains(name) => {
            let known = known.join(", ");
            return Err(Failure::error(format!(
                "the kubeconfig has no context {name}; it has: {known}"
            )));
        }
        None => {
            return Err(Failure::error(
                "the kubeconfig has no current context: name one with --context",
            ));
        }
        Some(_) => {}
    }
    let options = KubeConfigOptions {
        context: context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Ok((config.map_err(|error| said(&error))?, context))
}

/// An error with its causes, none said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
