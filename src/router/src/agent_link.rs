//! The connection to the unit's agent: what the router routes by and has in flight goes there, what the stores stand
//! at comes back. Made again for ever while it is lost; it says `Goodbye` when the router ends on purpose.

use crate::state::State;
use multiactive_core::wire::{
    AgentToRouter, MAX_LINE, PROTOCOL, RouterHello, RouterReport, RouterToAgent, read_line, write_line,
};
use multiactive_runtime::certs::{PeerStream, TlsFiles, agent_name};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pauses between attempts, in milliseconds.
const PAUSES: [u64; 5] = [100, 200, 500, 1_000, 2_000];
/// The longest time to connect, handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// Who this router is to its agent.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it shares with the requests.
    pub state: Arc<State>,
    /// Its certificates.
    pub tls: TlsFiles,
    /// The agent, host:port.
    pub agent: String,
    /// The router's name.
    pub router: String,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("unit", &self.unit)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Keeps the connection until `goodbye`, which is cancelled when the router has nothing in flight any more.
    pub async fn run(self, goodbye: CancellationToken) {
        let mut changes = self.state.changes();
        let mut failures = 0;
        loop {
            let session = self.session(&mut changes, &goodbye, &mut failures);
            let ended = session.await;
            self.state.asking.reset();
            self.state.agent_connected(false);
            match ended {
                Ok(()) => return,
                Err(_) if goodbye.is_cancelled() => return,
                Err(error) => tracing::warn!(agent = self.agent, %error, "the agent is not connected, trying again"),
            }
            let pause = Duration::from_millis(PAUSES[failures.min(PAUSES.len() - 1)]);
            failures += 1;
            if goodbye.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One connection, until it breaks or the goodbye is said.
    async fn session(
        &self,
        changes: &mut watch::Receiver<Option<multiactive_core::epoch::Epoch>>,
        goodbye: &CancellationToken,
        failures: &mut usize,
    ) -> io::Result<()> {
        let Some(stream) = goodbye.run_until_cancelled(self.connect(changes)).await else {
            return Ok(());
        };
        let (read, mut write) = split(stream?);
        let hello = RouterHello {
            protocol: PROTOCOL,
            namespace: self.state.namespace.clone(),
            unit: self.state.unit.0.clone(),
            router: self.router.clone(),
        };
        send(&mut write, &hello).await?;
        *failures = 0;
        self.state.agent_connected(true);
        tracing::info!(agent = self.agent, "connected to the agent");
        tokio::select! {
            error = self.listen(read) => Err(error),
            error = self.speak(&mut write, changes) => Err(error),
            error = self.lose_patience() => Err(error),
            () = goodbye.cancelled() => {
                send(&mut write, &RouterToAgent::Goodbye).await?;
                write.shutdown().await
            }
        }
    }

    /// Dials the agent, whose name follows from the cluster in the assignment: without one it waits.
    async fn connect(
        &self,
        changes: &mut watch::Receiver<Option<multiactive_core::epoch::Epoch>>,
    ) -> io::Result<PeerStream> {
        let cluster = loop {
            let known = self
                .state
                .view
                .load()
                .compiled
                .as_ref()
                .map(|c| c.declared.cluster.clone());
            match known {
                Some(cluster) => break cluster,
                // The state outlives the link, so a change will come.
                None => changes.changed().await.map_err(io::Error::other)?,
            }
        };
        let name = agent_name(&cluster);
        tokio::time::timeout(CONNECT, self.tls.connect(self.agent.as_str(), &name)).await?
    }

    /// Reads what the agent says; ends with the error that broke the connection.
    async fn listen(&self, mut read: ReadHalf<PeerStream>) -> io::Error {
        let (mut buffer, mut answers) = (Vec::new(), false);
        loop {
            match read.read_buf(&mut buffer).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match read_line::<AgentToRouter>(&line) {
                    Ok(AgentToRouter::Applied(applied)) => {
                        if !answers {
                            // It would have said so first.
                            self.state.lease.forget();
                        }
                        self.state.agent_applied(&applied);
                    }
                    Ok(AgentToRouter::Answers) => {
                        answers = true;
                        self.state.asking.may_be_asked();
                    }
                    Ok(AgentToRouter::Answer { id, answer }) => {
                        if let Some(heard) = self.state.asking.answered(id, answer) {
                            self.state.lease.heard(heard);
                        }
                    }
                    // A later agent may say more than this router understands.
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a line of the agent"),
                }
            }
            if buffer.len() > MAX_LINE {
                return io::Error::other("the agent sent a line without end");
            }
        }
    }

    /// Sees to it that writes do not wait for ever for an agent that is connected and stays behind; ends only with the
    /// state.
    async fn lose_patience(&self) -> io::Error {
        let mut late_at = self.state.agent_late_at();
        loop {
            let late = at(*late_at.borrow_and_update());
            tokio::select! {
                changed = late_at.changed() => if let Err(error) = changed {
                    return io::Error::other(error);
                },
                () = late => {
                    tracing::warn!("the agent is behind for long: databases decide about writes of what this unit serves");
                    self.state.agent_is_late();
                }
            }
        }
    }

    /// Reports at once and at each change, and asks from time to time; ends with the error that broke the connection.
    async fn speak(
        &self,
        write: &mut WriteHalf<PeerStream>,
        changes: &mut watch::Receiver<Option<multiactive_core::epoch::Epoch>>,
    ) -> io::Error {
        let mut last: Option<RouterReport> = None;
        loop {
            let compiled = self.state.view.load().compiled.clone();
            for (id, question) in self.state.asking.due(compiled.as_deref()) {
                if let Err(error) = send(write, &RouterToAgent::Ask { id, question }).await {
                    return error;
                }
            }
            changes.mark_unchanged();
            let (report, less_at) = self.state.report().unzip();
            if let Some(report) = report.filter(|report| is_news(last.as_ref(), report)) {
                if let Err(error) = send(write, &RouterToAgent::Report(report.clone())).await {
                    return error;
                }
                last = Some(report);
            }
            tokio::select! {
                changed = changes.changed() => {
                    if let Err(error) = changed {
                        return io::Error::other(error);
                    }
                }
                () = self.state.flights.news() => {}
                () = at(less_at.flatten()) => {}
                () = self.state.asking.wait(compiled.as_deref()) => {}
            }
        }
    }
}

