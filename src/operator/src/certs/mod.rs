//! Being written.

use crate::Context;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs until `token` is cancelled.
pub async fn run(ctx: Arc<Context>, token: CancellationToken) {
    let _ = ctx;
    token.cancelled().await;
}
