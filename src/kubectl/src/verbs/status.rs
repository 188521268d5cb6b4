//! `status`: what a person looks at first.

use crate::cli::{Global, StatusArgs};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::fetch;
use crate::print;
use crate::view::{status, status_text};
use jiff::Timestamp;

/// Shows it; the exit code says whether all is well.
///
/// # Errors
///
/// Where it cannot be read, or nothing is there.
pub async fn run(global: &Global, args: StatusArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = (!args.namespaces.all).then_some(session.namespace.as_str());
    let world = fetch::world(&session, namespace).await?;
    if let Some(namespace) = namespace.filter(|_| world.has_no_deployment()) {
        return Err(fetch::nothing_here(&session, namespace, "has no deployment of multiactive").await);
    }
    let missing = status::missing(&world, &args.names);
    if !missing.is_empty() {
        let place = namespace.map_or_else(
            || "any namespace".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        return Err(Failure::not_found(format!(
            "there is no Unit and no ShardRange {} in {place}",
            missing.join(", ")
        )));
    }
    let view = status::status(&world, &args.names, Timestamp::now());
    print::view(global.output, "Status", &view, |paint, wide| {
        status_text::text(&view, paint, wide)
    })?;
    Ok(if view.healthy { Exit::Ok } else { Exit::Unhealthy })
}
