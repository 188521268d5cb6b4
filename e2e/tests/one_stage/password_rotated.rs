//! The password of an agent is changed at a database in the middle of a promotion, under load, and its Secret follows only later:
//! the promotion says which store of which unit lets nobody in and which Secret to change, and ends as soon as that is done; or it
//! ends by itself with the same words, and the slots stay where they were. No order is lost, and no slot is open twice.

use anyhow::Result;
use multiactive_e2e::locked_out::{LockedOut, in_the_middle_of_promotions};
use multiactive_e2e::stage::Stage;

pub(crate) async fn a_promotion_waits_for_the_secret_or_ends_in_words_and_no_order_is_lost(
    stage: &Stage,
) -> Result<()> {
    in_the_middle_of_promotions(stage, LockedOut::ByPassword).await
}
