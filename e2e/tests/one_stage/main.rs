//! What leaves a fleet as it was, or nearly: scenarios that follow each other on one stage, which is half a minute for each that it is
//! not brought up for. One that fails takes the stage with it, and the next begins on another.
//!
//! `SCENARIO=words` runs only those whose names contain the words.

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use multiactive_e2e::stage::Stage;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

mod large_table;
mod member_api_server_away;
mod member_away_promotion;
mod moves_under_load;
mod password_rotated;
mod promotions_that_end_without_moving;
mod routing_table_deleted;
mod target_not_ready;
mod verification;

/// How long one may take: it may wait for orders that do not come.
const LIMIT: Duration = Duration::from_secs(600);

type Scenario = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, Result<()>>;

macro_rules! scenarios {
    ($($module:ident::$name:ident,)*) => {
        [$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|stage| Box::pin($module::$name(stage))) as Scenario,
        ),)*]
    };
}

/// In this order: the first compares all rows at a pace, and the last fills the routing table.
const SCENARIOS: [(&str, Scenario); 9] = scenarios![
    verification::rows_are_compared_and_repaired_under_load,
    moves_under_load::nothing_fails_or_is_lost_and_git_fights_nothing,
    routing_table_deleted::it_comes_back_above_all_epochs_and_no_request_fails,
    promotions_that_end_without_moving::an_aborted_promotion_moves_nothing_and_costs_no_request,
    member_api_server_away::orders_go_on_without_it_and_slots_move_there_afterwards,
    member_away_promotion::slots_move_past_a_lost_region_which_gets_all_of_it_when_it_returns,
    target_not_ready::a_promotion_to_it_is_refused_with_the_cause_and_no_order_fails,
    password_rotated::a_promotion_waits_for_the_secret_or_ends_in_words_and_no_order_is_lost,
    large_table::slots_move_in_a_table_of_16384_spans_and_what_does_not_fit_is_refused,
];

/// At once: what a test prints is shown only when it has ended.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_scenario_passes() -> Result<()> {
    let words = std::env::var("SCENARIO").unwrap_or_default();
    let chosen: Vec<_> = SCENARIOS
        .into_iter()
        .filter(|(name, _)| name.contains(&words))
        .collect();
    ensure!(!chosen.is_empty(), "no scenario's name contains {words:?}");
    let mut stands: Option<Stage> = None;
    let mut failed = Vec::new();
    for (number, (name, scenario)) in chosen.iter().enumerate() {
        let stage = match stands.take() {
            Some(stage) => stage,
            None => Stage::up().await?,
        };
        let began = Instant::now();
        say(&format!("== {name}"));
        let last = number + 1 == chosen.len();
        let passes = async {
            scenario(&stage).await?;
            if last { Ok(()) } else { stage.as_it_began().await }
        };
        let ended = tokio::time::timeout(LIMIT, AssertUnwindSafe(passes).catch_unwind()).await;
        let why = match ended {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(format!("{error:#}")),
            Ok(Err(_)) => Some("it panicked, as is said in the end".to_owned()),
            Err(_) => Some(format!("it did not end in {LIMIT:?}")),
        };
        let took = began.elapsed();
        match why {
            None => {
                say(&format!("== passed in {took:.0?}: {name}"));
                stands = Some(stage);
            }
            Some(why) => {
                say(&format!("== FAILED after {took:.0?}: {name}: {why}"));
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {failed:?}");
    Ok(())
}
