//! The agent's end of the protocol.

use super::certificates;
use multiactive_core::epoch::Epoch;
use multiactive_core::wire::{
    AgentToRouter, Answer, Applied, Caught, KeyspaceApplied, Question, RouterHello, RouterToAgent, read_line,
    write_line,
};
use multiactive_runtime::certs::{Ca, TlsFiles};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, split};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub struct Agent {
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<RouterToAgent>>>,
    hellos: Arc<Mutex<Vec<RouterHello>>>,
    applied: watch::Sender<Option<Applied>>,
    words: watch::Sender<Option<Words>>,
    answered: Arc<AtomicUsize>,
    cut: Arc<Mutex<CancellationToken>>,
    _dir: tempfile::TempDir,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Words {
    /// `None` while it does not know yet.
    pub left_ms: Option<u64>,
    pub place: Option<String>,
    /// Whether all is there that was committed when it is asked, and up to a place.
    pub caught_up: Caught,
    pub shows: Caught,
    /// How long it takes to answer.
    pub takes: Duration,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            left_ms: Some(3_600_000),
            place: None,
            caught_up: Caught::No,
            shows: Caught::No,
            takes: Duration::ZERO,
        }
    }
}

impl Words {
    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Lease => Answer::Lease { left_ms: self.left_ms },
            Question::Place { .. } => Answer::Place {
                place: self.place.clone(),
            },
            Question::CaughtUp { place, .. } => Answer::CaughtUp {
                caught: if place.is_some() { self.shows } else { self.caught_up },
            },
            Question::Unknown => unreachable!("a question of nobody"),
        }
    }
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
            words: watch::Sender::new(None),
            answered: Arc::default(),
            cut: Arc::default(),
            _dir: dir,
        };
        let (heard, hellos, applied, words, answered, cut) = (
            agent.heard.clone(),
            agent.hellos.clone(),
            agent.applied.clone(),
            agent.words.clone(),
            agent.answered.clone(),
            agent.cut.clone(),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(stream).await else { continue };
                let (heard, hellos, mut applied) = (heard.clone(), hellos.clone(), applied.subscribe());
                let (mut words, answered) = (words.subscribe(), answered.clone());
                words.mark_changed();
                let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
                let cut = cut.lock().unwrap().clone();
                let (read, mut write) = split(stream);
                let reads = async move {
                    let mut lines = BufReader::new(read).lines();
                    let hello = lines.next_line().await.unwrap().unwrap();
                    hellos.lock().unwrap().push(read_line(hello.as_bytes()).unwrap());
                    while let Ok(Some(line)) = lines.next_line().await {
                        match read_line(line.as_bytes()).unwrap() {
                            RouterToAgent::Ask { id, question } => asks.send((id, question)).unwrap(),
                            said @ (RouterToAgent::Report(_) | RouterToAgent::Goodbye) => {
                                heard.lock().unwrap().push(said)
                            }
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
                            Ok(()) = words.changed(), if !answers => {
                                answers = words.borrow_and_update().is_some();
                                answers.then_some(AgentToRouter::Answers)
                            }
                            Some((id, question)) = asked.recv() => {
                                let takes = words.borrow().as_ref().map_or(Duration::ZERO, |words| words.takes);
                                tokio::time::sleep(takes).await;
                                answered.fetch_add(1, Ordering::SeqCst);
                                let answer = words.borrow().as_ref().map(|words| words.answer(&question));
                                answer.map(|answer| AgentToRouter::Answer { id, answer })
                            }
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
        self.say(|words| words.left_ms = Some(left_ms));
    }

    /// From now on it is one of an older version, to whoever connects.
    pub fn says_nothing(&self) {
        self.words.send_replace(None);
    }

    /// How many questions it has answered, or is about to.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// From now on it answers questions, as changed here.
    pub fn say(&self, with: impl FnOnce(&mut Words)) {
        self.words.send_modify(|words| with(words.get_or_insert_default()));
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
