//! One request for each of a few users to every router: who served it, and by which epoch.

use super::console;
use crate::http::Http;
use crate::region::Region;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;

const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

/// Sends the requests and prints who served what.
///
/// # Errors
///
/// Where a request fails, two routers disagree about an owner, or fewer than two units served.
pub async fn show(regions: &[Region]) -> Result<()> {
    let http = Http::default();
    let mut rows = Vec::new();
    let mut owners = BTreeSet::new();
    for (number, user) in USERS.iter().enumerate() {
        let mut served = Vec::new();
        let mut slot = String::new();
        for (index, region) in regions.iter().enumerate() {
            // The number differs by router: each request is an order of its own.
            let uri = format!("{}/orders/{}-{user}", region.router(), 1 + index);
            let answer = http.call("POST", &uri).await?;
            ensure!(
                answer.status().is_success(),
                "POST {uri}: {} {}",
                answer.status(),
                String::from_utf8_lossy(answer.body())
            );
            let header = |name: &str| {
                answer
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            };
            let unit = header("x-multiactive-unit")
                .with_context(|| format!("no x-multiactive-unit on the answer of {uri}"))?;
            slot = header("x-multiactive-slot").unwrap_or_default();
            served.push(format!("{unit} @{}", header("x-multiactive-epoch").unwrap_or_default()));
            owners.insert(unit);
        }
        ensure!(
            served.windows(2).all(|pair| pair[0] == pair[1]),
            "the routers disagree about {user}: {served:?}"
        );
        let [east, north, south]: [String; 3] = served.try_into().ok().with_context(|| format!("user {number}"))?;
        rows.push([(*user).to_owned(), slot, east, north, south]);
    }
    console::table(
        ["user", "slot", "by router east", "by router north", "by router south"],
        rows,
    );
    ensure!(owners.len() > 1, "every user was served by {owners:?}");
    Ok(())
}
