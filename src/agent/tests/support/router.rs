//! A router as an agent sees one: a real TLS connection that speaks the wire's lines.

use super::world::World;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::wire::{
    AgentToRouter, Answer, Applied, InFlight, PROTOCOL, Question, RouterHello, RouterReport, RouterToAgent, read_line,
    write_line,
};
use multiactive_runtime::certs::{PeerStream, TlsFiles, agent_name};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

pub struct Router {
    stream: BufReader<PeerStream>,
}

impl Router {
    /// Connects to the agent of a cluster and says hello.
    pub async fn connect(
        tls: &TlsFiles,
        at: SocketAddr,
        cluster: &str,
        hello: &RouterHello,
    ) -> std::io::Result<Router> {
        let stream = tls.connect(at, &agent_name(cluster)).await?;
        let mut router = Router {
            stream: BufReader::new(stream),
        };
        router.send(hello).await?;
        Ok(router)
    }

    /// A router of a unit of the world, named after it.
    pub async fn of(world: &World, at: SocketAddr, unit: &str) -> Router {
        let hello = hello(&world.namespace, unit, &format!("{unit}-router"));
        Router::connect(&world.router_tls(unit), at, unit, &hello)
            .await
            .unwrap()
    }

    async fn send<T: serde::Serialize>(&mut self, word: &T) -> std::io::Result<()> {
        let line = write_line(word).unwrap();
        self.stream.get_mut().write_all(&line).await?;
        self.stream.get_mut().flush().await
    }

    pub async fn report(&mut self, epoch: Epoch, in_flight: &[(&OperationUid, u64)]) {
        let in_flight = in_flight.iter().map(|(uid, writes)| InFlight {
            operation: (*uid).clone(),
            writes: *writes,
        });
        let report = RouterReport {
            epoch,
            in_flight: in_flight.collect(),
        };
        self.send(&RouterToAgent::Report(report)).await.unwrap();
    }

    /// Sends bytes as they are; the other side may close meanwhile.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes).await;
        let _ = self.stream.get_mut().flush().await;
    }

    pub async fn goodbye(mut self) {
        self.send(&RouterToAgent::Goodbye).await.unwrap();
    }

    /// What the agent says next that it has applied; `None` when it closed.
    pub async fn applied(&mut self) -> Option<Applied> {
        loop {
            match self.word().await? {
                AgentToRouter::Applied(applied) => return Some(applied),
                AgentToRouter::Answers | AgentToRouter::Answer { .. } => {}
            }
        }
    }

    /// What the agent says next; `None` when it closed.
    pub async fn word(&mut self) -> Option<AgentToRouter> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await.unwrap_or(0);
        (read > 0).then(|| read_line(&line).unwrap())
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&mut self, question: Question) -> Answer {
        let asked = 7;
        self.send(&RouterToAgent::Ask { id: asked, question }).await.unwrap();
        loop {
            match self.word().await.expect("the agent closed") {
                AgentToRouter::Answer { id, answer } if id == asked => return answer,
                AgentToRouter::Answer { .. } | AgentToRouter::Answers | AgentToRouter::Applied(_) => {}
            }
        }
    }

    /// The next epoch that the agent says it has applied in all stores; `None` when it closed.
    pub async fn told(&mut self) -> Option<Epoch> {
        Some(self.applied().await?.epoch)
    }

    /// Listens until that epoch.
    pub async fn told_of(&mut self, epoch: Epoch) {
        self.applied_when(|told| told.epoch >= epoch).await;
    }

    /// Listens until the agent says such a word.
    pub async fn applied_when(&mut self, is: impl Fn(&Applied) -> bool) -> Applied {
        let told = async {
            loop {
                let told = self.applied().await.expect("the agent closed");
                if is(&told) {
                    return told;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), told)
            .await
            .expect("Applied")
    }
}

pub fn hello(namespace: &str, unit: &str, router: &str) -> RouterHello {
    RouterHello {
        protocol: PROTOCOL,
        namespace: namespace.to_owned(),
        unit: unit.to_owned(),
        router: router.to_owned(),
    }
}
