//! The certificate of a database expires in the middle of a promotion, under load, and is renewed only later: the promotion says which
//! store of which unit cannot prove who it is, and ends as soon as it can; or it ends by itself with the same words, and the slots
//! stay where they were. No order is lost, and no slot is open twice.

use anyhow::Result;
use multiactive_e2e::locked_out::{LockedOut, in_the_middle_of_promotions};
use multiactive_e2e::region::Engine;
use multiactive_e2e::stage::{Options, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn a_promotion_waits_for_the_certificate_or_ends_in_words_and_no_order_is_lost() -> Result<()> {
    let stage = Stage::up_with(Options {
        engine: Engine::MariaDb,
        ..Options::default()
    })
    .await?;
    in_the_middle_of_promotions(&stage, LockedOut::ByCertificate).await
}
