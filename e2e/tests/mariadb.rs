//! The shop on MariaDB: ranges move under load without an error, and a region that is lost is taken over, comes back, says what
//! only it holds, and gets its slots back, whether all of it was ended or stood still for longer than its lease.

use anyhow::Result;
use multiactive_e2e::region::Engine;
use multiactive_e2e::stage::{Options, Stage};
use multiactive_e2e::story::{self, Loss};

async fn up() -> Result<Stage> {
    let engine = Engine::MariaDb;
    Stage::up_with(Options {
        engine,
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_and_units_move_under_load_and_nothing_fails_or_is_lost() -> Result<()> {
    story::nothing_fails_or_is_lost(&up().await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_killed_taken_over_and_comes_home() -> Result<()> {
    story::a_region_is_lost(&up().await?, Loss::Killed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn a_region_that_sleeps_for_longer_than_its_lease_wakes_up_and_serves_nothing() -> Result<()> {
    story::a_region_is_lost(&up().await?, Loss::Frozen).await
}
