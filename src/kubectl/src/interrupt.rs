//! Ctrl-C, SIGTERM and SIGHUP, for verbs that have something to say or to clear away first.

use crate::fail::{Exit, Failure, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a verb.
pub struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Interrupts {
    /// Listens from now on: the signals end nothing by themselves any more.
    ///
    /// # Errors
    ///
    /// Where the system does not let us.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Failure::error(format!("listening for signals: {error}")));
        Ok(Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one; the exit code that says so.
    pub async fn recv(&mut self) -> Exit {
        let kind = tokio::select! {
            _ = self.int.recv() => SignalKind::interrupt(),
            _ = self.term.recv() => SignalKind::terminate(),
            _ = self.hup.recv() => SignalKind::hangup(),
        };
        Exit::Signal(u8::try_from(kind.as_raw_value()).unwrap_or(u8::MAX))
    }
}
