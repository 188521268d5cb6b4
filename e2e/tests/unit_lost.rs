//! A region is lost: all that its unit owned is served elsewhere once its lease is over, what was acknowledged and is lost lies
//! within the bound that was told, and the unit that is back is kept apart. Whether all of it was ended, or stood still for
//! longer than the lease and then goes on as though nothing had been.

use anyhow::Result;
use multiactive_e2e::stage::{Options, Stage};
use multiactive_e2e::story::{self, Loss};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_killed_and_its_users_are_served_elsewhere() -> Result<()> {
    story::a_region_is_lost(&Stage::up_with(Options::default()).await?, Loss::KilledUnheard).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_sleeps_for_longer_than_its_lease_wakes_up_and_serves_nothing() -> Result<()> {
    story::a_region_is_lost(&Stage::up_with(Options::default()).await?, Loss::Frozen).await
}
