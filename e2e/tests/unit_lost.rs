//! A region is lost as by `kill -9` of all of it: all that its unit owned is served elsewhere once its lease is over, what
//! was acknowledged and is lost lies within the bound that was told, and the unit that is back is kept apart.

use anyhow::Result;
use multiactive_e2e::stage::{Options, Stage};
use multiactive_e2e::story;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_killed_and_its_users_are_served_elsewhere() -> Result<()> {
    story::a_region_is_lost(&Stage::up_with(Options::default()).await?).await
}
