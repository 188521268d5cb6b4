//! The process of a server that is ended, frozen and started again, while others look at it.

use crate::Result;
use crate::files::copy;
use crate::process::Process;
use crate::{Error, process};
use nix::sys::signal::Signal;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it may take to end, once it was told to.
const ENDS: Duration = Duration::from_secs(30);

/// A server's process, where it runs.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Option<Process>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one that was started.
    pub(crate) fn put(&self, process: Process) {
        *self.lock() = Some(process);
    }

    /// Gives it up, for whoever ends it.
    pub(crate) fn take(&self) -> Option<Process> {
        self.lock().take()
    }

    /// Its id; `None` while it is stopped, or once it has ended by itself.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.lock()
            .as_ref()
            .filter(|process| process.ended().is_none())
            .map(Process::pid)
    }

    /// Ends it by a signal, and waits until it has.
    pub(crate) async fn stop(&self, signal: Signal) {
        if let Some(process) = self.take() {
            process.stop(signal, ENDS).await;
        }
    }

    /// Stops it in the midst of what it does. Returns when none of its threads runs any more.
    pub(crate) async fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let started = Instant::now();
        while self.pid().is_some_and(|pid| !process::is_stopped(pid)) && started.elapsed() < ENDS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.lock().as_ref() {
            process.signal(signal);
        }
    }
}

/// Replaces all data of a server that is stopped by what was saved in `from`, as from a backup.
pub(crate) async fn bring_back(data: &Path, from: &Path) -> Result<()> {
    std::fs::remove_dir_all(data).map_err(Error::io("removing", data))?;
    copy(from, data).await
}
