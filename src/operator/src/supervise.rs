//! Tasks that must not end: one that panics is logged, counted and begun anew, after pauses that grow.

use crate::metrics::{Metrics, TaskLabels};
use futures::FutureExt;
use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pause after a first panic.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause after further ones; who ran for longer than this begins with the first again.
const LAST: Duration = Duration::from_secs(60);

/// Runs what `begin` gives until it ends by itself; where that panics, `begin` is asked for another. `task` is the kind
/// of work, `name` which one. Dropped, all of it ends.
///
/// What outlives a panic must be sound after it: the maps that tasks share ignore that a lock is poisoned, and are
/// changed by one call each.
pub async fn supervise<F>(metrics: Metrics, task: &'static str, name: String, mut begin: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let mut pause = FIRST;
    loop {
        let began = Instant::now();
        let work = AssertUnwindSafe(async { begin().await });
        let Err(panic) = work.catch_unwind().await else {
            return;
        };
        metrics.panics.get_or_create(&TaskLabels { task }).inc();
        if began.elapsed() > LAST {
            pause = FIRST;
        }
        let panic = text(&*panic);
        tracing::error!(task, name, panic, ?pause, "a task panicked, it begins anew");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST);
    }
}

/// As [`supervise`], for work that starts tasks of its own: what `begin` is given is cancelled when `token` is, and when
/// the work panics, so that the tasks of what panicked do not go on beside those of what begins anew.
pub async fn supervise_with<F>(
    metrics: Metrics,
    task: &'static str,
    name: String,
    token: CancellationToken,
    mut begin: impl FnMut(CancellationToken) -> F,
) where
    F: Future<Output = ()>,
{
    let begin = || {
        let own = token.child_token();
        let ends = own.clone().drop_guard();
        let work = begin(own);
        async move {
            let _ends = ends;
            work.await;
        }
    };
    supervise(metrics, task, name, begin).await;
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_anew_after_growing_pauses_until_it_ends_by_itself() {
        let (metrics, times) = (Metrics::default(), Arc::new(AtomicU32::new(0)));
        let start = Instant::now();
        let begin = || {
            let time = times.fetch_add(1, Ordering::Relaxed);
            // Before the first word as well as in the midst of it.
            assert!(time != 0, "at once");
            async move {
                tokio::task::yield_now().await;
                assert!(time >= 3, "after a while");
            }
        };
        supervise(metrics.clone(), "test", "one".to_owned(), begin).await;
        assert_eq!(times.load(Ordering::Relaxed), 4);
        assert_eq!(start.elapsed(), FIRST + FIRST * 2 + FIRST * 4);
        assert_eq!(metrics.panics.get_or_create(&TaskLabels { task: "test" }).get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tasks_of_what_panicked_end_with_it() {
        let token = CancellationToken::new();
        let mut begun: Vec<CancellationToken> = Vec::new();
        let begin = |own: CancellationToken| {
            assert!(begun.iter().all(CancellationToken::is_cancelled));
            assert!(!own.is_cancelled());
            begun.push(own);
            let last = begun.len() == 3;
            let stop = token.clone();
            async move {
                tokio::task::yield_now().await;
                assert!(last, "again");
                stop.cancel();
            }
        };
        supervise_with(Metrics::default(), "test", "one".to_owned(), token.clone(), begin).await;
        assert_eq!(begun.len(), 3);
        assert!(begun[2].is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_have_an_end_and_a_long_run_is_forgiven() {
        let (metrics, mut times) = (Metrics::default(), 0);
        let mut begun = Vec::new();
        let begin = || {
            times += 1;
            begun.push(Instant::now());
            let (runs_for, ends) = match times {
                10 => (LAST * 2, false),
                11 => (Duration::ZERO, true),
                _ => (Duration::ZERO, false),
            };
            async move {
                tokio::time::sleep(runs_for).await;
                assert!(ends, "again");
            }
        };
        supervise(metrics, "test", "one".to_owned(), begin).await;
        let pauses: Vec<_> = begun.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 121]);
    }
}
