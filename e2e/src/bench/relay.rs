//! Stands between the routers of a region and their agent, passes on every byte, and notes when a router said by which
//! table it routes: the moment itself, where a probe of `/metrics` would only come near it.

use crate::install::AGENT_PORT;
use crate::region::{NAMESPACE, Region, SYSTEM};
use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use multiactive_core::epoch::Epoch;
use multiactive_core::wire::{RouterToAgent, read_line};
use multiactive_runtime::certs::{PeerStream, TlsFiles, agent_name};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Where it listens, on the region's address.
pub const PORT: u16 = 19_444;

/// A router's word: from then on it routes by the table of this epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The unit of the router.
    pub unit: String,
    /// The table.
    pub epoch: Epoch,
    /// When it was heard.
    pub at: Timestamp,
}

/// All words so far.
#[derive(Clone, Debug)]
pub struct Words {
    all: Arc<Mutex<Vec<Word>>>,
    count: watch::Sender<usize>,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            all: Arc::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Words {
    fn add(&self, word: Word) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(word);
        self.count.send_modify(|count| *count += 1);
    }

    /// When the router of `unit` was first heard to route by a table of `epoch` or later.
    pub fn first(&self, unit: &str, epoch: Epoch) -> Option<Timestamp> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_unit = all.iter().filter(|word| word.unit == unit && word.epoch >= epoch);
        of_unit.next().map(|word| word.at)
    }

    /// Waits until the routers of all these units route by a table of `epoch` or later; when the last came.
    pub async fn last_of(&self, units: &[String], epoch: Epoch) -> Timestamp {
        let mut heard = self.count.subscribe();
        loop {
            heard.mark_unchanged();
            let times: Option<Vec<_>> = units.iter().map(|unit| self.first(unit, epoch)).collect();
            if let Some(last) = times.and_then(|times| times.into_iter().max()) {
                return last;
            }
            // The sender lives in `self`.
            let _ = heard.changed().await;
        }
    }
}

/// A relay at work; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay(AbortHandle);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Relay {
    /// Listens on the region's address, with the certificates of its agent and of its routers, kept below `dir`.
    ///
    /// # Errors
    ///
    /// Where certificates are missing or the port is taken.
    pub async fn start(region: &Region, dir: &Path, words: &Words) -> Result<Self> {
        let client = region.client().await?;
        let ends = Arc::new(Ends {
            as_agent: tls(&client, SYSTEM, "multiactive-agent-tls", dir).await?,
            as_router: tls(&client, NAMESPACE, &format!("{}-router-tls", region.unit()), dir).await?,
            agent: format!("{}:{AGENT_PORT}", region.address),
            name: agent_name(&region.name),
            unit: region.unit(),
            words: words.clone(),
        });
        let listener = TcpListener::bind((region.address, PORT)).await?;
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let ends = Arc::clone(&ends);
                // One that breaks is made again by its router.
                connections.spawn(async move { ends.pass(stream).await });
            }
        });
        Ok(Self(task.abort_handle()))
    }
}

async fn tls(client: &kube::Client, namespace: &str, name: &str, dir: &Path) -> Result<TlsFiles> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace)
        .get(name)
        .await
        .with_context(|| format!("Secret {namespace}/{name}"))?;
    let folder: PathBuf = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    for (key, value) in secret.data.unwrap_or_default() {
        std::fs::write(folder.join(key), value.0)?;
    }
    Ok(TlsFiles::open(folder)?)
}

struct Ends {
    as_agent: TlsFiles,
    as_router: TlsFiles,
    agent: String,
    name: String,
    unit: String,
    words: Words,
}

impl Ends {
    async fn pass(&self, stream: TcpStream) -> Result<()> {
        let router = self.as_agent.accept(stream).await?;
        let agent: PeerStream = self.as_router.connect(self.agent.as_str(), &self.name).await?;
        let (from_router, to_router) = split(router);
        let (from_agent, to_agent) = split(agent);
        // Where one side ends, so does the other: the router's end of a connection is the agent's.
        tokio::select! {
            ended = copy(from_router, to_agent, |line| self.hear(line)) => ended,
            ended = copy(from_agent, to_router, |_| {}) => ended,
        }
    }

    fn hear(&self, line: &[u8]) {
        let at = Timestamp::now();
        // The hello is another message.
        if let Ok(RouterToAgent::Report(report)) = read_line(line) {
            self.words.add(Word {
                unit: self.unit.clone(),
                epoch: report.epoch,
                at,
            });
        }
    }
}

/// Passes on whole lines until the end; each is heard before it goes on.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut hear: impl FnMut(&[u8]),
) -> Result<()> {
    let mut buffer = Vec::new();
    while from.read_buf(&mut buffer).await? > 0 {
        let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let lines: Vec<u8> = buffer.drain(..=end).collect();
        lines.split_inclusive(|byte| *byte == b'\n').for_each(&mut hear);
        to.write_all(&lines).await?;
        to.flush().await?;
    }
    Ok(to.shutdown().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_pass_whole_and_are_heard_in_order() {
        let (mut source, from) = tokio::io::duplex(64);
        let (to, mut sink) = tokio::io::duplex(64);
        let mut heard = Vec::new();
        let pass = copy(from, to, |line| heard.push(line.to_vec()));
        let feed = async {
            for part in [&b"one\ntw"[..], b"o\nthree\n"] {
                source.write_all(part).await.unwrap();
            }
            drop(source);
            let mut all = String::new();
            sink.read_to_string(&mut all).await.unwrap();
            all
        };
        let (passed, all) = tokio::join!(pass, feed);
        passed.unwrap();
        assert_eq!(all, "one\ntwo\nthree\n");
        assert_eq!(heard, [&b"one\n"[..], b"two\n", b"three\n"]);
    }

    #[tokio::test]
    async fn the_last_router_counts_and_a_later_table_will_do() {
        let words = Words::default();
        let units = ["a".to_owned(), "b".to_owned()];
        let word = |unit: &str, epoch, second| Word {
            unit: unit.to_owned(),
            epoch: Epoch::new(1, epoch),
            at: Timestamp::from_second(second).unwrap(),
        };
        words.add(word("a", 7, 1));
        words.add(word("b", 6, 2));
        assert_eq!(words.first("b", Epoch::new(1, 7)), None);
        let wait = words.last_of(&units, Epoch::new(1, 7));
        let tell = async { words.add(word("b", 9, 5)) };
        let (last, ()) = tokio::join!(wait, tell);
        assert_eq!(last, Timestamp::from_second(5).unwrap());
    }
}