/// Returns at this moment; never where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Whether the agent must hear it: another table, or writes in flight that came to zero or from it.
fn is_news(last: Option<&RouterReport>, report: &RouterReport) -> bool {
    let Some(last) = last else {
        return true;
    };
    let zeros = |report: &RouterReport| {
        let each = report
            .in_flight
            .iter()
            .map(|count| (count.operation.clone(), count.writes == 0));
        each.collect::<Vec<_>>()
    };
    last.epoch != report.epoch || zeros(last) != zeros(report)
}

async fn send<T: serde::Serialize>(write: &mut WriteHalf<PeerStream>, message: &T) -> io::Result<()> {
    let line = write_line(message).map_err(io::Error::other)?;
    write.write_all(&line).await?;
    write.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::epoch::Epoch;
    use multiactive_core::wire::InFlight;

    #[test]
    fn only_another_table_or_a_change_to_or_from_zero_is_news() {
        let report = |epoch, writes: &[u64]| RouterReport {
            epoch: Epoch::new(1, epoch),
            in_flight: writes
                .iter()
                .map(|writes| InFlight {
                    operation: "op".into(),
                    writes: *writes,
                })
                .collect(),
        };
        for (last, now, want) in [
            (None, report(1, &[]), true),
            (Some(report(1, &[])), report(1, &[]), false),
            (Some(report(1, &[])), report(2, &[]), true),
            (Some(report(2, &[3])), report(2, &[2]), false),
            (Some(report(2, &[2])), report(2, &[0]), true),
            (Some(report(2, &[0])), report(2, &[1]), true),
            (Some(report(2, &[0])), report(2, &[0, 0]), true),
        ] {
            assert_eq!(is_news(last.as_ref(), &now), want, "{last:?} then {now:?}");
        }
    }
}
