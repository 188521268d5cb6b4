//! The agent's end of the protocol.

use super::certificates;
use multiactive_core::epoch::Epoch;
use multiactive_core::wire::{
    AgentToRouter, Answer, Applied, KeyspaceApplied, RouterHello, RouterToAgent, read_line, write_line,
};
use multiactive_runtime::certs::{Ca, TlsFiles};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, split};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub struct Agent {
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<RouterToAgent>>>,
    hellos: Arc<Mutex<Vec<RouterHello>>>,
    applied: watch::Sender<Option<Applied>>,
    left: watch::Sender<Option<u64>>,
    cut: Arc<Mutex<CancellationToken>>,
    _dir: tempfile::TempDir,
}

impl Agent {
    pub async fn start(ca: &Ca, name: &str) -> Self {
        let dir = certificates(ca, name);
        let tls = TlsFiles::open(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = Self {
            addr: listener.local_addr().unwrap(),
            heard: Arc::default(),
            hellos: Arc::default(),
            applied: watch::Sender::new(None),
            left: watch::Sender::new(None),
            cut: Arc::default(),
            _dir: dir,
        };
        let (heard, hellos, applied, left, cut) = (
            agent.heard.clone(),
            agent.hellos.clone(),
            agent.applied.clone(),
            agent.left.clone(),
            agent.cut.clone(),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(stream).await else { continue };
                let (heard, hellos, mut applied) = (heard.clone(), hellos.clone(), applied.subscribe());
                let mut left = left.subscribe();
                left.mark_changed();
                let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
                let cut = cut.lock().unwrap().clone();
                let (read, mut write) = split(stream);
                let reads = async move {
                    let mut lines = BufReader::new(read).lines();
                    let hello = lines.next_line().await.unwrap().unwrap();
                    hellos.lock().unwrap().push(read_line(hello.as_bytes()).unwrap());
                    while let Ok(Some(line)) = lines.next_line().await {
                        match read_line(line.as_bytes()).unwrap() {
                            RouterToAgent::Ask { id, .. } => asks.send(id).unwrap(),
                            said => heard.lock().unwrap().push(said),
                        }
                    }
                };
                let writes = async move {
                    applied.mark_changed();
                    let mut answers = false;
                    loop {
                        let word = tokio::select! {
                            Ok(()) = applied.changed() => {
                                applied.borrow_and_update().clone().map(AgentToRouter::Applied)
                            }
                            Ok(()) = left.changed(), if !answers => {
                                answers = left.borrow_and_update().is_some();
                                answers.then_some(AgentToRouter::Answers)
                            }
                            Some(id) = asked.recv() => left.borrow().map(|left_ms| AgentToRouter::Answer {
                                id,
                                answer: Answer::Lease { left_ms },
                            }),
                            else => return,
                        };
                        let Some(word) = word else { continue };
                        let line = write_line(&word).unwrap();
                        if write.write_all(&line).await.is_err() || write.flush().await.is_err() {
                            return;
                        }
                    }
                };
                tokio::spawn(cut.run_until_cancelled_owned(async {
                    tokio::join!(reads, writes);
                }));
            }
        });
        agent
    }

    /// From now on it answers that the unit's write lease goes on for so many milliseconds; before, it answers nothing.
    pub fn say_left(&self, left_ms: u64) {
        self.left.send_replace(Some(left_ms));
    }

    /// Every store stands at this table.
    pub fn say_applied(&self, epoch: Epoch) {
        let keyspaces = Vec::new();
        self.applied.send_replace(Some(Applied { epoch, keyspaces }));
    }

    /// The stores of one keyspace stand at this table, another store never stood at any.
    pub fn say_applied_to(&self, keyspace: &str, epoch: Epoch) {
        let keyspace = keyspace.into();
        self.applied.send_replace(Some(Applied {
            epoch: Epoch::NEVER,
            keyspaces: vec![KeyspaceApplied { keyspace, epoch }],
        }));
    }

    /// What the router said after its hello.
    pub fn heard(&self) -> Vec<RouterToAgent> {
        self.heard.lock().unwrap().clone()
    }

    pub fn hellos(&self) -> Vec<RouterHello> {
        self.hellos.lock().unwrap().clone()
    }

    /// Cuts the connections that stand.
    pub fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }
}
