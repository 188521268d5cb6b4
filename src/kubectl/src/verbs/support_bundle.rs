//! `support-bundle`: what others need to find the cause, in one file. Secrets are never asked for; what objects and logs
//! carry of secrets is taken out; what is left out is said in `summary.txt`.

mod archive;
mod collect;

use crate::cli::{BundleArgs, Global};
use crate::client::Session;
use crate::fail::{Exit, Failure, Result};
use crate::print;
use archive::Archive;
use collect::Collected;
use jiff::Timestamp;
use serde_json::json;
use std::path::PathBuf;

/// Writes it.
///
/// # Errors
///
/// Where the file cannot be written, or the first cluster does not answer.
pub async fn run(global: &Global, args: BundleArgs) -> Result<Exit> {
    let now = Timestamp::now();
    let session = Session::open(global).await?;
    let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
    let file = args
        .file
        .unwrap_or_else(|| PathBuf::from(format!("multiactive-{stamp}.tar.gz")));
    let mut archive = Archive::create(&file, &format!("multiactive-{stamp}"), now)?;
    let mut collected = Collected::default();
    let namespace = session.namespace_named.then(|| session.namespace.clone());
    // Before the long work: where the server does not answer, one error says so.
    let version = crate::verbs::version::read(&session).await?;
    archive.add("version.txt", &crate::verbs::version::text(&version))?;
    collect::cluster(
        &session,
        namespace.as_deref(),
        "hub",
        args.tail,
        &mut archive,
        &mut collected,
    )
    .await?;
    for context in &args.member_contexts {
        let global = Global {
            context: Some(context.clone()),
            ..global.clone()
        };
        let side = format!("members/{context}");
        match Session::open(&global).await {
            Ok(member) => {
                collect::cluster(
                    &member,
                    namespace.as_deref(),
                    &side,
                    args.tail,
                    &mut archive,
                    &mut collected,
                )
                .await?;
            }
            Err(failure) => collected.left_out(&side, &failure),
        }
    }
    let summary = collected.summary(now, &session.place(), &args.member_contexts);
    archive.add("summary.txt", &summary)?;
    archive.finish()?;
    let view = json!({"file": file.display().to_string(), "objects": collected.objects, "events": collected.events,
        "logs": collected.logs, "redacted": collected.redacted, "leftOut": collected.left_out});
    print::view(global.output, "SupportBundle", &view, |_, _| {
        format!("{summary}\nwritten: {}\n", file.display())
    })?;
    if collected.objects == 0 {
        return Err(Failure::error(
            "there is no object of multiactive in it: see what was left out",
        ));
    }
    Ok(Exit::Ok)
}
