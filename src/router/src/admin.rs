//! `/route`: what this router would do with a request, and why.

use crate::headers::is_ours;
use crate::resolve::{Refusal, resolve};
use crate::state::State;
use bytes::Bytes;
use futures::FutureExt;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use multiactive_core::path::decode;
use multiactive_core::route::{Asked, Decision, Origin, Shows, decide};
use multiactive_runtime::probes::Extra;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::sync::Arc;

/// A decision, explained.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The unit of this router.
    pub unit: String,
    /// The epoch of its table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Serve, Forward, Hold, Unowned or Refuse.
    pub decision: &'static str,
    /// Why it is held or refused, one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What is wrong, where it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The prefix of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The backend's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The keyspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u16>,
    /// The slot's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The state of its span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The epoch of its span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Whether the agent is connected.
    pub agent_connected: bool,
    /// The table to which the agent brought the stores: of the keyspace, or of all where none is known.
    pub agent_applied: String,
}

/// The route for the probes' server: `/route?path=/orders/7&header=x-user-id:42&method=POST`.
pub fn routes(state: Arc<State>) -> Extra {
    Arc::new(move |parts: Parts| {
        let state = state.clone();
        async move { (parts.uri.path() == "/route").then(|| page(&state, parts.uri.query().unwrap_or_default())) }
            .boxed()
    })
}

fn page(state: &State, query: &str) -> Response<Full<Bytes>> {
    let (status, page) = match ask(query) {
        Ok((method, path, headers)) => (
            StatusCode::OK,
            serde_json::to_vec_pretty(&explain(state, &method, &path, &headers)),
        ),
        Err(message) => (
            StatusCode::BAD_REQUEST,
            serde_json::to_vec_pretty(&serde_json::json!({"message": message})),
        ),
    };
    let mut page = page.unwrap_or_default();
    page.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(page)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn ask(query: &str) -> Result<(Method, String, HeaderMap), String> {
    let (mut method, mut path, mut headers) = (Method::GET, None, HeaderMap::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let text = text.replace('+', " ");
        let bytes: Vec<u8> = percent_decode_str(&text).collect();
        match name {
            "path" => path = Some(String::from_utf8(bytes).map_err(|_| "path is not UTF-8")?),
            "method" => method = Method::from_bytes(&bytes).map_err(|_| "no such method")?,
            "header" => {
                let colon = bytes
                    .iter()
                    .position(|byte| *byte == b':')
                    .ok_or("header is name:value")?;
                let name = HeaderName::from_bytes(&bytes[..colon]).map_err(|_| "no header name")?;
                let text = HeaderValue::from_bytes(bytes[colon + 1..].trim_ascii()).map_err(|_| "no header value")?;
                // As for requests from outside.
                if !is_ours(name.as_str()) {
                    headers.append(name, text);
                }
            }
            other => return Err(format!("unknown parameter {other}: path, header and method are known")),
        }
    }
    let path = path.ok_or("give the path: /route?path=/orders/7&header=x-user-id:42&method=POST")?;
    Ok((method, path, headers))
}

/// What this router would do with a client's request.
pub fn explain(state: &State, method: &Method, path: &str, headers: &HeaderMap) -> Explained {
    let view = state.view.load();
    let mut explained = Explained {
        unit: state.unit.to_string(),
        agent_connected: view.connected.is_some(),
        agent_applied: view.applied.epoch.to_string(),
        decision: "Refuse",
        ..Explained::default()
    };
    let Some(compiled) = &view.compiled else {
        explained.reason = Some("NoTable");
        return explained;
    };
    explained.table = Some(compiled.epoch.to_string());
    let path = path.split('?').next().unwrap_or_default();
    let decoded = decode(path).map_err(Refusal::from);
    let resolved = match decoded
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|path| resolve(compiled, path, headers))
    {
        Ok(resolved) => resolved,
        Err(refusal) => {
            explained.reason = Some(refusal.reason());
            explained.message = Some(refusal.to_string());
            return explained;
        }
    };
    explained.route = Some(resolved.route.prefix.clone());
    explained.backend = Some(resolved.route.backend.clone());
    explained.keyspace = Some(resolved.keyspace.name.to_string());
    let Some((key, slot)) = resolved.key else {
        explained.decision = "Serve";
        return explained;
    };
    explained.key = Some(key.to_owned());
    explained.slot = Some(slot);
    let keyspace = resolved.route.keyspace;
    let Some(found) = compiled.entry(keyspace, slot) else {
        explained.decision = "Unowned";
        return explained;
    };
    let (entry, agent) = (found.entry, view.agent(keyspace, found));
    explained.agent_applied = agent.applied.to_string();
    explained.owner = entry.owner.as_ref().map(ToString::to_string);
    explained.state = Some(format!("{:?}", entry.state));
    explained.epoch = Some(entry.epoch.to_string());
    let asked = Asked {
        write: !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
        origin: Origin::Client,
        local: compiled.reads_locally(resolved.keyspace),
        shows: resolved.keyspace.shows(Shows::Any),
    };
    explained.decision = match decide(&compiled.declared.unit, compiled.epoch, entry, asked, agent) {
        Decision::Serve => "Serve",
        Decision::Forward(_) => "Forward",
        Decision::Hold(wait) => {
            explained.reason = Some(wait.reason());
            "Hold"
        }
        // Only requests of other routers are sent back.
        Decision::Misdirected { .. } => "Refuse",
        Decision::Unowned => "Unowned",
        Decision::TooOld => "TooOld",
    };
    explained
}
