//! Asks a server until it answers, in a task of its own: nobody waits for it between two steps.

use crate::error::Error;
use std::time::Duration;
use tokio::sync::Notify;

/// How soon a server is asked again whose answer settles nothing yet.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks again and again until an answer settles the question; then `settle` hears it, and `wake` is told. An error says
/// nothing.
pub(super) async fn ask<T, F: Future<Output = Result<Option<T>, Error>>>(
    what: &str,
    question: impl Fn() -> F,
    settle: impl FnOnce(T),
    wake: &Notify,
) {
    loop {
        let pause = match question().await {
            Ok(Some(answer)) => {
                settle(answer);
                wake.notify_one();
                return;
            }
            Ok(None) => AGAIN,
            Err(error) => {
                tracing::warn!(what, error = error.chain(), "asking again");
                error.retry()
            }
        };
        tokio::time::sleep(pause).await;
    }
}
