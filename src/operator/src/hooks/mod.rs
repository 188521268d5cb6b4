//! Fencing hooks: HTTP endpoints that fence a lost unit from outside, and say whether it is fenced. One question is asked and
//! answered here; when it is asked, and what the answer is good for, is not decided here.
//!
//! # Guarantees
//!
//! Only a `200` whose JSON repeats the operation that was asked about and says `"fenced": true` is a yes. Whatever else comes, or
//! does not come in time, is none. No redirect is followed, no body is read beyond its limit, and the token goes only where the
//! server has proven its name; it stands in no log, no message and no status.

mod answer;
mod call;
mod credentials;

use answer::Answer;
use credentials::Credentials;
use http::Uri;
use kube::Client;
use multiactive_api::FencingHook;
use multiactive_api::convert::parse_duration;
use multiactive_core::promotion::HookSaid;
use serde::Serialize;
use std::time::Duration;

/// What a hook is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The namespace of the deployment.
    pub namespace: String,
    /// The unit that is to be fenced.
    pub lost_unit: String,
    /// The MemberCluster that it lives in.
    pub cluster: String,
    /// The name of the Failover.
    pub failover: String,
    /// The operation that asks: the answer has to repeat it. The same one may ask again and again.
    pub operation: String,
    /// The term of the table at which it asks.
    pub term: u32,
    /// Its epoch: of two questions about a unit the one with the higher pair is the later one.
    pub epoch: u64,
}

/// Asks once. Safe to cancel and to repeat: hooks have to be.
pub async fn ask(client: &Client, hook: &FencingHook, question: &Question) -> HookSaid {
    let timeout = parse_duration("spec.fencingHook.timeout", &hook.timeout);
    let Some(timeout) = timeout.ok().and_then(|timeout| Duration::try_from(timeout).ok()) else {
        return HookSaid::NoAnswer(format!("its timeout, {}, cannot be read", hook.timeout));
    };
    match tokio::time::timeout(timeout, asked(client, hook, question)).await {
        Ok(Ok(Answer { fenced: true, message })) => HookSaid::Fenced(message),
        Ok(Ok(Answer { fenced: false, message })) => HookSaid::NotFenced(message),
        Ok(Err(why)) => HookSaid::NoAnswer(why),
        Err(_) => HookSaid::NoAnswer(format!("no answer within {}", hook.timeout)),
    }
}

async fn asked(client: &Client, hook: &FencingHook, question: &Question) -> Result<Answer, String> {
    let uri: Uri = hook
        .url
        .parse()
        .map_err(|error| format!("its url cannot be read: {error}"))?;
    let credentials = match &hook.credentials {
        Some(name) => Credentials::read(client, &question.namespace, name).await?,
        None => Credentials::default(),
    };
    let body = serde_json::to_vec(question).map_err(|error| format!("the question cannot be written: {error}"))?;
    let (status, body) = call::post(&uri, &credentials, body).await?;
    answer::read(status, &body, &question.operation)
}
